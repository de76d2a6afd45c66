"""What an update of the weights needs: the loss, the optimizer, its learning rate, and the average of the weights.

Updates are counted from 0.
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


def smape_loss(forecast_BH: Tensor, future_BH: Tensor, reduction: str = "mean") -> Tensor:
    """2|f - y| / (|f| + |y|), from 0 to 2, as in the M4 competition; 0 where both are 0."""
    size_BH = forecast_BH.abs() + future_BH.abs()
    loss_BH = 2 * (forecast_BH - future_BH).abs() / size_BH.clamp_min(torch.finfo(size_BH.dtype).tiny)
    return loss_BH.mean() if reduction == "mean" else loss_BH


LOSSES: dict[str, Callable[..., Tensor]] = {
    "mse": functional.mse_loss,
    "mae": functional.l1_loss,
    "huber": functional.huber_loss,
    "smape": smape_loss,
}
"""From forecast and future, both B x H in the same units, to the mean loss. Huber's is linear beyond an error of 1.
smape wants raw values, or standardised ones moved by their channel's raw mean over its deviation.
"""

LENGTH_BOUND = ("onecycle", "cosine")
"""Schedules whose learning rates depend on the length of the run, from its first update on."""

_WARM_UP = 0.2
_FIRST, _LAST = 1 / 25, 1 / 25e4
_BETA1, _CYCLED_BETA1 = 0.9, (0.95, 0.85)


@dataclass(frozen=True)
class Schedule:
    """The learning rate and Adam's beta1 of every update. It has no state, so a checkpoint holds none.

    `onecycle` is the one-cycle policy of torch and of the original (Smith and Topin, arXiv 1708.07120): over a fifth of
    the updates the rate rises from 1/25 of the peak, over the rest it falls to 1/250,000 of the peak. beta1 moves the
    other way.
    """

    kind: str
    peak: float
    total_updates: int
    updates_per_epoch: int

    def learning_rate(self, update: int) -> float:
        """The learning rate of an update."""
        if self.kind == "onecycle":
            return self._cycle(update, self.peak * _FIRST, self.peak, self.peak * _LAST)
        if self.kind == "cosine":
            return _ease(self.peak, 0.0, update / self.total_updates)
        if self.kind == "type1":
            return self.peak * 0.5 ** (update // self.updates_per_epoch)
        return self.peak

    def beta1(self, update: int) -> float:
        """The decay of Adam's first moment in an update."""
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
    """The configured optimizer of these parameters. Raises ModelError for an 8-bit one without a GPU."""
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
    """Polynomial-decay averaging (Shamir and Zhang, ICML 2013): the weights after each update, newer ones count more.

    The weights after update k count in proportion to k to the power of 9, so most of the average comes from the last
    tenth of a run of any length. It needs no schedule that lowers the learning rate.
    """

    def __init__(self, weights: Mapping[str, nn.Parameter]) -> None:
        self._weights = weights
        self._mean = {name: weight.detach().clone() for name, weight in weights.items()}

    @torch.no_grad()
    def add(self, update: int) -> None:
        """Count the weights as they are after an update."""
        for name, weight in self._weights.items():
            self._mean[name].lerp_(weight, (_POWER + 1) / (update + 1 + _POWER))

    @contextmanager
    def exchanged(self) -> Iterator[None]:
        """While inside, the weights are their average."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def load(self, learning: Mapping[str, Tensor]) -> None:
        """Continue with the weights `learning` for the optimizer, where the model has their average now."""
        for name, weight in self._weights.items():
            self._mean[name].copy_(weight)
            weight.copy_(learning[name])

    @torch.no_grad()
    def _exchange(self) -> None:
        """Exchange weights and average, one by one to save memory, and in place: recordings know their addresses."""
        for name, weight in self._weights.items():
            learning = weight.clone()
            weight.copy_(self._mean[name])
            self._mean[name].copy_(learning)
