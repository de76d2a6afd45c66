"""Instance normalisation of a window, with no state on any module.

Source: RevIN without its affine part, as Time-LLM uses it; population variance, epsilon under the root.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

EPSILON = 1e-5


@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation of each history, in the units that came in. Both are B x 1."""

    mean_B1: Tensor
    std_B1: Tensor

    def restore(self, scaled_BH: Tensor) -> Tensor:
        """From window-normalised values back to the units that came in; B x H."""
        return scaled_BH * self.std_B1 + self.mean_B1


def normalise(history_BT: Tensor) -> tuple[Tensor, Moments]:
    """Each history with mean 0 and (almost) standard deviation 1, and the moments that undo it."""
    mean_B1 = history_BT.mean(dim=1, keepdim=True)
    std_B1 = torch.sqrt(history_BT.var(dim=1, keepdim=True, unbiased=False) + EPSILON)
    return (history_BT - mean_B1) / std_B1, Moments(mean_B1, std_B1)
