"""The forecast after a history, as long as is wanted."""

import numpy as np
import torch
from torch import Tensor

from timellm_cli.data.scale import Floats
from timellm_cli.model.forecaster import TimeLLM


def roll_forward(model: TimeLLM, history_TC: Floats, steps: int, device: torch.device, batch_size: int = 32) -> Floats:
    """Forecast `steps` rows (steps, C) after the last `seq_len` rows, all standardised.

    Each channel by itself, `batch_size` of them at a time, which changes no figure. Beyond `pred_len` the model reads
    its own forecasts as if they had happened. Puts the model into `eval()`.
    """
    model.eval()
    seq_len = model.window.seq_len
    known_CT = torch.from_numpy(history_TC[-seq_len:].T.astype(np.float32))
    with torch.inference_mode():
        while known_CT.shape[1] < seq_len + steps:
            histories = known_CT[:, -seq_len:].contiguous().split(batch_size)
            forecast_CH = torch.cat([_forecast(model, history_BT, device) for history_BT in histories])
            known_CT = torch.cat([known_CT, forecast_CH], dim=1)
    return known_CT[:, seq_len : seq_len + steps].T.double().numpy()


def _forecast(model: TimeLLM, history_BT: Tensor, device: torch.device) -> Tensor:
    prompt = model.encoder.encode(history_BT)
    model.backbone.admit(prompt)
    forecast_BH: Tensor = model(history_BT.to(device), prompt.to(device))
    return forecast_BH.cpu()
