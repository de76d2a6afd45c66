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
from timellm_cli.data.batch import Batch
from timellm_cli.data.scale import Scaler, require_computable
from timellm_cli.data.table import Table, constant_columns, read_table
from timellm_cli.datasets import data_path, known_dataset, remedy_for_data
from timellm_cli.errors import DataError
from timellm_cli.splits import RowsIdentity, Span, Spans, identify, split_rows


class WindowDataset:
    """Every window of a span, channel by channel: the number of a sample is channel * `windows` + window.

    `values_CN` is the whole table, standardised, NaN where there is no value; it is not copied. `channels` counts the
    channels, which are the last ones of the table. `windows` counts the windows of one channel. Histories are filled as
    `fill` says, with the raw 0 of each channel at `zero_C`.
    """

    def __init__(
        self,
        values_CN: Tensor,
        span: Span,
        channels: int,
        window: WindowConfig,
        stride: int,
        fill: str = "none",
        zero_C: Tensor | None = None,
    ) -> None:
        self.values_CN = values_CN
        self.span = span
        self.channels = channels
        self.window = window
        self.stride = stride
        self.fill = fill
        self.zero_C = torch.zeros(len(values_CN)) if zero_C is None else zero_C
        self.has_gaps = fill != "none" and bool(values_CN.isnan().any())
        self.windows = count_windows(span.rows, window, stride)

    def __len__(self) -> int:
        return self.windows * self.channels

    def batch(self, samples: Sequence[int]) -> Batch:
        """The samples with these numbers, copied out of the table, without a prompt.

        Raises IndexError for a number that no sample has.
        """
        sample_B = torch.as_tensor(samples, dtype=torch.int64)
        if len(sample_B) and not 0 <= int(sample_B.min()) <= int(sample_B.max()) < len(self):
            raise IndexError(f"samples {int(sample_B.min())} to {int(sample_B.max())} of {len(self)}")
        channel_B = sample_B // self.windows + (len(self.values_CN) - self.channels)
        start_B = sample_B % self.windows * self.stride + self.span.start
        seq_len, pred_len = self.window.seq_len, self.window.pred_len
        history_BT = self.values_CN.unfold(1, seq_len, 1)[channel_B, start_B]
        future_BH = self.values_CN.unfold(1, pred_len, 1)[channel_B, start_B + seq_len]
        if not self.has_gaps:
            return Batch(history_BT, future_BH, channel_B, start_B)
        history_BT = fill_histories(history_BT, self.fill, self.zero_C[channel_B])
        return Batch(history_BT, future_BH, channel_B, start_B, known_BH=~future_BH.isnan())


@dataclass(frozen=True, eq=False)
class ForecastData:
    """A table, the rows of each split, and the scaler: fitted on the training span, or a checkpoint's.

    `values_CN` are the values, standardised, in float32, NaN where there is none. The raw ones are freed: the frame of
    `table` is empty. `warnings` are the notes on the table and on the training rows. `identity` says which rows these
    are, by split.
    """

    table: Table
    scaler: Scaler
    spans: Spans
    values_CN: Tensor
    config: Config
    warnings: tuple[str, ...]
    identity: dict[str, RowsIdentity]

    def windows(self, split: str) -> WindowDataset:
        """The samples of 'train', 'val' or 'test' to score: of the target alone where `features` is MS."""
        return self._windows(split, 1 if self.config.data.features == "MS" else len(self.table.columns))

    def training_windows(self) -> WindowDataset:
        """The samples to train on: of every channel, also where `features` is MS."""
        return self._windows("train", len(self.table.columns))

    def _windows(self, split: str, channels: int) -> WindowDataset:
        data = self.config.data
        zero_C = torch.from_numpy(self.scaler.standardise(np.zeros(len(self.table.columns)))).float()
        return WindowDataset(
            self.values_CN, self.spans[split], channels, self.config.window, data.window_stride, data.fill, zero_C
        )


def load_data(config: Config, scaler: Scaler | None = None, columns: tuple[str, ...] | None = None) -> ForecastData:
    """Read, split and standardise the CSV of a configuration.

    `scaler` and `columns` are a checkpoint's, in the same order. Raises DataError for a file that cannot be used, is
    too short or holds values too large to compute with, ConfigError for an unknown dataset.
    """
    data = config.data if columns is None else config.data.model_copy(update={"columns": columns})
    path = data_path(data)
    if data.path is None and not path.exists():
        raise DataError(f"the data of {data.dataset} are not here: no file '{path}'", remedy_for_data(data))
    table = read_table(path, data)
    if columns is not None:
        table = table.select(columns)
    spans = split_rows(len(table.stamps), known_dataset(data), data, config.window)
    training = table.frame[spans.scaler.start : spans.scaler.stop]
    if scaler is None:
        scaler = Scaler.fit(training)
    warnings = (*table.notes, *_warn(table, training))
    identity = identify(table.stamps, table.frame, spans, config.window.seq_len)
    raw = table.frame.get_columns()
    table = replace(table, frame=table.frame.clear())
    del training  # a view that would keep all values
    return ForecastData(table, scaler, spans, _standardise(raw, scaler, str(path)), config, warnings, identity)


def _standardise(columns: list[pl.Series], scaler: Scaler, name: str) -> Tensor:
    """The values standardised (C, N). Frees the columns one by one, so that memory never holds both."""
    # Not np.empty: its huge pages are all allocated with the first rows.
    values_CN = torch.empty((len(columns), len(columns[0])), dtype=torch.float32)
    for channel in range(len(columns)):
        column = columns.pop(0)
        standardised_N = (column.to_numpy() - scaler.mean_C[channel]) / scaler.std_C[channel]
        require_computable(standardised_N, column.name, name)
        values_CN[channel] = torch.from_numpy(standardised_N)
    return values_CN


def _warn(table: Table, training: pl.DataFrame) -> list[str]:
    constant = set(constant_columns(training)) - set(constant_columns(table.frame))
    names = [name for name in table.columns if name in constant]
    return [f"constant in the training rows, so there is nothing to learn from: {', '.join(names)}"] if names else []


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
