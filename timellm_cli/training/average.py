"""An average of the weights over a training, in which newer ones weigh more."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

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
