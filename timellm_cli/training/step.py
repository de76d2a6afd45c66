"""One step: forward, loss, backward, and every `accumulate` steps a change of the weights."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from timellm_cli.config import TrainConfig
from timellm_cli.data.batch import Batch, PromptTokens
from timellm_cli.model.cuda_graphs import Captured
from timellm_cli.model.load import Constants, TimeLLM
from timellm_cli.model.runner import free_gpu_memory, is_out_of_memory
from timellm_cli.model.time_llm import normalise
from timellm_cli.training.checkpoint import TrainingState
from timellm_cli.training.measure import GpuTime
from timellm_cli.training.optimizer import LOSSES, Schedule, WeightAverage, make_optimizer, set_rates

_LEAST_UNIT = 0.1
"""In window units, a history that hardly moves counts as if its deviation were this, lest it outweigh all others."""


class NotFiniteError(Exception):
    """The loss is no finite number. `samples` are the batch's positions whose forecasts or futures are to blame."""

    def __init__(self, loss: float, samples: list[int]) -> None:
        super().__init__(f"loss {loss}")
        self.loss, self.samples = loss, samples


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a step that was started tells once it is done. `wants_stop`: a process wants the run to end here.

    `cut_to` is set where the GPU's memory did not do and the step was repeated: from then on so many samples at a time.
    """

    told: Tensor
    wants_stop: bool
    known: torch.cuda.Event | None
    cut_to: int | None

    def loss(self) -> float:
        """The loss in standardised units; waits for the GPU. Raises NotFiniteError where it is no finite number."""
        if self.known is not None:
            self.known.synchronize()
        loss, *faulty_B = self.told.tolist()
        if not math.isfinite(loss):
            raise NotFiniteError(loss, [place for place, faulty in enumerate(faulty_B) if faulty])
        return float(loss)


class Stepper:
    """Owns the optimizer. `weights` are the trainable parameters by name.

    `runs_ahead` says that a step should be started before the last one's loss is asked for: so the GPU never waits.

    Where the model can be captured, forward and backward are one CUDA graph, which adds to gradients that stay where
    they are. The optimizer is outside of it, so any optimizer, gradient scaler and number of accumulated steps will do.

    Where the GPU's memory does not do, since another program took of it, a step is repeated in halves, whose gradients
    add up to the same: batches, order and updates stay as they are. (Processes that share a batch cannot do that.)
    """

    def __init__(self, train: TrainConfig, schedule: Schedule, forecaster: TimeLLM, accelerator: Accelerator) -> None:
        self.weights = forecaster.trainable_weights()
        optimizer = make_optimizer(train, self.weights.values(), accelerator.device)
        # The forecaster is on its device already, and parts of it may stay elsewhere on purpose.
        self.optimizer = accelerator.prepare_optimizer(optimizer, device_placement=False)
        self._model = accelerator.prepare_model(forecaster, device_placement=False)
        self._forecaster, self._accelerator, self._schedule = forecaster, accelerator, schedule
        self._loss, self._clip = LOSSES[train.loss], train.clip
        self._in_window_units = train.loss_units == "window"
        self._captured: Captured | None = None
        if forecaster.captures and accelerator.num_processes == 1:
            self._captured = Captured(self._forward_and_backward, accelerator.device, self._rehearse)
        self._average = WeightAverage(self.weights) if train.average else None
        self._between_updates = True
        self._at_a_time: int | None = None
        self.runs_ahead = accelerator.device.type == "cuda" and accelerator.num_processes == 1
        self.gpu_time = GpuTime(accelerator.device)

    def launch(self, batch: Batch, update: int, share: float, completes: bool, wants_stop: bool) -> Outcome:
        """Start a step; on a GPU it may still be running on return.

        The step belongs to weight update number `update` with weight `share`; `completes` it if it is its last.
        """
        inputs = (batch.history_BT, batch.future_BH, *batch.prompt.tensors)
        self._forecaster.backbone.admit(batch.prompt)
        constants = self._forecaster.constants_of(batch.prompt)
        with self.gpu_time:
            before = self._at_a_time
            told = self._gather(constants, inputs, share)
            outcome = self._outcome(told, wants_stop, self._at_a_time if self._at_a_time != before else None)
            if completes:
                self._change_weights(update)
        return outcome

    def _gather(self, constants: Constants, inputs: Sequence[Tensor], share: float) -> Tensor:
        """A step in as few pieces as memory allows. Raises what a GPU raises that is too small for one sample.

        Where one sample cannot be recorded it may still be launched: the allocator can then join what has gaps.
        """
        gathered = {} if self._between_updates else self._copied_gradients()
        while True:
            at_a_time = min(self._at_a_time or len(inputs[0]), len(inputs[0]))
            try:
                return self._in_pieces(constants, inputs, share, at_a_time)
            except RuntimeError as error:
                smallest = at_a_time == 1 and self._captured is None
                if smallest or self._accelerator.num_processes > 1 or not is_out_of_memory(error):
                    raise
            if at_a_time == 1:
                self._captured = None
            self._at_a_time = -(-at_a_time // 2)
            free_gpu_memory()
            self._take_back(gathered)

    def _in_pieces(self, constants: Constants, inputs: Sequence[Tensor], share: float, at_a_time: int) -> Tensor:
        """What `_forward_and_backward` tells of the whole, from so many samples at a time."""
        rows, told = len(inputs[0]), []
        for pieces in zip(*(tensor.split(at_a_time) for tensor in inputs), strict=True):
            part = len(pieces[0]) / rows
            told.append(self._run(constants, (*pieces, torch.tensor(part * share))))
            self._between_updates = False
            if part == 1:
                return told[0]
            told[-1] = torch.cat([part * told[-1][:1], told[-1][1:]])  # a recording's own holds until the next piece
        losses, faulty_B = torch.stack([piece[0] for piece in told]), torch.cat([piece[1:] for piece in told])
        return torch.cat([losses.sum(dim=0, keepdim=True), faulty_B])

    def _run(self, constants: Constants, inputs: Sequence[Tensor]) -> Tensor:
        if self._captured:
            return self._captured(constants, inputs)[0]
        device = self._accelerator.device
        return self._forward_and_backward(constants, *(tensor.to(device, non_blocking=True) for tensor in inputs))[0]

    def _outcome(self, told: Tensor, wants_stop: bool, cut_to: int | None) -> Outcome:
        if self._accelerator.num_processes > 1:
            agreed = torch.stack([told[0], told.new_tensor(float(wants_stop))])
            loss, stop = self._accelerator.reduce(agreed, "mean").tolist()
            return Outcome(torch.cat([told.new_tensor([loss]), told[1:]]).cpu(), stop > 0, None, cut_to)
        if told.device.type != "cuda":
            return Outcome(told, wants_stop, None, cut_to)
        on_cpu = torch.empty(told.shape, pin_memory=True).copy_(told, non_blocking=True)
        known = torch.cuda.Event()
        known.record()
        return Outcome(on_cpu, wants_stop, known, cut_to)

    def _forward_and_backward(
        self,
        constants: Constants,
        history_BT: Tensor,
        future_BH: Tensor,
        ids_BK: Tensor,
        mask_BK: Tensor,
        share: Tensor,
    ) -> tuple[Tensor]:
        """The loss, and of each sample whether its error is no finite number (1) or is (0), in one tensor of 1 + B.

        The loss is in standardised units, in whatever units it is minimised. `share` of the gradient is added to what
        the weights have gathered.
        """
        forecast_BH = self._model(history_BT, PromptTokens(ids_BK, mask_BK, constants.head))
        loss = self._loss(forecast_BH, future_BH)
        minimised = loss
        if self._in_window_units:
            unit_B1 = normalise(history_BT)[1].std_B1.clamp_min(_LEAST_UNIT)
            minimised = self._loss(forecast_BH / unit_B1, future_BH / unit_B1)
        # Gradients are averaged over the processes at every step, not only at the last one of an update: they are a few
        # MB, and so they are the same everywhere when a checkpoint keeps them.
        self._accelerator.backward(minimised * share)
        with torch.no_grad():
            faulty_B = (~(forecast_BH - future_BH).isfinite().all(dim=1)).to(loss.dtype)
            return (torch.cat([loss.unsqueeze(0), faulty_B]),)

    def _rehearse(self, call: Callable[[], object]) -> None:
        """Run a step and take back what it did: to the gradients, which it may create, and to the random numbers."""
        gathered = self.gradients()
        random_state = torch.cuda.get_rng_state(self._accelerator.device)
        call()
        torch.cuda.set_rng_state(random_state, self._accelerator.device)
        self._take_back(gathered)

    def _change_weights(self, update: int) -> None:
        if self._clip:
            self._accelerator.clip_grad_norm_(self.weights.values(), self._clip)
        set_rates(self.optimizer, self._schedule.learning_rate(update), self._schedule.beta1(update))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=self._captured is None)
        if self._average:
            self._average.take_in(update)
        self._between_updates = True

    def averaged(self) -> AbstractContextManager[None]:
        """While inside, the weights are those to be scored and kept: their average, if `train.average` says so."""
        return self._average.in_place() if self._average else nullcontext()

    def state(self) -> dict[str, Any]:
        """What `load_state` needs besides the weights that are kept, by the names of `TrainingState`."""
        scaler = self._accelerator.scaler
        return {
            "optimizer": self.optimizer.state_dict(),
            "gradients": self.gradients(),
            "gradient_scaler": scaler.state_dict() if scaler is not None else {},
            "learning": self._average.learning() if self._average else {},
        }

    def load_state(self, state: TrainingState) -> None:
        """Go on from a checkpoint's state, whose weights the model holds already."""
        self.optimizer.load_state_dict(state.optimizer)
        self.load_gradients(state.gradients)
        if self._accelerator.scaler is not None:
            self._accelerator.scaler.load_state_dict(state.gradient_scaler)
        if self._average:
            self._average.load(state.learning)

    def weights_are_finite(self) -> bool:
        """Whether the weights are worth keeping."""
        return all(bool(weight.isfinite().all()) for weight in self.weights.values())

    def _copied_gradients(self) -> dict[str, Tensor]:
        return {name: weight.grad.clone() for name, weight in self.weights.items() if weight.grad is not None}

    def _take_back(self, gathered: Mapping[str, Tensor]) -> None:
        """Let the weights have gathered these gradients and no others. A recording needs them where they are."""
        for name, weight in self.weights.items():
            if name not in gathered and weight.grad is not None:
                weight.grad.zero_()
        self.load_gradients(gathered)

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
