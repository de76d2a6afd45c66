"""The linear map in closed form with what is known of the days ahead.

A baseline of `timellm eval`, and where a model with a fitted shortcut and a day map starts from (`closed_form.py`).

Forecast = linear map of the history + one weight for each column that is known ahead, and for each number of a day's
line of text: each fact that it states, or what an LLM makes of it. A weight depends on the time of day, and on the
channel where validation finds that better. Both parts are ridge regressions on the training span, fitted in turn on
what the other leaves over (backfitting: Hastie, Tibshirani and Friedman 2009, section 9.1). The validation span chooses
their strengths and when to stop. It starts from the linear map alone, so validation never finds it worse than that. The
test span is never read.

Shapes: C scored channels, D slots of a day, L lines, K numbers of a line, F columns, I = K + F inputs (the line's
numbers, then the columns), M windows, N rows of the common time axis. Units: standardised.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from timellm_cli.data.ahead import AheadRows
from timellm_cli.data.batch import Batch
from timellm_cli.data.ridge import RIDGES, Linear
from timellm_cli.data.windows import ForecastData
from timellm_cli.model.day_map_sizes import has_own_weights
from timellm_cli.model.day_reader import training_counts
from timellm_cli.model.line_reader import facts_of, mean_of_lines, vectors_of_facts

_STRENGTHS = tuple(10.0**exponent for exponent in range(-1, 7))
"""Ridges that are tried for the days' part, in training targets."""
_MOST_ROUNDS = 10
_LEAST_GAIN = 1e-4
"""A round that improves the validation error by a smaller share is the last."""
_MOST_VALUES = {"train": 2**23, "val": 2**21}
"""Of windows at equal distances, by split."""
_AT_ONCE = 2**12


@dataclass(frozen=True, eq=False)
class LinearWithDays:
    """The linear map plus lines and columns times their weights. `samples` counts the training samples.

    `known_LK` has the numbers of each line; `shift_F` and `scale_F` standardise columns. Over the training rows these
    numbers and the standardised columns have a mean of 0. `weights_CDI` has one row where all channels share their
    weights. `first_channel` is the number of the first scored channel.
    """

    linear: Linear
    known_LK: Tensor
    shift_F: Tensor
    scale_F: Tensor
    weights_CDI: Tensor
    first_channel: int
    samples: int

    def __call__(self, batch: Batch) -> Tensor:
        """Forecasts, B x H, standardised."""
        ahead = batch.ahead
        assert ahead is not None
        known_BHI = self.known(ahead.line_BH, ahead.columns_BHF)
        channel_B1 = (batch.channel_B[:, None] - self.first_channel) % len(self.weights_CDI)
        return self.linear(batch) + (known_BHI * self.weights_CDI[channel_B1, ahead.slot_BH]).sum(dim=2)

    def known(self, line: Tensor, columns: Tensor) -> Tensor:
        """What is known of steps with these lines and raw columns: the last dimension is I."""
        return torch.cat([self.known_LK[line], self.standardised(columns)], dim=-1)

    def standardised(self, columns: Tensor) -> Tensor:
        """Raw columns in deviations of the training rows."""
        return (columns.double() - self.shift_F) / self.scale_F


def known_ahead(data: ForecastData) -> int:
    """How much a model's data know of the days ahead: columns and different lines; 0 where these are of other days."""
    if data.ahead is None or data.config.ahead.shuffle:
        return 0
    return data.ahead.columns_VF.shape[1] + (len(data.ahead.lines.lines) if data.ahead.lines else 0)


def fit_linear_facts(data: ForecastData, linear: Linear) -> LinearWithDays | None:
    """Fit it to columns and to the facts that lines state; None where a model knows nothing of the right days."""
    if data.ahead is None or not known_ahead(data):
        return None
    if data.ahead.lines is None:
        return fit_linear_days(data, linear, torch.zeros(1, 0))
    lines, counts = data.ahead.lines.lines, training_counts(data, data.ahead)
    facts_LK = vectors_of_facts(lines, facts_of(lines, counts)).double()
    return fit_linear_days(data, linear, facts_LK - mean_of_lines(facts_LK, counts))


def fit_linear_days(data: ForecastData, linear: Linear, known_LK: Tensor) -> LinearWithDays | None:
    """Fit it from the linear map on; None where nothing is known.

    `known_LK` are the numbers of each line, with a mean of 0 over the training days, and none without text.
    """
    assert data.ahead is not None
    ahead, start = data.ahead, _unfitted(data, data.ahead, linear, known_LK.double())
    if not start.weights_CDI.shape[2]:
        return None
    training, validation = _take(data, ahead, "train"), _take(data, ahead, "val")
    start = replace(start, samples=len(training.past_MT))
    shared = torch.zeros_like(start.weights_CDI[:1])
    wholes = [shared]
    if has_own_weights(*start.weights_CDI.shape):
        wholes.append(start.weights_CDI)
    fits = (_fit(replace(start, weights_CDI=weights), data, training, validation) for weights in wholes)
    return min(fits, key=lambda fit: fit[1])[0]


