"""A trained model as a forecaster: windows in, standardised forecasts out."""

from collections.abc import Sequence

import torch
from torch import Tensor

from timellm_cli.data.windows import Window
from timellm_cli.model.batch import Collate
from timellm_cli.model.captured import Captured
from timellm_cli.model.forecaster import Constants, TimeLLM
from timellm_cli.model.gpu_memory import free_gpu_memory, is_out_of_memory
from timellm_cli.model.tokens import PromptTokens


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
