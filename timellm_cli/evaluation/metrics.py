"""The errors that people know besides MSE and MAE: RMSE, MASE, sMAPE and WQL, in standardised and in the CSV's units.

For a channel with targets y and forecasts f, where targets are known:

- RMSE is the root of the MSE.
- MASE is the MAE divided by that of the seasonal naive forecast, one season ahead, over the training rows (Hyndman and
  Koehler, Another look at measures of forecast accuracy, 2006). Without a season, by the mean step from row to row.
- sMAPE is the mean of 200 |y - f| / (|y| + |f|) in the CSV's units, in percent; 0 where both are 0 (M3 competition).
- WQL, the weighted quantile loss, is 2 sum L_q(y) / sum |y|, as a mean over quantiles q, with the pinball loss L_q. The
  quantiles are the forecast itself (.5) and the ends of its bands up to 90 %.

Of several channels or series each weighs the same, and one without a denominator is left out. Standardised errors are
over all values alike, as papers report them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from timellm_cli.data.batch import Batch
from timellm_cli.data.scale import Floats
from timellm_cli.data.windows import ForecastData
from timellm_cli.errors import listed
from timellm_cli.evaluation.bands import Intervals
from timellm_cli.evaluation.metric_sums import MetricSums
from timellm_cli.processes.group import Group, sum_all

HIGHEST_LEVEL = 90
"""Of the bands whose ends are quantiles, in percent: .05 to .95."""


@dataclass(frozen=True)
class Metrics:
    """Figures of one channel, or the means of several. None where it cannot be computed: without bands, or a
    denominator of 0.

    `rmse` and `wql` are standardised, `_raw` figures in the CSV's units; `mase` and `smape` (percent) have no unit.
    """

    rmse: float | None
    mase: float | None
    smape: float | None
    wql: float | None
    mse_raw: float | None
    mae_raw: float | None
    rmse_raw: float | None
    wql_raw: float | None


class MetricCount:
    """Sums what the metrics need while `score` runs: pass `add` to it as `on_errors`."""

    def __init__(self, data: ForecastData, seasonal_C: Floats, intervals: Intervals | None) -> None:
        """`seasonal_C` are `seasonal_errors` of the data; `intervals` are the forecaster's bands, where it has any."""
        self._count = len(data.scored_channels)
        self._first = len(data.table.channels) - self._count
        self._mean_C = torch.from_numpy(data.scaler.mean_C[self._first :])
        self._std_C = torch.from_numpy(data.scaler.std_C[self._first :])
        self._seasonal_C, self._intervals = seasonal_C, intervals
        self._row_C = None if intervals is None else intervals.rows_of(data.table)
        self._sums_5C = torch.zeros(5, self._count, dtype=torch.float64)
        self._raw_4C = torch.zeros(4, self._count, dtype=torch.float64)

    def add(self, batch: Batch, error_BH: Tensor) -> None:
        """Add the errors of a batch (forecast less future, standardised; NaN for an absent target)."""
        error_BH, target_BH = error_BH.double().cpu(), batch.future_BH.double().cpu()
        channel_B = batch.channel_B - self._first
        std_B1, mean_B1 = self._std_C[channel_B, None], self._mean_C[channel_B, None]
        raw_target_BH, raw_error_BH = target_BH * std_B1 + mean_B1, error_BH * std_B1
        both_BH = raw_target_BH.abs() + (raw_target_BH + raw_error_BH).abs()
        symmetric_BH = torch.where(both_BH > 0, 200 * raw_error_BH.abs() / both_BH, torch.zeros_like(both_BH))
        unknown_BH = error_BH.isnan()
        parts = [~unknown_BH, error_BH.abs(), symmetric_BH, self._quantile(batch, error_BH), target_BH.abs()]
        raw = [raw_error_BH.square(), raw_error_BH.abs(), parts[3] * std_B1, raw_target_BH.abs()]
        self._sums_5C.index_add_(1, channel_B, _sums(parts, unknown_BH))
        self._raw_4C.index_add_(1, channel_B, _sums(raw, unknown_BH))

    def _quantile(self, batch: Batch, error_BH: Tensor) -> Tensor:
        """Twice the pinball loss of each value, a mean over the quantiles; of the median it is the absolute error."""
        if self._intervals is None or self._row_C is None:
            return torch.full_like(error_BH, torch.nan)
        levels = [level for level in self._intervals.levels if level <= HIGHEST_LEVEL]
        loss_BH = error_BH.abs()
        for level in levels:
            half_BH = self._intervals.around(level, batch.history_BT, self._row_C[batch.channel_B])
            for end_BH, quantile in ((error_BH + half_BH, 0.5 + level / 200), (error_BH - half_BH, 0.5 - level / 200)):
                loss_BH = loss_BH + 2 * torch.maximum(-quantile * end_BH, (1 - quantile) * end_BH)
        return loss_BH / (1 + 2 * len(levels))

    def result(self, group: Group | None = None) -> MetricSums:
        """The sums of all processes of a `group`."""
        sum_all(group or Group(), self._sums_5C, self._raw_4C)
        known_C, absolute_C, symmetric_C, quantile_C, target_C = self._sums_5C.numpy()
        raw_squared_C, raw_absolute_C, raw_quantile_C, raw_target_C = self._raw_4C.numpy()
        if self._intervals is None:
            quantile_C = raw_quantile_C = np.full_like(quantile_C, np.nan)
        with np.errstate(divide="ignore", invalid="ignore"):
            scaled_C = np.where(self._seasonal_C > 0, absolute_C / self._seasonal_C, np.nan)
        return MetricSums(
            known_C, scaled_C, symmetric_C, quantile_C, target_C, raw_squared_C, raw_absolute_C, raw_quantile_C,
            raw_target_C,
        )  # fmt: skip


