"""Rows to samples: every sample is a view of one standardised float32 array.

A window is `seq_len` rows of history and the `pred_len` rows after them; a sample is one channel of one window.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from timellm_cli.config import Config, DataConfig, WindowConfig
from timellm_cli.data.scale import Scaler
from timellm_cli.data.table import Table, read_table
from timellm_cli.datasets import data_path, known_dataset
from timellm_cli.geometry import Span, Spans, count_windows, split_rows


class Window(NamedTuple):
    """One sample, standardised, float32. `channel` is its place in the table's columns, `start` the table row it begins with."""

    history_T: Tensor
    future_H: Tensor
    channel: int
    start: int


class WindowDataset(Dataset[Window]):
    """Every window of a span, one channel after the other: item = place of the channel * windows + window.

    `values_CN` is the whole table, standardised; `channels` are the rows of it that become samples.
    """

    def __init__(
        self, values_CN: Tensor, span: Span, channels: Sequence[int], window: WindowConfig, stride: int
    ) -> None:
        self.values_CN = values_CN
        self.span = span
        self.channels = tuple(channels)
        self.window = window
        self.stride = stride
        self.windows = count_windows(span.rows, window, stride)

    def __len__(self) -> int:
        return self.windows * len(self.channels)

    def __getitem__(self, item: int) -> Window:
        if not 0 <= item < len(self):
            raise IndexError(f"sample {item} of {len(self)}")
        place, window = divmod(item, self.windows)
        channel, start = self.channels[place], self.span.start + window * self.stride
        split = start + self.window.seq_len
        row_N = self.values_CN[channel]
        return Window(row_N[start:split], row_N[split : split + self.window.pred_len], channel, start)


@dataclass(frozen=True, eq=False)
class ForecastData:
    """A table, the rows of each split, and the scaler that was fitted on the training span (or came with a checkpoint)."""

    table: Table
    scaler: Scaler
    spans: Spans
    values_CN: Tensor
    data: DataConfig
    window: WindowConfig

    def windows(self, split: str) -> WindowDataset:
        """The samples of 'train', 'val' or 'test'. MS trains on every channel and scores the target alone."""
        channels = range(len(self.table.columns))
        if self.data.features == "MS" and split != "train":
            channels = channels[-1:]
        return WindowDataset(self.values_CN, self.spans[split], channels, self.window, self.data.window_stride)


def load_data(
    config: Config, path: Path | None = None, scaler: Scaler | None = None, columns: tuple[str, ...] | None = None
) -> ForecastData:
    """Read, split and standardise the CSV of a configuration.

    `path` stands in for the configured file; `scaler` and `columns` come from a checkpoint and keep its order of channels.
    Raises DataError for a file that cannot be used or is too short, ConfigError for a dataset that is not known.
    """
    data = config.data if columns is None else config.data.model_copy(update={"columns": columns})
    table = read_table(path or data_path(data), data)
    if columns is not None:
        table = table.select(columns)
    spans = split_rows(len(table.values), known_dataset(data), data, config.window)
    if scaler is None:
        scaler = Scaler.fit(table.values[spans.scaler.start : spans.scaler.stop])
    standardised_CN = np.ascontiguousarray(scaler.standardise(table.values).T, dtype=np.float32)
    return ForecastData(table, scaler, spans, torch.from_numpy(standardised_CN), data, config.window)
