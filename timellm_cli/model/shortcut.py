"""A linear way around the LLM."""

from math import ceil

import torch
from torch import Tensor, nn
from torch.nn import functional


class Shortcut(nn.Module):
    """One linear map for all channels, from how the history differs from its last value to how the future does.

    This is NLinear (Zeng et al., AAAI 2023), a strong forecaster of its own: what is left to the LLM is what is not
    linear. A `period` adds the few weights of a `PeriodicMap`, which lowers validation errors on ETTh1
    (benchmarks/RESULTS.md). All weights start at zero, so that training starts from the last value.
    """

    def __init__(self, seq_len: int, pred_len: int, period: int = 0) -> None:
        super().__init__()
        self.weight_HT = nn.Parameter(torch.zeros(pred_len, seq_len))
        self.bias_H = nn.Parameter(torch.zeros(pred_len))
        self.periodic = PeriodicMap(seq_len, pred_len, period) if period else None

    def forward(self, scaled_BT: Tensor) -> Tensor:
        """Window-normalised history, B x T, to window-normalised values, B x H."""
        last_B1 = scaled_BT[:, -1:]
        change_BT = scaled_BT - last_B1
        change_BH = functional.linear(change_BT, self.weight_HT, self.bias_H)
        if self.periodic is not None:
            change_BH = change_BH + self.periodic(change_BT)
        return last_B1 + change_BH


class PeriodicMap(nn.Module):
    """One matrix for all phases of a period, from the whole periods of the history (N) to those of the future (M).

    This is SparseTSF (Lin et al., ICML 2024), without its own normalisation: 10 a.m. of the coming days is a weighted
    sum of 10 a.m. of the past days, after the history is smoothed over a period by weights that are learned as well.
    """

    def __init__(self, seq_len: int, pred_len: int, period: int) -> None:
        super().__init__()
        self.period, self.pred_len, self.periods = period, pred_len, seq_len // period
        self.smoothing = nn.Parameter(torch.zeros(1, 1, 1 + 2 * (period // 2)))
        self.weight_NM = nn.Parameter(torch.zeros(self.periods, ceil(pred_len / period)))

    def forward(self, change_BT: Tensor) -> Tensor:
        """B x T to B x H."""
        smooth_BT = functional.conv1d(change_BT.unsqueeze(1), self.smoothing, padding=self.period // 2).squeeze(1)
        recent_BT = (change_BT + smooth_BT)[:, -self.periods * self.period :]
        phases_BNP = recent_BT.unflatten(1, (self.periods, self.period))
        return (self.weight_NM.T @ phases_BNP).flatten(1)[:, : self.pred_len]