def _sums(parts: Sequence[Tensor], unknown_BH: Tensor) -> Tensor:
    """The sum of each part over the known values of each sample, (parts, B)."""
    return torch.stack([part.double().masked_fill(unknown_BH, 0.0).sum(dim=1) for part in parts])


def seasonal_errors(data: ForecastData, period: int) -> Floats:
    """The mean absolute difference of training rows `period` rows apart, of each scored channel (C), standardised.

    NaN where no two such rows are known.
    """
    count, found = len(data.table.series.ids), []
    for channel in range(len(data.table.channels) - len(data.scored_channels), len(data.table.channels)):
        column, number = divmod(channel, count)
        span, offset = data.spans[number].scaler, data.table.series.offsets[number]
        values_N = data.values_KV[column, offset + span.start : offset + span.stop]
        moved_N = (values_N[period:] - values_N[:-period]).abs()
        known_N = moved_N[~moved_N.isnan()]
        found.append(float(known_N.double().mean()) if len(known_N) else np.nan)
    return np.array(found)


def metrics_of_channels(sums: MetricSums, mse_C: Sequence[float]) -> list[Metrics]:
    """The metrics of each channel. `mse_C` are their standardised mean squared errors."""
    known_C = sums.known_C
    mse_raw_C = _divide(sums.raw_squared_C, known_C)
    columns = (
        np.sqrt(np.array(mse_C)),
        _divide(sums.scaled_C, known_C),
        _divide(sums.symmetric_C, known_C),
        _divide(sums.quantile_C, sums.target_C),
        mse_raw_C,
        _divide(sums.raw_absolute_C, known_C),
        np.sqrt(mse_raw_C),
        _divide(sums.raw_quantile_C, sums.raw_target_C),
    )
    return [Metrics(*map(_known, row)) for row in zip(*(column.tolist() for column in columns), strict=True)]


def mean_metrics(sums: MetricSums, channels: Sequence[Metrics], mse: float) -> Metrics:
    """The metrics of all channels: means of those that have them, each channel with the same weight.

    `rmse` is the root of `mse`, and `wql` is over all values alike, as standardised errors are.
    """
    means = {one.name: _mean(getattr(channel, one.name) for channel in channels) for one in fields(Metrics)}
    wql = float(_divide(sums.quantile_C.sum(), sums.target_C.sum()))
    return Metrics(**{**means, "rmse": _known(float(np.sqrt(mse))), "wql": _known(wql)})


def note_on_left_out(names: Sequence[str], channels: Sequence[Metrics]) -> Iterator[str]:
    """A sentence on the channels that MASE leaves out."""
    absent = [name for name, one in zip(names, channels, strict=True) if one.mase is None and one.mae_raw is not None]
    if absent:
        yield (
            f"MASE leaves out {len(absent):,} of {len(names):,} channels, whose training rows do not change from one "
            f"season to the next: {listed(absent, 6)}"
        )


def _divide(above: Floats, below: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        quotient: Floats = np.where(np.asarray(below) > 0, above / below, np.nan)
    return quotient


def _known(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _mean(values: Iterator[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
