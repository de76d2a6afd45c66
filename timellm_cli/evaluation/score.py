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
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import huber_loss

from timellm_cli.data.batch import Batch
from timellm_cli.data.scale import Floats
from timellm_cli.data.windows import ForecastData
from timellm_cli.evaluation.metric_sums import MetricSums, mean_sums
from timellm_cli.processes.group import Group

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


_KNOWN, _SQUARED, _ABSOLUTE, _HUBER = range(4)


@dataclass(frozen=True, eq=False)
class Scores:
    """Sums of errors in standardised units, over all steps of each channel (C) and over all channels of each step (H).

    Their rows are: how many targets are known, and of these the sums of the squared error, of the absolute error, and
    of Huber's: half the square up to one standard deviation, linear beyond. `channels` names the scored channels (with
    features MS those of the target alone), `windows_C` counts their windows, and `std_C` is their standard deviation in
    the CSV's units. `window_mse_W` and `window_mae_W` are the errors of single windows, channel by channel, NaN for one
    without a known target. `metrics` are sums for further metrics, where these were counted. `folds` are the scores of
    each fold where these are joined.
    """

    channels: tuple[str, ...]
    windows_C: NDArray[np.int64]
    sums_4C: Floats
    sums_4H: Floats
    std_C: Floats
    window_mse_W: Floats
    window_mae_W: Floats
    metrics: MetricSums | None = None
    folds: "tuple[Scores, ...]" = ()

    @property
    def windows(self) -> int:
        """The windows of the channel that has the most."""
        return int(self.windows_C.max())

    @property
    def samples(self) -> int:
        """How many samples were scored: the windows of all channels."""
        return int(self.windows_C.sum())

    @property
    def pred_len(self) -> int:
        """Steps of the horizon."""
        return int(self.sums_4H.shape[1])

    @property
    def mse(self) -> float:
        """Mean squared error over all samples and steps, in standardised units, as papers report it."""
        return self.loss("mse")

    @property
    def mae(self) -> float:
        """Mean absolute error over all samples and steps, in standardised units, as papers report it."""
        return self.loss("mae")

    def loss(self, kind: str) -> float:
        """Mean over all known targets of a loss for training: 'mse', 'mae' or 'huber'. NaN where none is known.

        For 'smape', which is relative to raw values, it is that of 'mae'.
        """
        return _mean(self.sums_4H, {"mse": _SQUARED, "mae": _ABSOLUTE, "huber": _HUBER, "smape": _ABSOLUTE}[kind])

    def of_channel(self, channel: int) -> ChannelErrors:
        """Errors of the channel at this position in `channels`. Raw error = standardised error x `std_C`."""
        own = self.sums_4C[:, channel : channel + 1]
        mse, mae, std = _mean(own, _SQUARED), _mean(own, _ABSOLUTE), float(self.std_C[channel])
        return ChannelErrors(mse, mae, mse * std**2, float(np.sqrt(mse)) * std, mae * std)

    def of_part(self, first: int, last: int) -> PartErrors:
        """Errors over steps `first` to `last` of the horizon, counted from 1."""
        own = self.sums_4H[:, first - 1 : last]
        return PartErrors(first, last, _mean(own, _SQUARED), _mean(own, _ABSOLUTE))

    def find(self, window: int) -> tuple[int, int]:
        """Channel and window in it of a position in `window_mse_W`."""
        ends_C = self.windows_C.cumsum()
        channel = int(np.searchsorted(ends_C, window, side="right"))
        return channel, window - int(ends_C[channel] - self.windows_C[channel])

    def without_last(self, windows: int) -> tuple[float, float]:
        """MSE and MAE without the last `windows` windows of each channel, in standardised units."""
        from_end_W = np.repeat(self.windows_C.cumsum(), self.windows_C) - np.arange(self.samples)
        kept_W = from_end_W > windows
        return float(np.nanmean(self.window_mse_W[kept_W])), float(np.nanmean(self.window_mae_W[kept_W]))


def _mean(sums_4N: Floats, kind: int) -> float:
    known = float(sums_4N[_KNOWN].sum())
    return float(sums_4N[kind].sum()) / known if known else math.nan


def mean_scores(scores: Sequence[Scores]) -> Scores:
    """The mean errors of several models on the same windows. Errors are averaged, not forecasts."""
    fields = ("sums_4C", "sums_4H", "window_mse_W", "window_mae_W")
    means = {field: np.mean([getattr(one, field) for one in scores], axis=0) for field in fields}
    metrics = [one.metrics for one in scores if one.metrics is not None]
    return replace(
        scores[0],
        **means,
        metrics=mean_sums(metrics) if len(metrics) == len(scores) else None,
        folds=tuple(map(mean_scores, zip(*(one.folds for one in scores), strict=True))),
    )


