"""One step: forward, loss, backward, and every `accumulate` steps a change of the weights."""

import math
from collections.abc import Callable, Mapping

import torch
from accelerate import Accelerator
from torch import Tensor

from timellm_cli.config import TrainConfig
from timellm_cli.model.batch import Batch
from timellm_cli.model.captured import Captured
from timellm_cli.model.forecaster import Constants, TimeLLM
from timellm_cli.model.tokens import PromptTokens
from timellm_cli.training.optim import LOSSES, Schedule, make_optimizer, set_rates


class NotFiniteError(Exception):
    """The loss is no finite number. `samples` are the batch's positions whose forecasts or futures are to blame."""

    def __init__(self, loss: float, samples: list[int]) -> None:
        super().__init__(f"loss {loss}")
        self.loss, self.samples = loss, samples


class Stepper:
    """Owns the optimizer. `weights` are the trainable parameters by name.

    Where the model can be captured, forward and backward are one CUDA graph, which adds to gradients that stay where
    they are. The optimizer is outside of it, so any optimizer, gradient scaler and number of accumulated steps will do.
    """

    def __init__(self, train: TrainConfig, schedule: Schedule, forecaster: TimeLLM, accelerator: Accelerator) -> None:
        self.weights = forecaster.trainable_weights()
        optimizer = make_optimizer(train, self.weights.values(), accelerator.device)
        # The forecaster is on its device already, and parts of it may stay elsewhere on purpose.
        self.optimizer = accelerator.prepare_optimizer(optimizer, device_placement=False)
        self._model = accelerator.prepare_model(forecaster, device_placement=False)
        self._forecaster, self._accelerator, self._schedule = forecaster, accelerator, schedule
        self._loss, self._clip = LOSSES[train.loss], train.clip
        self._captured = None
        if forecaster.captures and accelerator.num_processes == 1:
            self._captured = Captured(self._forward_and_backward, accelerator.device, self._rehearse)
        self._between_updates = True
        self.gpu_time = GpuTime(accelerator.device)

    def take(self, batch: Batch, update: int, share: float, completes: bool, wants_stop: bool) -> tuple[float, bool]:
        """Returns the loss, in standardised units, and whether any process wants to stop.

        The step belongs to weight update number `update` with weight `share`; `completes` it if it is its last.
        Raises NotFiniteError, before any weight has changed, where the loss is no finite number.
        """
        inputs = (batch.history_BT, batch.future_BH, *batch.prompt.tensors, torch.tensor(share))
        self._forecaster.backbone.admit(batch.prompt)
        with self.gpu_time:
            if self._captured:
                loss, forecast_BH = self._captured(self._forecaster.constants_of(batch.prompt), inputs)
            else:
                on_device = [tensor.to(self._accelerator.device, non_blocking=True) for tensor in inputs]
                constants = self._forecaster.constants_of(batch.prompt)
                loss, forecast_BH = self._forward_and_backward(constants, *on_device)
        self._between_updates = False
        told = torch.stack([loss, loss.new_tensor(float(wants_stop))])
        value, stop = self._accelerator.reduce(told, "mean").tolist()
        if not math.isfinite(value):
            error_B = (forecast_BH - batch.future_BH.to(forecast_BH.device)).abs().sum(dim=1)
            raise NotFiniteError(value, (~error_B.isfinite()).nonzero().flatten().tolist())
        if completes:
            self._change_weights(update)
        return value, stop > 0

    def _forward_and_backward(
        self,
        constants: Constants,
        history_BT: Tensor,
        future_BH: Tensor,
        ids_BK: Tensor,
        mask_BK: Tensor,
        share: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Loss and forecast; `share` of the loss's gradient is added to what the weights have gathered."""
        forecast_BH = self._model(history_BT, PromptTokens(ids_BK, mask_BK, constants.head))
        loss = self._loss(forecast_BH, future_BH)
        # Gradients are averaged over the processes at every step, not only at the last one of an update: they are a few
        # MB, and so they are the same everywhere when a checkpoint keeps them.
        self._accelerator.backward(loss * share)
        return loss.detach(), forecast_BH.detach()

    def _rehearse(self, call: Callable[[], object]) -> None:
        """Run a step and take back what it did: to the gradients, which it may create, and to the random numbers."""
        gathered = self.gradients()
        random_state = torch.cuda.get_rng_state(self._accelerator.device)
        call()
        torch.cuda.set_rng_state(random_state, self._accelerator.device)
        for weight in self.weights.values():
            assert weight.grad is not None
            weight.grad.zero_()
        self.load_gradients(gathered)

    def _change_weights(self, update: int) -> None:
        if self._clip:
            self._accelerator.clip_grad_norm_(self.weights.values(), self._clip)
        set_rates(self.optimizer, self._schedule.learning_rate(update), self._schedule.beta1(update))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=self._captured is None)
        self._between_updates = True

    def weights_are_finite(self) -> bool:
        """Whether the weights are worth keeping."""
        return all(bool(weight.isfinite().all()) for weight in self.weights.values())

    def gradients(self) -> dict[str, Tensor]:
        """The gradients of an update begun, by parameter name; empty between updates."""
        if self._between_updates:
            return {}
        return {name: weight.grad.detach().cpu() for name, weight in self.weights.items() if weight.grad is not None}

    def load_gradients(self, gradients: Mapping[str, Tensor]) -> None:
        """Put back what `gradients()` gave."""
        for name, gradient in gradients.items():
            weight = self.weights[name]
            if weight.grad is None:
                weight.grad = torch.empty_like(weight)
            weight.grad.copy_(gradient)
        self._between_updates = not gradients


class GpuTime:
    """Seconds from the first to the last operation of each step on the GPU; nothing where there is none.

    A recorded step leaves no gaps, so against the time that passed this is the share in which the GPU computes.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._running: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._seconds = 0.0

    def __enter__(self) -> None:
        if self._on_gpu:
            self._start = torch.cuda.Event(enable_timing=True)
            self._start.record()

    def __exit__(self, *_: object) -> None:
        if self._on_gpu:
            end = torch.cuda.Event(enable_timing=True)
            end.record()
            self._running.append((self._start, end))

    def take(self) -> float:
        """The seconds since the last call, of steps whose loss has been read."""
        seconds = sum(start.elapsed_time(end) for start, end in self._running) / 1000
        self._running.clear()
        return seconds
