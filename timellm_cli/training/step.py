"""One step: forward, loss, backward, and every `accumulate` steps a change of the weights."""

import math
from collections.abc import Mapping

import torch
from accelerate import Accelerator
from torch import Tensor

from timellm_cli.config import TrainConfig
from timellm_cli.model.batch import Batch
from timellm_cli.model.forecaster import TimeLLM
from timellm_cli.training.optim import LOSSES, Schedule, make_optimizer, set_rates


class NotFiniteError(Exception):
    """The loss is no finite number. `samples` are the batch's positions whose forecasts or futures are to blame."""

    def __init__(self, loss: float, samples: list[int]) -> None:
        super().__init__(f"loss {loss}")
        self.loss, self.samples = loss, samples


class Stepper:
    """Owns the optimizer. `weights` are the trainable parameters by name."""

    def __init__(self, train: TrainConfig, schedule: Schedule, forecaster: TimeLLM, accelerator: Accelerator) -> None:
        self.weights = forecaster.trainable_weights()
        optimizer = make_optimizer(train, self.weights.values(), accelerator.device)
        # The forecaster is on its device already, and parts of it may stay elsewhere on purpose.
        self.optimizer = accelerator.prepare_optimizer(optimizer, device_placement=False)
        self._model = accelerator.prepare_model(forecaster, device_placement=False)
        self._forecaster, self._accelerator, self._schedule = forecaster, accelerator, schedule
        self._loss, self._clip = LOSSES[train.loss], train.clip

    def take(self, batch: Batch, update: int, share: float, completes: bool, wants_stop: bool) -> tuple[float, bool]:
        """Returns the loss, in standardised units, and whether any process wants to stop.

        The step belongs to weight update number `update` with weight `share`; `completes` it if it is its last.
        Raises NotFiniteError, before any weight has changed, where the loss is no finite number.
        """
        batch = self._forecaster.upload(batch)
        forecast_BH = self._model(batch.history_BT, batch.prompt)
        loss = self._loss(forecast_BH, batch.future_BH)
        told = torch.stack([loss.detach(), loss.new_tensor(float(wants_stop))])
        value, stop = self._accelerator.reduce(told, "mean").tolist()
        if not math.isfinite(value):
            error_B = (forecast_BH - batch.future_BH).abs().sum(dim=1)
            raise NotFiniteError(value, (~error_B.isfinite()).nonzero().flatten().tolist())
        # Gradients are averaged over the processes at every step, not only at the last one of an update: they are a few
        # MB, and so they are the same everywhere when a checkpoint keeps them.
        self._accelerator.backward(loss * share)
        if completes:
            self._change_weights(update)
        return value, stop > 0

    def _change_weights(self, update: int) -> None:
        if self._clip:
            self._accelerator.clip_grad_norm_(self.weights.values(), self._clip)
        set_rates(self.optimizer, self._schedule.learning_rate(update), self._schedule.beta1(update))
        self.optimizer.step()
        self.optimizer.zero_grad()

    def weights_are_finite(self) -> bool:
        """Whether the weights are worth keeping."""
        return all(bool(weight.isfinite().all()) for weight in self.weights.values())

    def gradients(self) -> dict[str, Tensor]:
        """The gradients of an update begun, by parameter name; empty between updates."""
        return {name: weight.grad.detach().cpu() for name, weight in self.weights.items() if weight.grad is not None}

    def load_gradients(self, gradients: Mapping[str, Tensor]) -> None:
        """Put back what `gradients()` gave."""
        for name, gradient in gradients.items():
            self.weights[name].grad = gradient.to(self.weights[name].device, copy=True)
