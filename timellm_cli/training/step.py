"""One training step: forward, loss and backward of a batch; after `accumulate` steps, an update of the weights.

Where the model is captured, forward and backward are one CUDA graph, which adds to gradients at fixed addresses. The
update stays outside of it, so any optimizer, gradient scaler and number of accumulated steps will work.
"""

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from timellm_cli.config import TrainConfig
from timellm_cli.data.batch import AheadBatch, Batch, PromptTokens
from timellm_cli.model.dropout import make_keys
from timellm_cli.model.runner import ModelCall, Runner
from timellm_cli.model.time_llm import normalise
from timellm_cli.processes.group import Group
from timellm_cli.training.measure import GpuTime
from timellm_cli.training.optimizer import LOSSES, Schedule, WeightAverage, make_optimizer, set_rates

_LEAST_DEVIATION = 0.1
"""With losses in window units, a calmer history counts as if its deviation were this, so that it cannot dominate."""


class NotFiniteError(Exception):
    """The loss is not a finite number. `samples`: positions in the batch whose forecast or future is not finite."""

    def __init__(self, loss: float, samples: list[int]) -> None:
        super().__init__(f"loss {loss}")
        self.loss, self.samples = loss, samples


@dataclass(frozen=True, eq=False)
class StepResult:
    """A step that may still be running on the GPU. What is read of it waits for the GPU and for the other processes.

    `news`: the loss, for each sample of the whole batch whether it is faulty, for each process the size of its pieces
    where it ran out of memory in this step (else 0), and how many processes request a stop.
    """

    news: Tensor
    done: torch.cuda.Event | None
    group: Group

    def loss(self) -> float:
        """The loss in standardised units. Raises NotFiniteError where it is not a finite number."""
        loss, *faulty_B = self._read()[: -self.group.size - 1]
        if not math.isfinite(loss):
            raise NotFiniteError(loss, [position for position, faulty in enumerate(faulty_B) if faulty])
        return loss

    @property
    def halved_to(self) -> int | None:
        """Set where the step ran out of memory and was repeated in pieces of so many samples."""
        sizes = [size for size in self._read()[-self.group.size - 1 : -1] if size]
        return int(min(sizes)) if sizes else None

    @property
    def stop_requested(self) -> bool:
        """Whether a process had been requested to stop when it began the step: the same for all processes."""
        return self._read()[-1] > 0

    def _read(self) -> list[float]:
        if self.done is not None:
            self.group.wait_for(self.done)
        numbers: list[float] = self.news.tolist()
        return numbers


