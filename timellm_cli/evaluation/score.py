"""The one way to score a forecaster on a split: models and baselines, in validation and in `timellm eval`.

Every window of a split counts, so a score does not depend on the batch size. (The original code drops the last, short
batch of the test set.) Errors are summed in float64 for each channel and each step of the horizon. Every reported
error is computed from those sums.
"""

import math
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import huber_loss

from timellm_cli.data.batch import Batch
from timellm_cli.data.scale import Floats
from timellm_cli.data.windows import ForecastData, WindowDataset
from timellm_cli.evaluation.metric_sums import MetricSums, mean_sums
from timellm_cli.model.prefetch import prefetch
from timellm_cli.model.runner import Runner
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
    without a known target. `metrics` are sums for further metrics, and `bands_4W` those of each window's bands
    (`window_bands.py`), where these were counted. `folds` are the scores of each fold where these are joined.
    """

    channels: tuple[str, ...]
    windows_C: NDArray[np.int64]
    sums_4C: Floats
    sums_4H: Floats
    std_C: Floats
    window_mse_W: Floats
    window_mae_W: Floats
    metrics: MetricSums | None = None
    bands_4W: Floats | None = None
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
    bands = [one.bands_4W for one in scores if one.bands_4W is not None]
    return replace(
        scores[0],
        **means,
        bands_4W=np.mean(bands, axis=0) if len(bands) == len(scores) else None,
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
    sums = _Sums(samples, torch.from_numpy(own_std_C / std_C), data.config.window.pred_len)
    waiting: tuple[Batch, Tensor] | None = None
    numbers = number_N[own.start : own.stop].split(batch_size) if own else ()
    with torch.inference_mode(), closing(_batches(forecaster, samples, numbers)) as batches:
        for number_B, batch in zip(numbers, batches, strict=True):
            forecast_BH = forecaster(batch).double()
            error_BH = forecast_BH - batch.future_BH.to(forecast_BH.device, non_blocking=True)
            sums.add(number_B, error_BH, batch.known_BH)
            if waiting:
                _report(*waiting, on_batch, on_errors)  # may wait for the GPU, which has the next batch to work on
            waiting = batch, error_BH
        if waiting:
            _report(*waiting, on_batch, on_errors)
    sums_4C, sums_4H, window_W2 = sums.of_all(group, len(number_N))
    windows_C = samples.windows_C if limit is None else samples.windows_C.clamp(max=limit)
    return Scores(
        channels=data.scored_channels,
        windows_C=windows_C.numpy(),
        sums_4C=sums_4C.numpy(),
        sums_4H=sums_4H.numpy(),
        std_C=std_C,
        window_mse_W=window_W2[:, 0].numpy(),
        window_mae_W=window_W2[:, 1].numpy(),
    )


def _report(
    batch: Batch,
    error_BH: Tensor,
    on_batch: Callable[[int], None] | None,
    on_errors: Callable[[Batch, Tensor], None] | None,
) -> None:
    if on_errors is not None:
        on_errors(batch, error_BH)
    if on_batch is not None:
        on_batch(len(batch))


def _batches(forecaster: Forecaster, samples: WindowDataset, numbers: Sequence[Tensor]) -> Generator[Batch]:
    """The batches of these samples. For a model on a GPU, a thread prepares them while the GPU works."""
    batches = (samples.batch(number_B.tolist()) for number_B in numbers)
    if isinstance(forecaster, Runner) and forecaster.device.type == "cuda":
        return prefetch(map(forecaster.encode, batches))
    return batches


class _Sums:
    """Sums of errors over one process's samples, on the device that forecasts. Nothing waits for a GPU in between."""

    def __init__(self, samples: WindowDataset, unit_C: Tensor, pred_len: int) -> None:
        self._samples, self._unit_C = samples, unit_C
        self._sums_4C = torch.zeros(4, samples.channels, dtype=torch.float64)
        self._sums_4H = torch.zeros(4, pred_len, dtype=torch.float64)
        self._windows_2B: list[Tensor] = [torch.zeros(2, 0, dtype=torch.float64)]

    def add(self, number_B: Tensor, error_BH: Tensor, known_BH: Tensor | None) -> None:
        """Add the errors of samples."""
        device = error_BH.device
        if self._sums_4C.device != device:
            self._unit_C, self._sums_4C, self._sums_4H = (
                sums.to(device) for sums in (self._unit_C, self._sums_4C, self._sums_4H)
            )
            self._windows_2B = [part.to(device) for part in self._windows_2B]
        position_B = self._samples.position(number_B).to(device, non_blocking=True)
        errors_4BH = _errors(error_BH * self._unit_C[position_B, None], known_BH)
        of_window_4B = errors_4BH.sum(dim=2)
        self._sums_4C.index_add_(1, position_B, of_window_4B)
        self._sums_4H.add_(errors_4BH.sum(dim=1))
        self._windows_2B.append(of_window_4B[_SQUARED : _ABSOLUTE + 1] / of_window_4B[_KNOWN])

    def of_all(self, group: Group, windows: int) -> tuple[Tensor, Tensor, Tensor]:
        """The sums of all processes, by channel and by step, and the mean errors of all `windows`, W x 2.

        They are exchanged at once: each exchange has a latency.
        """
        window_W2 = torch.cat(self._windows_2B, dim=1).T
        own = torch.cat([part.flatten() for part in (self._sums_4C, self._sums_4H, window_W2)]).cpu()
        ends = [self._sums_4C.numel(), self._sums_4C.numel() + self._sums_4H.numel()]
        counts = [ends[1] + 2 * len(part) for part in group.place.parts(windows)]
        of_C, of_H, of_W = zip(*(part.tensor_split(ends) for part in group.parts(own, counts)), strict=True)
        sums_4C, sums_4H = (torch.stack(parts).sum(dim=0).view(4, -1) for parts in (of_C, of_H))
        return sums_4C, sums_4H, torch.cat(of_W).view(-1, 2)


def _errors(error_BH: Tensor, known_BH: Tensor | None) -> Tensor:
    """Whether a target is known (1 or 0), its squared, absolute and Huber's error; 0 for one that is not: 4 x B x H."""
    known = torch.ones_like(error_BH)
    if known_BH is not None:
        known_BH = known_BH.to(error_BH.device, non_blocking=True)
        known, error_BH = known_BH.to(error_BH), torch.where(known_BH, error_BH, 0.0)
    huber_BH = huber_loss(error_BH, torch.zeros_like(error_BH), "none")
    return torch.stack([known, error_BH.square(), error_BH.abs(), huber_BH])
