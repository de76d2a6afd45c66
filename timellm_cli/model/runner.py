"""A GPU whose memory did not do: how that shows, and what can be let go of.

A trained model as a forecaster: windows in, standardised forecasts out.

The forecast after a history, as long as is wanted.
"""

import gc
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from timellm_cli.data.batch import PromptTokens
from timellm_cli.data.scale import Floats
from timellm_cli.data.windows import Window
from timellm_cli.model.cuda_graphs import Captured, forget_recordings
from timellm_cli.model.load import Constants, TimeLLM
from timellm_cli.model.prompt_tokens import Collate

_SIGNS = ("out of memory", "ALLOC_FAILED")
"""What CUDA and its libraries say where torch's allocator is not the one that fails."""


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error is of memory that is short, or came of one: recording a graph may end in another one."""
    while error is not None:
        if isinstance(error, torch.OutOfMemoryError):
            return True
        if isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS):
            return True
        error = error.__context__
    return False


def free_gpu_memory() -> None:
    """Give back all that torch holds and does not need: recordings can be made again. To be called outside `except`,
    as an error holds the tensors of the functions it went through.
    """
    forget_recordings()
    gc.collect()
    torch.cuda.empty_cache()


class ModelForecaster:
    """Makes batches of windows and runs the model on them.

    Puts the model into `eval()`: dropout is off then, until a training loop calls `train()` again.

    `at_a_time` is set once a GPU's memory did not do for a batch: from then on so many windows go at a time, which
    changes no forecast.
    """

    def __init__(self, model: TimeLLM, device: torch.device) -> None:
        self._model, self._device = model, device
        self._collate = Collate(model.encoder)
        self._captured = Captured(self._forecast, device) if model.captures else None
        self._rows = 0
        self.at_a_time: int | None = None

    def __call__(self, windows: Sequence[Window]) -> Tensor:
        """Forecasts (B, H) in standardised units. Raises what a GPU raises that is too small for one window."""
        self._model.eval()
        while True:
            at_a_time = min(self.at_a_time or len(windows), len(windows))
            try:
                return self._in_pieces(windows, at_a_time)
            except RuntimeError as error:
                if (at_a_time == 1 and self._captured is None) or not is_out_of_memory(error):
                    raise
            if at_a_time == 1:  # what cannot be recorded may still be launched
                self._captured = None
            self.at_a_time, self._rows = -(-at_a_time // 2), 0
            free_gpu_memory()

    def _in_pieces(self, windows: Sequence[Window], at_a_time: int) -> Tensor:
        if at_a_time == len(windows):
            return self._forecast_batch(windows)
        starts = range(0, len(windows), at_a_time)
        # A recording's own output holds until the next piece.
        return torch.cat([self._forecast_batch(windows[start : start + at_a_time]).clone() for start in starts])

    def _forecast_batch(self, windows: Sequence[Window]) -> Tensor:
        # A recording is of one batch size: a last, short batch is filled up with copies of its last window.
        self._rows = max(self._rows, len(windows)) if self._captured else len(windows)
        batch = self._collate([*windows, *[windows[-1]] * (self._rows - len(windows))])
        self._model.backbone.admit(batch.prompt)
        constants, inputs = self._model.constants_of(batch.prompt), (batch.history_BT, *batch.prompt.tensors)
        if self._captured:
            (forecast_BH,) = self._captured(constants, inputs)
        else:
            (forecast_BH,) = self._forecast(constants, *(tensor.to(self._device) for tensor in inputs))
        return forecast_BH[: len(windows)]

    def _forecast(self, constants: Constants, history_BT: Tensor, ids_BK: Tensor, mask_BK: Tensor) -> tuple[Tensor]:
        with torch.no_grad():
            return (self._model(history_BT, PromptTokens(ids_BK, mask_BK, constants.head)),)


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