@dataclass(frozen=True, eq=False)
class _Windows:
    """Windows of a split, less the mean of their histories. Absent targets are 0, and not known.

    `place_MH` is each target's place in a table of rows by channel (C x N), flattened.
    """

    past_MT: Tensor
    future_MH: Tensor
    known_MH: Tensor
    place_MH: Tensor

    def sums(self, values_MH: Tensor, size: int) -> Tensor:
        """The sums of values over the known targets at each place."""
        values_MH = torch.where(self.known_MH, values_MH, 0.0)
        return torch.zeros(size, dtype=torch.float64).index_add_(0, self.place_MH.flatten(), values_MH.flatten())


def _take(data: ForecastData, ahead: AheadRows, split: str) -> _Windows:
    """Windows of a split at equal distances."""
    every = replace(data, config=data.config.with_values({"data.window_stride": 1}))
    samples, window = every.windows(split), data.config.window
    most = max(_MOST_VALUES[split] // (window.seq_len + window.pred_len), 1)
    numbers = range(0, len(samples), -(-len(samples) // most))
    ahead_H = torch.arange(window.seq_len, window.seq_len + window.pred_len)
    parts = []
    for first in range(0, len(numbers), _AT_ONCE):
        batch = samples.batch(numbers[first : first + _AT_ONCE])
        past_BT, future_BH = batch.history_BT.double(), batch.future_BH.double()
        mean_B1, known_BH = past_BT.mean(dim=1, keepdim=True), ~future_BH.isnan()
        row_BH = batch.start_B[:, None] + ahead_H
        place_BH = (batch.channel_B - samples.first_channel)[:, None] * ahead.line_GN.shape[1] + row_BH
        parts.append((past_BT - mean_B1, (future_BH - mean_B1).nan_to_num(0.0), known_BH, place_BH))
    return _Windows(*(torch.cat(part) for part in zip(*parts, strict=True)))


def _unfitted(data: ForecastData, ahead: AheadRows, linear: Linear, known_LK: Tensor) -> LinearWithDays:
    """The linear map with weights of 0 for lines and columns."""
    columns_VF = ahead.columns_VF.double()
    offsets = zip(data.table.series.offsets, data.spans, strict=True)
    training_VF = torch.cat([columns_VF[offset + one.train.start : offset + one.train.stop] for offset, one in offsets])
    shift_F = training_VF.mean(dim=0)
    scale_F = (training_VF - shift_F).square().mean(dim=0).sqrt()
    count = known_LK.shape[1] + columns_VF.shape[1]
    samples = data.windows("train")
    return LinearWithDays(
        linear=linear,
        known_LK=known_LK,
        shift_F=shift_F,
        scale_F=torch.where(scale_F > 0, scale_F, 1.0),
        weights_CDI=torch.zeros(samples.channels, ahead.clock.slots, count, dtype=torch.float64),
        first_channel=samples.first_channel,
        samples=0,
    )


def _fit(
    fit: LinearWithDays, data: ForecastData, training: _Windows, validation: _Windows
) -> tuple[LinearWithDays, float]:
    """Fit both parts in turn, and return the best with its squared error on the validation windows."""
    rows, validation_rows = _Rows(fit, data, training), _Rows(fit, data, validation)
    products = rows.products()

    def error(one: LinearWithDays, added_MH: Tensor) -> float:
        return float(torch.where(validation.known_MH, _left(one, validation) - added_MH, 0.0).square().sum())

    best, lowest = fit, error(fit, validation_rows.added(fit))
    for _ in range(_MOST_ROUNDS):
        before = lowest
        sums_CDI, left_P = rows.sums(_left(best, training)), validation.sums(_left(best, validation), rows.size)
        candidates = [replace(best, weights_CDI=_solve(products, sums_CDI, strength)) for strength in _STRENGTHS]
        days = min(candidates, key=lambda one: validation_rows.change(one, left_P))
        added_MH = validation_rows.added(days)
        for one in (days, *_refit(days, rows, training)):
            if (found := error(one, added_MH)) < lowest:
                best, lowest = one, found
        if lowest > before * (1 - _LEAST_GAIN):
            break
    return best, lowest


def _left(fit: LinearWithDays, windows: _Windows) -> Tensor:
    """What the linear map leaves over."""
    return windows.future_MH - windows.past_MT @ fit.linear.weights_TH


def _solve(products_CDII: Tensor, sums_CDI: Tensor, strength: float) -> Tensor:
    eye_II = torch.eye(sums_CDI.shape[2], dtype=torch.float64)
    return torch.linalg.solve(products_CDII + strength * eye_II, sums_CDI)


def _refit(fit: LinearWithDays, rows: "_Rows", training: _Windows) -> Iterator[LinearWithDays]:
    """The linear map fitted to what the days' part leaves over, in every strength."""
    past_MT = training.past_MT
    normal_TT = past_MT.T @ past_MT
    scale, eye_TT = float(normal_TT.trace()) / len(normal_TT) or 1.0, torch.eye(len(normal_TT), dtype=torch.float64)
    # An absent target takes the forecast, which moves from round to round.
    left_MH = training.future_MH - rows.added(fit)
    target_MH = torch.where(training.known_MH, left_MH, past_MT @ fit.linear.weights_TH)
    right_TH = past_MT.T @ target_MH
    for ridge in RIDGES:
        weights_TH = torch.linalg.solve(normal_TT + ridge * scale * eye_TT, right_TH)
        yield replace(fit, linear=Linear(weights_TH, fit.linear.samples))


class _Rows:
    """What is known of the rows that windows forecast: products and sums of it by channel and slot.

    Windows share their target rows, so all of this is counted by row, not by window. A place (P) is a row of a channel.
    """

    def __init__(self, fit: LinearWithDays, data: ForecastData, windows: _Windows) -> None:
        """`fit.weights_CDI` has the shape to fit: a row for each channel, or one row for all of them."""
        assert data.ahead is not None
        self._fit, self._windows, self._ahead, self._series = fit, windows, data.ahead, data.table.series
        self._rows = data.ahead.line_GN.shape[1]
        self._channels = data.windows("train").channels
        self.size = self._channels * self._rows
        self._count_P = windows.sums(torch.ones_like(windows.future_MH), self.size)

    def products(self) -> Tensor:
        """The sum over targets of the outer products of what is known, by channel and slot: C x D x I x I."""
        channels, slots, count = self._fit.weights_CDI.shape
        found = torch.zeros(channels, slots, count, count, dtype=torch.float64)
        for channel, row_R, line_R, columns_RF in self._hit():
            known_RI = self._fit.known(line_R, columns_RF)
            count_R = self._count_P[channel * self._rows + row_R]
            slot_R = self._ahead.slot_N[row_R]
            for slot in slot_R.unique().tolist():
                own_RI = known_RI[slot_R == slot]
                found[channel % channels, slot] += (own_RI * count_R[slot_R == slot, None]).T @ own_RI
        return found

    def sums(self, left_MH: Tensor) -> Tensor:
        """The sum over targets of what is known times what is left over: C x D x I."""
        found, sums_P = torch.zeros_like(self._fit.weights_CDI), self._windows.sums(left_MH, self.size)
        for channel, row_R, line_R, columns_RF in self._hit():
            known_RI = self._fit.known(line_R, columns_RF)
            left_R1 = sums_P[channel * self._rows + row_R, None]
            found[channel % len(found)].index_add_(0, self._ahead.slot_N[row_R], known_RI * left_R1)
        return found

    def added(self, fit: LinearWithDays) -> Tensor:
        """What lines and columns add to each target, M x H."""
        return self._table(fit)[self._windows.place_MH]

    def change(self, fit: LinearWithDays, left_P: Tensor) -> float:
        """By how much the squared error changes with the days' part; `left_P` are sums of what is left without it."""
        table_P = self._table(fit)
        return float((self._count_P * table_P.square() - 2 * left_P * table_P).sum())

    def _table(self, fit: LinearWithDays) -> Tensor:
        table_P, count = torch.zeros(self.size, dtype=torch.float64), fit.known_LK.shape[1]
        for channel, row_R, line_R, columns_RF in self._hit():
            weights_DI, slot_R = fit.weights_CDI[channel % len(fit.weights_CDI)], self._ahead.slot_N[row_R]
            added_R = (fit.known_LK @ weights_DI[:, :count].T)[line_R, slot_R]
            if columns_RF.shape[1]:
                added_R = added_R + (fit.standardised(columns_RF) * weights_DI[slot_R, count:]).sum(dim=1)
            table_P[channel * self._rows + row_R] = added_R
        return table_P

    def _hit(self) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
        """Each channel (from 0) with the rows that its windows forecast (R), their lines, and their raw columns."""
        for channel in range(self._channels):
            row_R = self._count_P[channel * self._rows : (channel + 1) * self._rows].nonzero()[:, 0]
            number = channel % len(self._series.ids)
            place_R = self._series.offsets[number] + row_R - self._series.first[number]
            group = int(self._ahead.group_C[self._fit.first_channel + channel])
            yield channel, row_R, self._ahead.line_GN[group, row_R], self._ahead.columns_VF[place_R]
