"""Rows to samples: one standardised float32 array, and the windows of each split that are read from it.

A window is `seq_len` rows of history and the `pred_len` rows after them. A sample is one channel of one window.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from timellm_cli.config import Config, WindowConfig
from timellm_cli.counts import count_windows
from timellm_cli.data.batch import Batch
from timellm_cli.data.scale import Floats, Scaler, require_computable
from timellm_cli.data.table import Table, constant_columns, read_table
from timellm_cli.datasets import data_path, known_dataset, remedy_for_data
from timellm_cli.errors import DataError
from timellm_cli.splits import Span, Spans, split_rows

_PIECE_VALUES = 2**18


class WindowDataset:
    """Every window of a span, channel by channel: the number of a sample is channel * `windows` + window.

    `values_CN` is the whole table, standardised; it is not copied. `channels` counts the channels, which are the last
    ones of the table. `windows` counts the windows of one channel.
    """

    def __init__(self, values_CN: Tensor, span: Span, channels: int, window: WindowConfig, stride: int) -> None:
        self.values_CN = values_CN
        self.span = span
        self.channels = channels
        self.window = window
        self.stride = stride
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
        return Batch(history_BT, future_BH, channel_B, start_B)


@dataclass(frozen=True, eq=False)
class ForecastData:
    """A table, the rows of each split, and the scaler: fitted on the training span, or a checkpoint's.

    `values_CN` are the values, standardised, in float32. The raw ones are freed: `table` has no blocks. `warnings` are
    those of the table and of the training rows.
    """

    table: Table
    scaler: Scaler
    spans: Spans
    values_CN: Tensor
    config: Config
    warnings: tuple[str, ...]

    def windows(self, split: str) -> WindowDataset:
        """The samples of 'train', 'val' or 'test' to score: of the target alone where `features` is MS."""
        return self._windows(split, 1 if self.config.data.features == "MS" else len(self.table.columns))

    def training_windows(self) -> WindowDataset:
        """The samples to train on: of every channel, also where `features` is MS."""
        return self._windows("train", len(self.table.columns))

    def _windows(self, split: str, channels: int) -> WindowDataset:
        stride = self.config.data.window_stride
        return WindowDataset(self.values_CN, self.spans[split], channels, self.config.window, stride)


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
    spans = split_rows(len(table.timestamps), known_dataset(data), data, config.window)
    training = _cut(table.blocks, spans.scaler)
    if scaler is None:
        scaler = Scaler.fit(*training)
    warnings = (*table.warnings, *_warn(table, training))
    del training  # views that would keep the blocks
    return ForecastData(table, scaler, spans, _standardise(table, scaler, str(path)), config, warnings)


def _cut(blocks: Sequence[Floats], span: Span) -> list[Floats]:
    """The rows of a span as small views, so that what is computed of each takes little memory."""
    pieces, before = [], 0
    for block_NC in blocks:
        rows_NC = block_NC[max(span.start - before, 0) : max(span.stop - before, 0)]
        pieces += [rows_NC[rows] for rows in _slices(rows_NC)]
        before += len(block_NC)
    return pieces


def _slices(values_NC: Floats) -> list[slice]:
    rows = max(_PIECE_VALUES // values_NC.shape[1], 1)
    return [slice(start, start + rows) for start in range(0, len(values_NC), rows)]


def _standardise(table: Table, scaler: Scaler, name: str) -> Tensor:
    """The values standardised (C, N). Frees the table's blocks one by one, so that memory never holds both."""
    # Not np.empty: its huge pages are all allocated with the first rows.
    values_CN = torch.empty((len(table.columns), len(table.timestamps)), dtype=torch.float32)
    start = 0
    while table.blocks:
        block_NC = table.blocks.pop(0)
        for rows in _slices(block_NC):
            standardised_NC = scaler.standardise(block_NC[rows])
            require_computable(standardised_NC, table.columns, name)
            values_CN[:, start : start + len(standardised_NC)] = torch.from_numpy(standardised_NC).T
            start += len(standardised_NC)
    return values_CN


def _warn(table: Table, training: Sequence[Floats]) -> list[str]:
    constant = set(constant_columns(training, table.columns)) - set(constant_columns(table.blocks, table.columns))
    names = [name for name in table.columns if name in constant]
    return [f"constant in the training rows, so there is nothing to learn from: {', '.join(names)}"] if names else []
