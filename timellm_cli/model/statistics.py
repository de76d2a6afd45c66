"""What the prompt says of a window: smallest, largest and middle value, trend, lags of highest autocorrelation."""

import numpy as np
import torch
from torch import Tensor

from timellm_cli.model.prompt import WindowStatistics

_TIE = 1e-9
"""Autocorrelations closer than this share of the largest count as equal: far above the noise of a float64 FFT."""


def window_statistics(scaled_BT: Tensor, top_lags: int) -> list[WindowStatistics]:
    """The statistics of each window-normalised history."""
    lags = top_autocorrelation_lags(scaled_BT, top_lags).tolist()
    minima, maxima = scaled_BT.amin(dim=1).tolist(), scaled_BT.amax(dim=1).tolist()
    middle = (scaled_BT.shape[1] - 1) // 2
    medians = np.partition(scaled_BT.numpy(), middle, axis=1)[:, middle].tolist()  # torch.median takes four times it
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
    length = scaled_BT.shape[1]
    spectrum = torch.fft.rfft(scaled_BT.double(), dim=1)
    correlation_BT = torch.fft.irfft((spectrum * spectrum.conj()).real, n=length, dim=1)
    unit_B1 = correlation_BT[:, :1].clamp_min(torch.finfo(torch.float64).tiny) * _TIE
    half_Bt = torch.round(correlation_BT[:, : length // 2 + 1] / unit_B1)
    mirrored_Bt = half_Bt[:, 1 : (length + 1) // 2].flip(1)
    # Whole numbers up to 1/_TIE, spread so that the lag itself breaks ties: exact in float64 up to 9 million lags.
    rank_BT = torch.cat([half_Bt, mirrored_Bt], dim=1) * length - torch.arange(length)
    return rank_BT.topk(count, dim=1).indices
