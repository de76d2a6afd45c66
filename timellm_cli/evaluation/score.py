"""The one way to score a forecaster on a split: models and baselines, in validation and in `timellm eval`.

Every window of a split counts, so a score does not depend on the batch size. (The original code drops the last, short
batch of the test set.) Errors are summed in float64 for each channel and each step of the horizon. Every reported
error is computed from those sums.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import huber_loss

from timellm_cli.data.batch import Batch
from timellm_cli.data.scale import Floats
from timellm_cli.data.windows import ForecastData

Forecaster = Callable[[Batch], Tensor]
"""From a batch of B samples to their forecasts, B x H, standardised. It may read the histories, never the futures."""


@dataclass(frozen=True)
class ChannelErrors:
    """Mean errors of one channel: standardised, and in the CSV's units (`mse_raw` in their square)."""

    mse: float
    mae: float
    mse_raw: float
    rmse_raw: float
    mae_raw: float


@dataclass(frozen=True)
class PartErrors:
    """Mean standardised errors over all channels, for steps `first` to `last` of the horizon, counted from 1."""

    first: int
    last: int
    mse: float
    mae: float


@dataclass(frozen=True, eq=False)
class Scores:
    """Sums of three errors in standardised units, C x H, over `windows` windows of each channel.

    Only targets with a value count; `known_CH` is how many of the windows have one.
    The errors are the squared error, the absolute error and Huber's: half the square up to one standard deviation,
    linear beyond. `channels` names the scored channels (with features MS the target alone), and `std_C` is their
    standard deviation in the CSV's units. `window_mse_CW` and `window_mae_CW` are the errors of single windows, NaN for
    one without a known target.
    """

    channels: tuple[str, ...]
    windows: int
    known_CH: Floats
    squared_CH: Floats
    absolute_CH: Floats
    huber_CH: Floats
    std_C: Floats
    window_mse_CW: Floats
    window_mae_CW: Floats

    @property
    def samples(self) -> int:
        """How many samples were scored: windows x channels."""
        return self.windows * len(self.channels)

    @property
    def pred_len(self) -> int:
        """Steps of the horizon."""
        return int(self.squared_CH.shape[1])

    @property
    def mse(self) -> float:
        """Mean squared error over all samples and steps, in standardised units, as papers report it."""
        return self.loss("mse")

    @property
    def mae(self) -> float:
        """Mean absolute error over all samples and steps, in standardised units, as papers report it."""
        return self.loss("mae")

    def loss(self, kind: str) -> float:
        """Mean over all known targets of a loss for training: 'mse', 'mae' or 'huber'. NaN where none is known."""
        return self._mean({"mse": self.squared_CH, "mae": self.absolute_CH, "huber": self.huber_CH}[kind])

    def _mean(self, sums_CH: Floats, part: tuple[slice, slice] = (slice(None), slice(None))) -> float:
        known = float(self.known_CH[part].sum())
        return float(sums_CH[part].sum()) / known if known else math.nan

    def of_channel(self, channel: int) -> ChannelErrors:
        """Errors of the channel at this position in `channels`. Raw error = standardised error x `std_C`."""
        part = slice(channel, channel + 1), slice(None)
        mse, mae = self._mean(self.squared_CH, part), self._mean(self.absolute_CH, part)
        std = float(self.std_C[channel])
        return ChannelErrors(mse, mae, mse * std**2, float(np.sqrt(mse)) * std, mae * std)

    def of_part(self, first: int, last: int) -> PartErrors:
        """Errors over steps `first` to `last` of the horizon, counted from 1."""
        part = slice(None), slice(first - 1, last)
        return PartErrors(first, last, self._mean(self.squared_CH, part), self._mean(self.absolute_CH, part))

    def without_last(self, windows: int) -> tuple[float, float]:
        """MSE and MAE without the last `windows` windows of each channel, in standardised units."""
        kept = slice(self.windows - windows)
        return float(np.nanmean(self.window_mse_CW[:, kept])), float(np.nanmean(self.window_mae_CW[:, kept]))