class TrainingStep:
    """Takes steps and owns the optimizer. `weights` are the trained parameters by name.

    `runs_ahead`: start a step before reading the last one's loss, so that the GPU never waits.

    A step that runs out of memory is repeated in halves, whose gradients add up to the same. Batches, their order and
    the updates do not change.

    Processes of a group each take a part of the batch. Their gradients are summed before the weights change.
    """

    def __init__(
        self,
        train: TrainConfig,
        schedule: Schedule,
        runner: Runner,
        group: Group | None = None,
        offset_C: Tensor | None = None,
    ) -> None:
        """`offset_C` are the channels' raw means over their deviations, for a loss that is relative to raw values.

        Raises ModelError for an optimizer that needs a GPU where there is none.
        """
        self.weights = runner.model.trainable_weights()
        self.runs_ahead = runner.device.type == "cuda"
        self.gpu_time = GpuTime(runner.device)
        self._runner, self._schedule, self._group = runner, schedule, group or Group()
        self._seed, self._whole_batch = train.seed, train.batch
        self._loss, self._clip, self._in_window_units = LOSSES[train.loss], train.clip, train.loss_units == "window"
        self._offset_C = offset_C if train.loss == "smape" else None
        self._optimizer = make_optimizer(train, self.weights.values(), runner.device)
        self._scaler = torch.amp.GradScaler(runner.device.type, enabled=train.precision == "fp16")
        self._average = WeightAverage(self.weights) if train.average else None
        self._call = ModelCall(
            runner, self._forward_and_backward, warm_up=self._warm_up, before_retry=lambda: self._restore(self._before)
        )
        self._between_updates = True
        self._before: dict[str, Tensor] = {}
        self._flat: Tensor | None = None

    @property
    def samples_at_once(self) -> int | None:
        """Set once a step ran out of memory: so many samples are run at a time."""
        return self._call.samples_at_once

    def start(
        self, batch: Batch, update: int, share: float, *, step: int, completes: bool, stops: bool = False
    ) -> StepResult:
        """Start a step with this process's part of an encoded batch; on a GPU it may still be running on return.

        Step number `step` is part `share` of weight update number `update`; `completes` says that it is the last part,
        `stops` that this process is requested to stop. Raises torch.OutOfMemoryError, or what CUDA raises in its place,
        where one sample does not fit, and ProcessLostError.
        """
        with self.gpu_time:
            before = self._call.samples_at_once
            self._before = {} if self._between_updates else self._gradients(clone=True)
            keys_B = make_keys(self._seed, step, batch.channel_B, batch.start_B)
            pieces = self._call(batch, _inputs(batch, keys_B, self._offset_C), share * (len(batch) / self._whole_batch))
            self._before, self._between_updates = {}, False
            halved_to = self._call.samples_at_once if self._call.samples_at_once != before else None
            news = self._share_out(self._news(pieces, halved_to, stops), completes)
            if completes:
                self.update_weights(update)
            return self._result(news)

    def _forward_and_backward(
        self, prompt: PromptTokens, history_BT: Tensor, future_BH: Tensor, key_B: Tensor, *others: Tensor
    ) -> Tensor:
        """The loss, then for each sample whether its error is not finite (1) or is (0): 1 + B numbers.

        The loss is in standardised units, whatever units are minimised. The share of its gradient is added to the
        weights' gradients. `others` are the tensors of what is known ahead, the weights of targets, if any are
        absent, the offset, if the loss needs one, and the share.

        The numeric model is trained as if the day map stayed at its start, and the map on what both leave over: so
        where it starts from nothing, the numeric model learns the same whatever the map reads.
        """
        share, count = others[-1], 0 if self._runner.model.day_map is None else len(AheadBatch.__dataclass_fields__)
        ahead, weight_BH = others[:count], list(others[count:-1])
        numeric_BH, start_BH, added_BH = self._runner.model.parts(history_BT, prompt, key_B, *ahead)
        numeric_BH = numeric_BH if start_BH is None else numeric_BH + start_BH
        forecast_BH = numeric_BH if added_BH is None else numeric_BH.detach() + added_BH
        offset_B1 = None if self._offset_C is None else weight_BH.pop()[:, None]
        loss, minimised = self._losses(forecast_BH, history_BT, future_BH, offset_B1, *weight_BH)
        if added_BH is not None:
            minimised = minimised + self._losses(numeric_BH, history_BT, future_BH, offset_B1, *weight_BH)[1]
        self._scaler.scale(minimised * share).backward()
        with torch.no_grad():
            faulty_B = (~(forecast_BH - future_BH).isfinite().all(dim=1)).to(loss.dtype)
            return torch.cat([loss.unsqueeze(0), faulty_B])

    def _losses(
        self, forecast_BH: Tensor, history_BT: Tensor, future_BH: Tensor, offset_B1: Tensor | None, *weight_BH: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The loss in standardised units, and what is minimised."""
        if offset_B1 is None:
            loss = self._mean_loss(forecast_BH, future_BH, *weight_BH)
        else:
            loss = self._mean_loss(forecast_BH + offset_B1, future_BH + offset_B1, *weight_BH)
        if not self._in_window_units:
            return loss, loss
        unit_B1 = normalise(history_BT)[1].std_B1.clamp_min(_LEAST_DEVIATION)
        return loss, self._mean_loss(forecast_BH / unit_B1, future_BH / unit_B1, *weight_BH)

    def _mean_loss(self, forecast_BH: Tensor, future_BH: Tensor, weight_BH: Tensor | None = None) -> Tensor:
        if weight_BH is None:
            return self._loss(forecast_BH, future_BH)
        return (self._loss(forecast_BH, future_BH, reduction="none") * weight_BH).mean()

    def _news(self, pieces: list[Tensor], halved_to: int | None, stops: bool) -> Tensor:
        """What this process adds to `StepResult.news`: the losses of its pieces, each weighted by its samples."""
        losses = torch.stack([piece[0] * ((len(piece) - 1) / self._whole_batch) for piece in pieces])
        faulty = torch.cat([piece[1:] for piece in pieces])
        place, news = self._group.place, losses.new_zeros(1 + self._whole_batch + self._group.size + 1)
        own = place.part(self._whole_batch)
        news[0] = losses.sum()
        news[1 + own.start : 1 + own.stop] = faulty
        if halved_to is not None:
            news[1 + self._whole_batch + place.rank] = halved_to
        if stops:
            news[-1] = 1
        return news

    def _share_out(self, news: Tensor, completes: bool) -> Tensor:
        """The news of all processes. With the last part of an update, all gradients are summed too, in one go."""
        if self._group.size == 1:
            return news
        if not completes:
            self._group.sum_(news)
            return news
        gradients = self._gradients()
        flat, parts = self._flatten(gradients, news)
        self._group.sum_(flat)
        torch._foreach_copy_([*gradients.values(), news], parts)
        return news

    def _flatten(self, gradients: Mapping[str, Tensor], *others: Tensor) -> tuple[Tensor, list[Tensor]]:
        """One row with all these numbers, and its parts in their shapes. The row is kept and used again."""
        tensors = [*gradients.values(), *others]
        sizes = [tensor.numel() for tensor in tensors]
        if self._flat is None or len(self._flat) != sum(sizes):
            self._flat = torch.empty(sum(sizes), device=tensors[0].device)
        parts = [part.view(tensor.shape) for part, tensor in zip(self._flat.split(sizes), tensors, strict=True)]
        torch._foreach_copy_(parts, tensors)
        return self._flat, parts

    def _result(self, news: Tensor) -> StepResult:
        """Starts the copy to the CPU."""
        if news.device.type == "cpu":
            return StepResult(news, None, self._group)
        on_cpu = torch.empty(news.shape, pin_memory=True).copy_(news, non_blocking=True)
        done = torch.cuda.Event()
        done.record()
        return StepResult(on_cpu, done, self._group)

    def _warm_up(self, call: Callable[[], object]) -> None:
        """Run a step, and undo what it did to the gradients, which it may create, and to the random numbers.

        An earlier piece of the same step may have added to the gradients already.
        """
        gradients, random_state = self._gradients(clone=True), torch.cuda.get_rng_state(self._runner.device)
        call()
        torch.cuda.set_rng_state(random_state, self._runner.device)
        self._restore(gradients)

    def update_weights(self, update: int) -> None:
        """Change the weights by their gradients, which are those of all processes by now."""
        if self._clip:
            self._scaler.unscale_(self._optimizer)
            torch.nn.utils.clip_grad_norm_(self.weights.values(), self._clip)
        set_rates(self._optimizer, self._schedule.learning_rate(update), self._schedule.beta1(update))
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=not self._runner.captures)
        if self._average:
            self._average.add(update)
        self._between_updates = True

    def drop_begun_update(self) -> None:
        """Forget what the steps since the last update added to the gradients."""
        self._optimizer.zero_grad(set_to_none=not self._runner.captures)
        self._between_updates = True

    def averaged(self) -> AbstractContextManager[None]:
        """While inside, the weights are those to score and keep: their average, if `train.average` says so."""
        return self._average.exchanged() if self._average else nullcontext()

    def weights_are_finite(self) -> bool:
        """Whether the weights are worth keeping."""
        # On the CPU: while a GPU waits for a lost process, it may be unable to load a kernel.
        return all(bool(weight.detach().cpu().isfinite().all()) for weight in self.weights.values())

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs besides the weights that a checkpoint keeps. Tensors may be on the GPU.

        All processes call it together, for the gradients of a begun update are summed.
        """
        gradients = {} if self._between_updates else self._gradients()
        if gradients and self._group.size > 1:
            flat, parts = self._flatten(gradients)
            self._group.sum_(flat)
            gradients = {name: part.clone() for name, part in zip(gradients, parts, strict=True)}
        return {
            "optimizer": self._optimizer.state_dict(),
            "gradients": gradients,
            "gradient_scaler": self._scaler.state_dict(),
            "learning": self._runner.model.own_state() if self._average else {},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a checkpoint's state. The model has the checkpoint's weights already."""
        self._optimizer.load_state_dict(state["optimizer"])
        gradients = state["gradients"]
        if not self._group.place.is_first:  # they are a sum, which the processes add up again
            gradients = {name: torch.zeros_like(gradient) for name, gradient in gradients.items()}
        self._restore(gradients)
        self._between_updates = not gradients
        self._scaler.load_state_dict(state["gradient_scaler"])
        if self._average:
            self._average.load(state["learning"])

    def _gradients(self, clone: bool = False) -> dict[str, Tensor]:
        """The gradients of a begun update, by name of the weight."""
        gradients = {name: weight.grad for name, weight in self.weights.items() if weight.grad is not None}
        return {name: gradient.clone() for name, gradient in gradients.items()} if clone else gradients

    def _restore(self, gradients: Mapping[str, Tensor]) -> None:
        """Set the gradients to these, and all others to zero, where they are: a recording knows their addresses."""
        for name, weight in self.weights.items():
            if name in gradients:
                weight.grad = torch.empty_like(weight) if weight.grad is None else weight.grad
                weight.grad.copy_(gradients[name])
            elif weight.grad is not None:
                weight.grad.zero_()


def _inputs(batch: Batch, key_B: Tensor, offset_C: Tensor | None = None) -> tuple[Tensor, ...]:
    """Histories, futures and keys; where targets are absent, 0, and the weights with which targets count.

    With `offset_C`, each sample's own offset (B) comes last.

    The weights' mean over the whole batch is 1. So the loss is the mean over its known targets, also where it is cut
    into pieces or shared by processes.
    """
    offset = () if offset_C is None else (offset_C.to(batch.future_BH)[batch.channel_B.to(batch.future_BH.device)],)
    if batch.known_BH is None:
        return batch.history_BT, batch.future_BH, key_B, *batch.ahead_tensors, *offset
    known_BH = batch.known_BH.to(batch.future_BH)
    share = batch.known_share
    weight_BH = known_BH / (known_BH.mean().clamp(min=1 / known_BH.numel()) if share is None else share)
    return batch.history_BT, batch.future_BH.nan_to_num(0.0), key_B, *batch.ahead_tensors, weight_BH, *offset