def parts_of(pred_len: int) -> list[tuple[int, int]]:
    """The first and last step of each quarter of the horizon, counted from 1. A short horizon has fewer parts."""
    parts = min(4, pred_len)
    borders = [round(pred_len * part / parts) for part in range(parts + 1)]
    return [(start + 1, stop) for start, stop in pairwise(borders)]


def score(
    forecaster: Forecaster,
    data: ForecastData,
    split: str,
    batch_size: int,
    *,
    limit: int | None = None,
    on_batch: Callable[[int], None] | None = None,
    on_errors: Callable[[Batch, Tensor], None] | None = None,
    std_C: Floats | None = None,
    group: Group | None = None,
) -> Scores:
    """Score a forecaster on every window of a split, or on the first `limit` windows of every channel.

    Errors are in units of `std_C`, a raw deviation for each scored channel: by default that of the scaler.
    After each batch, `on_errors` is called with the batch and its errors (B x H, forecast less future, in units of the
    scaler; NaN for an absent target), and `on_batch` with its number of samples. Samples come channel by channel. No
    gradients are computed. The processes of a `group` score a part each, and all return the scores of all windows.
    """
    samples, group = data.windows(split), group or Group()
    number_N = samples.numbers(limit)
    own = group.place.part(len(number_N))
    own_std_C = data.scaler.std_C[-samples.channels :]
    std_C = own_std_C if std_C is None else std_C
    unit_C = torch.from_numpy(own_std_C / std_C)
    window_means: list[Tensor] = []
    sums_4C = torch.zeros(4, samples.channels, dtype=torch.float64)
    sums_4H = torch.zeros(4, data.config.window.pred_len, dtype=torch.float64)
    with torch.inference_mode():
        for number_B in number_N[own.start : own.stop].split(batch_size) if own else ():
            batch = samples.batch(number_B.tolist())
            forecast_BH = forecaster(batch).double()
            error_BH = forecast_BH - batch.future_BH.to(forecast_BH)
            position_B = samples.position(number_B)
            unit_B1 = unit_C[position_B, None].to(error_BH.device)
            errors_4BH = _errors(error_BH * unit_B1, batch.known_BH)
            of_window_4B = errors_4BH.sum(dim=2)
            position_B = position_B.to(error_BH.device)
            sums_4C = sums_4C.to(error_BH.device).index_add_(1, position_B, of_window_4B)
            sums_4H = sums_4H.to(error_BH.device).add_(errors_4BH.sum(dim=1))
            window_means.append(of_window_4B[_SQUARED : _ABSOLUTE + 1] / of_window_4B[_KNOWN])
            if on_errors is not None:
                on_errors(batch, error_BH)
            if on_batch is not None:
                on_batch(len(batch))
    window_mse_W, window_mae_W = _of_all(group, window_means)
    windows_C = samples.windows_C if limit is None else samples.windows_C.clamp(max=limit)
    return Scores(
        channels=data.scored_channels,
        windows_C=windows_C.numpy(),
        sums_4C=_sum_of_all(group, sums_4C),
        sums_4H=_sum_of_all(group, sums_4H),
        std_C=std_C,
        window_mse_W=window_mse_W,
        window_mae_W=window_mae_W,
    )


def _sum_of_all(group: Group, sums: Tensor) -> Floats:
    on_cpu = sums.cpu()
    group.sum_(on_cpu)
    return on_cpu.numpy()


def _of_all(group: Group, window_means: list[Tensor]) -> Floats:
    """The mean errors of all windows, 2 x W, of this process's batches and the others'."""
    own_W2 = torch.cat([torch.zeros(2, 0, dtype=torch.float64), *(part.cpu() for part in window_means)], dim=1).T
    return group.join(own_W2).T.numpy()


def _errors(error_BH: Tensor, known_BH: Tensor | None) -> Tensor:
    """Whether a target is known (1 or 0), its squared, absolute and Huber's error; 0 for one that is not: 4 x B x H."""
    known = torch.ones_like(error_BH) if known_BH is None else known_BH.to(error_BH)
    error_BH = error_BH if known_BH is None else torch.where(known_BH.to(error_BH.device), error_BH, 0.0)
    huber_BH = huber_loss(error_BH, torch.zeros_like(error_BH), "none")
    return torch.stack([known, error_BH.square(), error_BH.abs(), huber_BH])