def mean_scores(scores: Sequence[Scores]) -> Scores:
    """The mean errors of several models on the same windows. Errors are averaged, not forecasts."""
    fields = ("squared_CH", "absolute_CH", "huber_CH", "window_mse_CW", "window_mae_CW")
    means = {field: np.mean([getattr(one, field) for one in scores], axis=0) for field in fields}
    return replace(scores[0], **means)


def parts_of(pred_len: int) -> list[tuple[int, int]]:
    """The first and last step of each quarter of the horizon, counted from 1. A short horizon has fewer parts."""
    parts = min(4, pred_len)
    borders = [round(pred_len * part / parts) for part in range(parts + 1)]
    return [(start + 1, stop) for start, stop in pairwise(borders)]


def scored_windows(data: ForecastData, split: str, limit: int | None = None) -> int:
    """How many windows of each channel `score` scores."""
    windows = data.windows(split).windows
    return windows if limit is None else min(limit, windows)


def score(
    forecaster: Forecaster,
    data: ForecastData,
    split: str,
    batch_size: int,
    *,
    limit: int | None = None,
    on_batch: Callable[[int], None] | None = None,
    on_errors: Callable[[Batch, Tensor], None] | None = None,
) -> Scores:
    """Score a forecaster on every window of a split, or on the first `limit` windows of every channel.

    After each batch, `on_errors` is called with the batch and its errors (B x H, forecast less future, standardised;
    NaN for an absent target), and `on_batch` with its number of samples. Samples come channel by channel. No gradients
    are computed.
    """
    samples = data.windows(split)
    windows = scored_windows(data, split, limit)
    window_means: list[Tensor] = []
    sums_4CH = torch.zeros(4, samples.channels, data.config.window.pred_len, dtype=torch.float64)
    with torch.inference_mode():
        for number_B in torch.arange(samples.channels * windows).split(batch_size):
            channel_B = number_B // windows
            batch = samples.batch((channel_B * samples.windows + number_B % windows).tolist())
            forecast_BH = forecaster(batch).double()
            error_BH = forecast_BH - batch.future_BH.to(forecast_BH)
            errors_4BH = _errors(error_BH, batch.known_BH)
            sums_4CH = sums_4CH.to(error_BH.device).index_add_(1, channel_B.to(error_BH.device), errors_4BH)
            window_means.append(errors_4BH[1:3].sum(dim=2) / errors_4BH[0].sum(dim=1))
            if on_errors is not None:
                on_errors(batch, error_BH)
            if on_batch is not None:
                on_batch(len(batch))
    known_CH, squared_CH, absolute_CH, huber_CH = sums_4CH.cpu().numpy()
    window_mse_CW, window_mae_CW = torch.cat(window_means, dim=1).cpu().numpy().reshape(2, samples.channels, windows)
    return Scores(
        channels=data.table.columns[-samples.channels :],
        windows=windows,
        known_CH=known_CH,
        squared_CH=squared_CH,
        absolute_CH=absolute_CH,
        huber_CH=huber_CH,
        std_C=data.scaler.std_C[-samples.channels :],
        window_mse_CW=window_mse_CW,
        window_mae_CW=window_mae_CW,
    )


def _errors(error_BH: Tensor, known_BH: Tensor | None) -> Tensor:
    """Whether a target is known (1 or 0), its squared, absolute and Huber's error; 0 for one that is not: 4 x B x H."""
    known = torch.ones_like(error_BH) if known_BH is None else known_BH.to(error_BH)
    error_BH = error_BH if known_BH is None else torch.where(known_BH.to(error_BH.device), error_BH, 0.0)
    huber_BH = huber_loss(error_BH, torch.zeros_like(error_BH), "none")
    return torch.stack([known, error_BH.square(), error_BH.abs(), huber_BH])
