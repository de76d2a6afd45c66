"""Rows to samples: one standardised float32 array, and the windows of each split that are read from it.

A window is `seq_len` rows of history and the `pred_len` rows after them. A sample is one channel of one window.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import torch
from torch import Tensor

from timellm_cli.config import Config, WindowConfig
from timellm_cli.counts import count_windows
from timellm_cli.data.ahead import AheadRows, TrainedChannels, read_ahead
from timellm_cli.data.batch import Batch
from timellm_cli.data.day_axis import Clock
from timellm_cli.data.read_table import read_table
from timellm_cli.data.scale import Scaler, require_computable
from timellm_cli.data.table import Table, constant_columns
from timellm_cli.datasets import data_path, known_dataset, remedy_for_data
from timellm_cli.errors import DataError, listed
from timellm_cli.splits import RowsIdentity, Series, Span, Spans, identify, note_on_short, split_series


class WindowDataset:
    """Every window of a split, channel by channel: those of the first channel have the first numbers.

    `values_KV` are all rows of the table, standardised, NaN where there is no value: a column (K) at a time, and in it
    one series after the other. They are not copied. `channels` counts the channels (the last ones of the table),
    `windows_C` the windows of each. Histories are filled as `fill` says. `names` are those of all channels, or empty
    where no prompt needs them.
    """

    def __init__(
        self,
        values_KV: Tensor,
        series: Series,
        spans: Sequence[Span],
        columns: int,
        window: WindowConfig,
        stride: int,
        fill: str = "none",
        zero_C: Tensor | None = None,
        names: tuple[str, ...] = (),
        ahead: AheadRows | None = None,
    ) -> None:
        """`spans` are the rows of the split in each series; the last `columns` columns are used. `zero_C` is the raw 0
        of each channel of the table. `ahead` is what is known of the rows.
        """
        self.values_KV, self.window, self.stride, self.fill, self.names = values_KV, window, stride, fill, names
        self.ahead = ahead
        count, (all_columns, total) = len(series.ids), values_KV.shape
        self.channels = count * columns
        self.first_channel = count * (all_columns - columns)
        self.zero_C = torch.zeros(count * all_columns) if zero_C is None else zero_C
        self.has_gaps = fill != "none" and bool(values_KV.isnan().any())
        starts_S = torch.tensor([span.start for span in spans])
        column_K1 = torch.arange(all_columns - columns, all_columns)[:, None] * total
        self._first_C = (column_K1 + torch.tensor(series.offsets) + starts_S).flatten()
        self._row_C = (torch.tensor(series.first) + starts_S).repeat(columns)
        self.windows_C = torch.tensor([count_windows(span.rows, window, stride) for span in spans]).repeat(columns)
        self._end_C = self.windows_C.cumsum(0)
        self._flat_V = values_KV.view(-1)

    @property
    def windows(self) -> int:
        """The windows of the channel that has the most."""
        return int(self.windows_C.max())

    def __len__(self) -> int:
        return int(self._end_C[-1])

    def numbers(self, limit: int | None = None) -> Tensor:
        """The numbers of all samples, or of the first `limit` of each channel."""
        if limit is None:
            return torch.arange(len(self))
        counts_C = self.windows_C.clamp(max=limit)
        begin_C = (self._end_C - self.windows_C).repeat_interleave(counts_C)
        before_C = (counts_C.cumsum(0) - counts_C).repeat_interleave(counts_C)
        return begin_C + torch.arange(len(begin_C)) - before_C

    def position(self, sample_B: Tensor) -> Tensor:
        """Which of the scored channels each sample belongs to, counted from 0."""
        return torch.searchsorted(self._end_C, sample_B, right=True)

    def batch(self, samples: Sequence[int]) -> Batch:
        """The samples with these numbers, copied out of the table, without a prompt.

        Raises IndexError for a number that no sample has.
        """
        sample_B = torch.as_tensor(samples, dtype=torch.int64)
        if len(sample_B) and not 0 <= int(sample_B.min()) <= int(sample_B.max()) < len(self):
            raise IndexError(f"samples {int(sample_B.min())} to {int(sample_B.max())} of {len(self)}")
        position_B = self.position(sample_B)
        moved_B = (sample_B - (self._end_C - self.windows_C)[position_B]) * self.stride
        first_B, channel_B = self._first_C[position_B] + moved_B, position_B + self.first_channel
        seq_len, pred_len = self.window.seq_len, self.window.pred_len
        history_BT = self._flat_V.unfold(0, seq_len, 1)[first_B]
        future_BH = self._flat_V.unfold(0, pred_len, 1)[first_B + seq_len]
        names = tuple(self.names[channel] for channel in channel_B.tolist()) if self.names else ()
        row_B, ahead = self._row_C[position_B] + moved_B, None
        if self.ahead is not None:
            place_B = first_B % self.values_KV.shape[1]
            ahead = self.ahead.batch(row_B, place_B, channel_B, seq_len, pred_len)
        batch = Batch(history_BT, future_BH, channel_B, row_B, series=names, ahead=ahead)
        if not self.has_gaps:
            return batch
        history_BT = fill_histories(history_BT, self.fill, self.zero_C[channel_B])
        return replace(batch, history_BT=history_BT, known_BH=~future_BH.isnan())


@dataclass(frozen=True, eq=False)
class ForecastData:
    """A table, the rows of each split in each series, and the scaler: fitted on the training rows, or a checkpoint's.

    `values_KV` are the values of all series, one after the other, a column (K) at a time: standardised, in float32, NaN
    where there is none. The raw ones are freed: the frame of `table` is empty. `warnings` are the notes on the table
    and on the training rows. `identity` says which rows these are, by split; `ahead` what is known of the steps
    ahead.
    """

    table: Table
    scaler: Scaler
    spans: tuple[Spans, ...]
    values_KV: Tensor
    config: Config
    warnings: tuple[str, ...]
    identity: dict[str, RowsIdentity]
    ahead: AheadRows | None = None

    @property
    def scored_columns(self) -> int:
        """How many of the last value columns are scored: the target alone where `features` is MS, else all."""
        return 1 if self.config.data.features == "MS" else len(self.table.columns)

    @property
    def scored_channels(self) -> tuple[str, ...]:
        """Names of the channels that are scored."""
        return self.table.channels[-self.scored_columns * len(self.table.series.ids) :]

    def windows(self, split: str) -> WindowDataset:
        """The samples of 'train', 'val' or 'test' to score."""
        return self._windows(split, self.scored_columns)

    def training_windows(self) -> WindowDataset:
        """The samples to train on: of every column, also where `features` is MS."""
        return self._windows("train", len(self.table.columns))

    def _windows(self, split: str, columns: int) -> WindowDataset:
        data, channels = self.config.data, self.table.channels
        zero_C = torch.from_numpy(self.scaler.standardise(np.zeros(len(channels)))).float()
        names = channels if "{series}" in self.config.prompt.template else ()
        spans = [one[split] for one in self.spans]
        return WindowDataset(
            self.values_KV, self.table.series, spans, columns, self.config.window, data.window_stride, data.fill,
            zero_C, names, self.ahead,
        )  # fmt: skip


def load_data(
    config: Config,
    scaler: Scaler | None = None,
    columns: tuple[str, ...] | None = None,
    ids: Sequence[str] | None = None,
    clock: Clock | None = None,
) -> ForecastData:
    """Read, split and standardise the CSV of a configuration.

    `scaler`, `columns`, the series' `ids` and the `clock` are a checkpoint's, in the same order; a series that the
    checkpoint does not know has a scaler of its own. Raises DataError for a file that cannot be used, is too short or
    holds values too large to compute with, ConfigError for an unknown dataset.
    """
    data = config.data if columns is None else config.data.model_copy(update={"columns": columns})
    path = data_path(data)
    if data.path is None and not path.exists():
        raise DataError(f"the data of {data.dataset} are not here: no file '{path}'", remedy_for_data(data))
    table = read_table(path, data)
    if columns is not None:
        table = table.select(columns)
    ahead, series = read_ahead(table, config, clock, in_training=scaler is None), table.series
    if ahead is not None:
        trained = TrainedChannels.of(columns or table.columns, ids or series.ids, data.features)
        ahead = ahead.with_channels_of(table.columns, series.ids, trained)
    spans = split_series(series, known_dataset(data), data, config.window)
    parts = [
        _rows_to_fit(one, offset, rows, config.window)
        for one, offset, rows in zip(spans, series.offsets, series.rows, strict=True)
    ]
    if scaler is None:
        scaler = Scaler.fit(table.frame, parts)
    elif ids is not None and tuple(ids) != series.ids:
        scaler = Scaler.fit(table.frame, parts).with_known(scaler, table.columns, series.ids, ids)
    warnings = (*table.notes, *_warn(table, parts), *note_on_short(series, spans, config.window))
    warnings += ahead.notes if ahead else ()
    identity = identify(table.stamps, table.frame, series, spans)
    raw = table.frame.get_columns()
    table = replace(table, frame=table.frame.clear())
    values_KV = _standardise(raw, series, scaler, str(path))
    return ForecastData(table, scaler, tuple(spans), values_KV, config, warnings, identity, ahead)


def _rows_to_fit(spans: Spans, offset: int, rows: int, window: WindowConfig) -> Span:
    """The rows that a series' scaler is fitted on: its training rows, or its first history where it has none.

    That history is before all of its targets.
    """
    span = spans.scaler if spans.scaler.rows else Span(0, min(window.seq_len, rows))
    return Span(offset + span.start, offset + span.stop)


def _standardise(columns: list[pl.Series], series: Series, scaler: Scaler, name: str) -> Tensor:
    """The values standardised (K, V). Frees the columns one by one, so that memory never holds both."""
    # Not np.empty: its huge pages are all allocated with the first rows.
    values_KV, count = torch.empty((len(columns), series.total), dtype=torch.float32), len(series.ids)
    for place in range(len(columns)):
        column = columns.pop(0)
        own = slice(place * count, (place + 1) * count)
        values_N = column.to_numpy()
        bounds = zip(series.offsets, series.rows, scaler.mean_C[own].tolist(), scaler.std_C[own].tolist(), strict=True)
        for number, (offset, rows, mean, std) in enumerate(bounds):
            standardised_N = (values_N[offset : offset + rows] - mean) / std
            require_computable(standardised_N, _name(series, number, column.name), name)
            values_KV[place, offset : offset + rows] = torch.from_numpy(standardised_N)
    return values_KV


def _name(series: Series, number: int, column: str) -> str:
    return f"{column}' of '{series.ids[number]}" if series.is_panel else column


def _warn(table: Table, parts: Sequence[Span]) -> list[str]:
    """Notes on the channels that are constant in the training rows."""
    pieces = (column[part.start : part.stop] for column in table.frame for part in parts)
    constant = [name for name, piece in zip(table.channels, pieces, strict=True) if piece.min() == piece.max()]
    names = [name for name in constant if name not in constant_columns(table.frame)]
    return [f"constant in the training rows, so there is nothing to learn from: {listed(names, 6)}"] if names else []


def fill_histories(history_BT: Tensor, how: str, zero_B: Tensor) -> Tensor:
    """What `fill_history` (`data/table.py`) does, for many histories (B x T) with NaN for what is absent.

    `zero_B` is the raw 0 of each, in the units of the histories.
    """
    known_BT = ~history_BT.isnan()
    if how == "zero":
        return torch.where(known_BT, history_BT, zero_B[:, None])
    length = history_BT.shape[1]
    place_T = torch.arange(length)
    before_BT = torch.where(known_BT, place_T, -1).cummax(dim=1).values
    after_BT = torch.where(known_BT, place_T, length).flip(1).cummin(dim=1).values.flip(1)
    left_BT = torch.where(before_BT >= 0, before_BT, after_BT).clamp(max=length - 1)
    right_BT = torch.where(after_BT < length, after_BT, left_BT) if how == "linear" else left_BT
    low_BT, high_BT = history_BT.gather(1, left_BT), history_BT.gather(1, right_BT)
    share_BT = (place_T - left_BT).to(low_BT) / (right_BT - left_BT).clamp(min=1)
    filled_BT = low_BT + (high_BT - low_BT) * share_BT.clamp(0, 1)
    return torch.where(known_BT, history_BT, filled_BT).nan_to_num(0.0)  # 0: the mean of the training rows
