"""The first training sample of a table: its history, normalised and cut into patches as the model does it. Light.

No array library: the steps are those of `data/scale.py` and `model/time_llm.py`, and a test compares both.
"""

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from timellm_cli.config import Config, ModelConfig
from timellm_cli.counts import count_patches
from timellm_cli.datasets import known_dataset
from timellm_cli.splits import split_series

if TYPE_CHECKING:
    from timellm_cli.data.table import Table

_EPSILON = 1e-5


@dataclass(frozen=True)
class Moments:
    """A mean, and the deviation that values are divided by."""

    mean: float
    std: float


@dataclass(frozen=True)
class FirstHistory:
    """The history of the first training sample, T rows of one channel, gaps filled.

    `raw` is as in the file, `standardised` by `of_train`, the moments of the channel's training rows; `scaled` is
    window-normalised, by `of_window`, the moments of the standardised history. `first` and `last` are timestamps, or
    numbers of rows where a table has none.
    """

    channel: str
    first: str
    last: str
    raw: Sequence[float]
    standardised: Sequence[float]
    scaled: Sequence[float]
    of_train: Moments
    of_window: Moments


def first_history(table: "Table", config: Config) -> FirstHistory:
    """The history of the first window of the first channel that has one to train on."""
    from timellm_cli.data.table import fill_history

    series, window = table.series, config.window
    spans = split_series(series, known_dataset(config.data), config.data, window)
    needs = window.seq_len + window.pred_len
    number = next(number for number, one in enumerate(spans) if one.train.rows >= needs)
    begin = series.first[number]
    own = table.frame[:, :1].slice(series.offsets[number], series.rows[number])
    known = own.to_series()[: spans[number].scaler.stop].drop_nulls().to_list() or [0.0]
    mean, variance = _mean_and_variance(known)
    of_train = Moments(known[0], 1.0) if min(known) == max(known) else Moments(mean, math.sqrt(variance) or 1.0)
    raw = fill_history(own.head(window.seq_len), config.data.fill).to_series().to_list()
    standardised = array("f", ((value - of_train.mean) / of_train.std for value in raw))
    scaled, of_window = normalise(standardised)
    rows = (0, window.seq_len - 1)
    first, last = (f"row {row + 1:,}" if config.data.is_wide else str(table.stamps[begin + row]) for row in rows)
    return FirstHistory(table.channels[number], first, last, raw, standardised, scaled, of_train, of_window)


def normalise(history: Sequence[float]) -> tuple[Sequence[float], Moments]:
    """A history with mean 0 and population deviation 1, as float32 numbers, and the moments that undo it."""
    mean, variance = _mean_and_variance(history)
    moments = Moments(mean, math.sqrt(variance + _EPSILON))
    return array("f", ((value - mean) / moments.std for value in history)), moments


def _mean_and_variance(values: Sequence[float]) -> tuple[float, float]:
    """Mean and population variance."""
    mean = math.fsum(values) / len(values)
    return mean, math.fsum((value - mean) ** 2 for value in values) / len(values)


@dataclass(frozen=True)
class Patch:
    """One patch. `number` and `first` (the row of the history it begins with) count from 1.

    `values` are window-normalised; the last `padded` of them repeat the last row of the history.
    """

    number: int
    first: int
    values: Sequence[float]
    padded: int


def cut_patches(scaled: Sequence[float], model: ModelConfig) -> list[Patch]:
    """All patches of a history: it is padded on the right by `patch_stride` times its last value."""
    length, by, rows = model.patch_len, model.patch_stride, len(scaled)
    padded = [*scaled, *[scaled[-1]] * by]
    starts = (number * by for number in range(count_patches(rows, length, by)))
    return [
        Patch(number, start + 1, padded[start : start + length], min(max(start + length - rows, 0), length))
        for number, start in enumerate(starts, 1)
    ]
