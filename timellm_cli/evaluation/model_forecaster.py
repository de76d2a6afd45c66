"""A trained model as a forecaster: windows in, standardised forecasts out."""

from collections.abc import Sequence

import torch
from torch import Tensor

from timellm_cli.data.windows import Window
from timellm_cli.model.batch import Collate
from timellm_cli.model.captured import Captured
from timellm_cli.model.forecaster import Constants, TimeLLM
from timellm_cli.model.tokens import PromptTokens


class ModelForecaster:
    """Makes batches of windows and runs the model on them.

    Puts the model into `eval()`: dropout is off then, until a training loop calls `train()` again.
    """

    def __init__(self, model: TimeLLM, device: torch.device) -> None:
        self._model, self._device = model, device
        self._collate = Collate(model.encoder)
        self._captured = Captured(self._forecast, device) if model.captures else None
        self._rows = 0

    def __call__(self, windows: Sequence[Window]) -> Tensor:
        """Forecasts (B, H) in standardised units."""
        self._model.eval()
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
