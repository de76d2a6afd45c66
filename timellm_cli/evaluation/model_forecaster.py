"""A trained model as a forecaster: windows in, standardised forecasts out."""

from collections.abc import Sequence

import torch
from torch import Tensor

from timellm_cli.data.windows import Window
from timellm_cli.model.batch import Collate
from timellm_cli.model.forecaster import TimeLLM


class ModelForecaster:
    """Makes batches of windows and runs the model on them.

    Puts the model into `eval()`: dropout is off from here on, until a training loop calls `train()` again.
    """

    def __init__(self, model: TimeLLM, device: torch.device) -> None:
        self._model = model.eval()
        self._collate = Collate(model.encoder)
        self._device = device

    def __call__(self, windows: Sequence[Window]) -> Tensor:
        """Forecasts (B, H) in standardised units."""
        batch = self._model.upload(self._collate(list(windows)))
        forecast_BH: Tensor = self._model(batch.history_BT, batch.prompt)
        return forecast_BH
