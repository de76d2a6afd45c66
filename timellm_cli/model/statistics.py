"""What the prompt says of a window: smallest, largest and middle value, trend, lags of highest autocorrelation."""

import torch
from torch import Tensor

from timellm_cli.model.prompt import WindowStatistics

_TIE = 1e-9
"""Autocorrelations closer than this share of the largest count as equal: far above the noise of a float64 FFT."""


def window_statistics(scaled_BT: Tensor, top_lags: int) -> list[WindowStatistics]:
    """The statistics of each window-normalised history."""
    lags = top_autocorrelation_lags(scaled_BT, top_lags).tolist()
    minima, maxima = scaled_BT.amin(dim=1).tolist(), scaled_BT.amax(dim=1).tolist()
    medians = scaled_BT.median(dim=1).values.tolist()
    upward = (scaled_BT[:, -1] > scaled_BT[:, 0]).tolist()
    return [
        WindowStatistics(minimum, maximum, median, up, tuple(window_lags))
        for minimum, maximum, median, up, window_lags in zip(minima, maxima, medians, upward, lags, strict=True)
    ]


def top_autocorrelation_lags(scaled_BT: Tensor, count: int) -> Tensor:
    """The `count` shifts of highest circular autocorrelation, highest first; B x count, int64.

    Lags k and T-k tie by mathematics, and multiples of a period tie in periodic data; in the original the rounding of
    the FFT decides their order, so a prompt can change with the batch size. Here equal lags are ordered by size.
    """
    spectrum = torch.fft.rfft(scaled_BT.double(), dim=1)
    correlation_BT = torch.fft.irfft(spectrum.abs().square(), n=scaled_BT.shape[1], dim=1)
    unit_B1 = correlation_BT[:, :1].clamp_min(torch.finfo(torch.float64).tiny) * _TIE
    return torch.sort(torch.round(correlation_BT / unit_B1), dim=1, descending=True, stable=True).indices[:, :count]
