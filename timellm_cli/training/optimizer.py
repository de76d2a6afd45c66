"""The optimizer, the learning rate as a function of the weight update, and the loss.

An average of the weights over a training, in which newer ones weigh more.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from timellm_cli.config import TrainConfig
from timellm_cli.errors import ModelError

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": functional.mse_loss,
    "mae": functional.l1_loss,
    "huber": functional.huber_loss,
}
"""Forecast and future, both B x H in one unit, to their mean loss. Huber turns linear at 1, which is one deviation."""

LENGTH_BOUND = ("onecycle", "cosine")
"""Schedules under which a longer run has other learning rates from the start."""

_WARM_UP = 0.2
_FIRST, _LAST = 1 / 25, 1 / 25e4
_BETA1, _CYCLED_BETA1 = 0.9, (0.95, 0.85)


@dataclass(frozen=True)
class Schedule:
    """Learning rate and first moment's decay (Adam's beta1) of every weight update.

    It keeps no state, so a resumed run needs none. `onecycle` is the one-cycle policy as torch and the original have it
    (Smith and Topin, 2017): a fifth of the updates warms up from 1/25 of the peak, the rest falls to 1/250,000 of it,
    and beta1 moves the other way.
    """

    kind: str
    peak: float
    total_updates: int
    updates_per_epoch: int

    def learning_rate(self, update: int) -> float:
        """Of update number `update`, counted from 0."""
        if self.kind == "onecycle":
            return self._cycle(update, self.peak * _FIRST, self.peak, self.peak * _LAST)
        if self.kind == "cosine":
            return _ease(self.peak, 0.0, update / self.total_updates)
        if self.kind == "type1":
            return self.peak * 0.5 ** (update // self.updates_per_epoch)
        return self.peak

    def beta1(self, update: int) -> float:
        """Of update number `update`, counted from 0."""
        if self.kind == "onecycle":
            high, low = _CYCLED_BETA1
            return self._cycle(update, high, low, high)
        return _BETA1

    def _cycle(self, update: int, first: float, middle: float, last: float) -> float:
        turn, end = _WARM_UP * self.total_updates - 1, self.total_updates - 1
        if turn <= 0:  # too few updates to warm up
            return _ease(middle, last, update / max(end, 1))
        if update <= turn:
            return _ease(first, middle, update / turn)
        return _ease(middle, last, (update - turn) / (end - turn))


def _ease(start: float, end: float, share: float) -> float:
    """Half a cosine wave from `start` (share 0) to `end` (share 1)."""
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))


def make_optimizer(
    train: TrainConfig, parameters: Iterable[torch.nn.Parameter], device: torch.device
) -> torch.optim.Optimizer:
    """The configured optimizer over the trainable parameters. Raises ModelError for an 8-bit one without a GPU."""
    options: dict[str, Any] = {"lr": train.learning_rate, "weight_decay": train.weight_decay}
    plain: dict[str, type[torch.optim.Adam]] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    if train.optimizer in plain:
        return plain[train.optimizer](parameters, fused=device.type == "cuda" or None, **options)
    if device.type != "cuda":
        raise ModelError(f"train.optimizer {train.optimizer} needs a GPU", "use --optimizer adam or adamw on a CPU")
    import bitsandbytes

    kinds = {"adam8bit": bitsandbytes.optim.Adam8bit, "adamw8bit": bitsandbytes.optim.AdamW8bit}
    return kinds[train.optimizer](parameters, **options)


def set_rates(optimizer: torch.optim.Optimizer, learning_rate: float, beta1: float) -> None:
    """Use these for the next update."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
        group["betas"] = (beta1, group["betas"][1])


_POWER = 9


class WeightAverage:
    """Polynomial-decay averaging (Shamir and Zhang, ICML 2013).

    After n updates, those of number k weigh about as much as k to the power of 9: most of the average is of the last
    tenth of the run, however long that is. So it needs no schedule that brings the learning rate down.
    """

    def __init__(self, weights: Mapping[str, nn.Parameter]) -> None:
        self._weights = weights
        self._mean = {name: weight.detach().clone() for name, weight in weights.items()}

    @torch.no_grad()
    def take_in(self, update: int) -> None:
        """The weights as they are after update number `update`, counted from 0."""
        for name, weight in self._weights.items():
            self._mean[name].lerp_(weight, (_POWER + 1) / (update + 1 + _POWER))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """While inside, the weights are their average."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def learning(self) -> dict[str, Tensor]:
        """Copies of the weights that learn, on the CPU."""
        return {name: weight.detach().cpu().clone() for name, weight in self._weights.items()}

    @torch.no_grad()
    def load(self, learning: Mapping[str, Tensor]) -> None:
        """Go on with what `learning()` gave, where the weights are now their average."""
        for name, weight in self._weights.items():
            self._mean[name].copy_(weight)
            weight.copy_(learning[name])

    @torch.no_grad()
    def _exchange(self) -> None:
        """In place and one by one: recorded steps know where a weight lies, and memory may be short."""
        for name, weight in self._weights.items():
            learning = weight.clone()
            weight.copy_(self._mean[name])
            self._mean[name].copy_(learning)
