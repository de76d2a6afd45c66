"""Which rows belong to training, validation and test, and how they are known again. Light: standard library only.

A *row* is a line of the CSV.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Self

from timellm_cli.config import DataConfig, WindowConfig
from timellm_cli.datasets import Dataset
from timellm_cli.errors import DataError, listed
from timellm_cli.units import format_count

if TYPE_CHECKING:
    import polars as pl

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Span:
    """Rows `start` (included) to `stop` (excluded)."""

    start: int
    stop: int

    @property
    def rows(self) -> int:
        """How many rows it holds."""
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class Spans:
    """Which rows each split may use, of one series, counted from its first row.

    `val` and `test` start `seq_len` rows early: their first window needs a history. `scaler` is the whole training
    span, also where `percent` shortens `train`.
    """

    train: Span
    val: Span
    test: Span
    scaler: Span

    def __getitem__(self, split: str) -> Span:
        span: Span = getattr(self, split)
        return span


@dataclass(frozen=True)
class Series:
    """The series of a table (S): their ids, and which rows of the common time axis each has, without a break.

    A table without an id column is one series, whose id is empty.
    """

    ids: tuple[str, ...]
    first: tuple[int, ...]
    rows: tuple[int, ...]

    @classmethod
    def single(cls, rows: int) -> Self:
        """The series of a table without an id column."""
        return cls(("",), (0,), (rows,))

    @property
    def is_panel(self) -> bool:
        """Whether the series have ids."""
        return self.ids != ("",)

    @property
    def total(self) -> int:
        """Rows of all series together."""
        return sum(self.rows)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Where each series begins when all rows lie one series after the other."""
        return tuple(accumulate(self.rows[:-1], initial=0))

    def channel_names(self, columns: Sequence[str]) -> tuple[str, ...]:
        """Names of the channels, of the first column in every series first. Ids alone name those of a single column."""
        if not self.is_panel:
            return tuple(columns)
        if len(columns) == 1:
            return self.ids
        return tuple(f"{name} {column}" for column in columns for name in self.ids)


BORDERS = (12, 16, 20)
"""Months after which training, validation and test of the ETT datasets end."""


def split_series(series: Series, dataset: Dataset | None, data: DataConfig, window: WindowConfig) -> list[Spans]:
    """The spans of each series: 12/4/4 months for ETT, else by ratio, as the original's data sets do.

    The series of a panel are cut at the same dates: then no later row of one trains the forecast of another. The dates
    are those before which the wanted shares of all rows lie. With `split_by` 'ratio' each is cut at its own rows.
    With `folds`, the test rows are one part of them, and the rows before it train and validate (`_of_fold`).
    Raises DataError where no series has a window in a split.
    """
    if not series.is_panel:
        return [_split(series.rows[0], dataset, data, window)]
    if data.split_by == "ratio" or data.is_wide:
        borders = [_of_fold(*_cut(rows, data), rows, data) for rows in series.rows]
    else:
        train, val = _common_borders(series, data)
        end = max(first + rows for first, rows in zip(series.first, series.rows, strict=True))
        common = _of_fold(train, val, end, data)
        borders = [tuple(border - first for border in common) for first in series.first]  # type: ignore[misc]
    spans = [_spans(rows, *one, data, window) for rows, one in zip(series.rows, borders, strict=True)]
    needs = window.seq_len + window.pred_len
    for split in SPLITS:
        longest = max(one[split].rows for one in spans)
        if longest < needs:
            raise DataError(
                f"too few rows: one window needs {needs:,} (seq_len {window.seq_len} + pred_len {window.pred_len}), "
                f"but in the {split} split the longest of {len(spans):,} series has {longest:,}",
                "use longer series, a smaller --seq-len or --pred-len, or cut each series by itself: --split-by ratio"
                + _or_fewer_folds(data),
            )
    return spans


def note_on_short(series: Series, spans: Sequence[Spans], window: WindowConfig) -> list[str]:
    """A sentence on the series that have no training window, if there are any."""
    needs = window.seq_len + window.pred_len
    short = [name for name, one in zip(series.ids, spans, strict=True) if one.train.rows < needs]
    if not short or not series.is_panel:
        return []
    return [
        f"{len(short):,} of {len(spans):,} series have fewer than {needs:,} training rows and are not trained on, but "
        f"forecast where they have {window.seq_len:,} rows: {listed(short, 6)}"
    ]


def _cut(rows: int, data: DataConfig) -> tuple[int, int]:
    """After how many of `rows` rows training and validation end."""
    return int(rows * data.train_ratio), rows - int(rows * data.test_ratio)


def _of_fold(train_stop: int, val_stop: int, test_stop: int, data: DataConfig) -> tuple[int, int, int]:
    """The borders of a fold (the last one where none is named): rolling origins, trained on a growing past.

    The test rows are cut into equal parts. A fold is scored on its part, validated on as many rows as without folds,
    those right before it, and trained on all rows before these. So the first fold has the training rows of a run
    without folds.
    """
    number, tested = data.fold or data.folds, test_stop - val_stop
    start, stop = (val_stop + tested * part // data.folds for part in (number - 1, number))
    return train_stop + start - val_stop, start, stop


def _or_fewer_folds(data: DataConfig) -> str:
    return f", or fewer --folds than {data.folds}" if data.folds > 1 else ""


def _common_borders(series: Series, data: DataConfig) -> tuple[int, int]:
    """The rows of the time axis where training and validation end: the last before which at most a share of rows lie.

    For series of equal rows these are the borders of a single one.
    """
    end = max(first + rows for first, rows in zip(series.first, series.rows, strict=True))
    changes = [0] * (end + 1)
    for first, rows in zip(series.first, series.rows, strict=True):
        changes[first] += 1
        changes[first + rows] -= 1
    before = list(accumulate(accumulate(changes), initial=0))
    count, total = len(series.ids), series.total
    train = count * int(total / count * data.train_ratio)
    val = total - count * int(total / count * data.test_ratio)
    return tuple(bisect_right(before, border, hi=end + 1) - 1 for border in (train, val))  # type: ignore[return-value]


def _split(rows: int, dataset: Dataset | None, data: DataConfig, window: WindowConfig) -> Spans:
    """The spans of a table without an id column. Raises DataError where a split has too few rows for one window."""
    if dataset is not None and dataset.month_rows is not None:
        train_stop, val_stop, test_stop = (months * dataset.month_rows for months in BORDERS)
    else:
        (train_stop, val_stop), test_stop = _cut(rows, data), rows
    if test_stop > rows:
        raise DataError(
            f"{data.dataset} needs {test_stop:,} rows for its 12/4/4-month borders, but the file has {rows:,}",
            "fetch the whole file, or use --dataset custom to split by ratio",
        )
    train_stop, val_stop, test_stop = _of_fold(train_stop, val_stop, test_stop, data)
    spans = _spans(rows, train_stop, val_stop, test_stop, data, window)
    needs = window.seq_len + window.pred_len
    for split in SPLITS:
        if (has := spans[split].rows) < needs or (split != "train" and train_stop < window.seq_len):
            raise DataError(
                f"too few rows: one window needs {needs:,} (seq_len {window.seq_len} + pred_len {window.pred_len}), "
                f"but the {split} split has {max(has, 0):,} of the file's {rows:,}",
                "use a longer file, or a smaller --seq-len or --pred-len" + _or_fewer_folds(data),
            )
    return spans


def _spans(rows: int, train_stop: int, val_stop: int, test_stop: int, data: DataConfig, window: WindowConfig) -> Spans:
    """The spans of a series of `rows` rows; borders are counted from its first row, and may lie outside of it."""
    few_shot_stop = (train_stop - window.seq_len) * data.percent // 100 + window.seq_len

    def span(start: int, stop: int) -> Span:
        start = min(max(start, 0), rows)
        return Span(start, min(max(stop, start), rows))

    return Spans(
        train=span(0, few_shot_stop),
        val=span(train_stop - window.seq_len, val_stop),
        test=span(val_stop - window.seq_len, test_stop),
        scaler=span(0, train_stop),
    )


@dataclass(frozen=True)
class RowsIdentity:
    """The rows of a split without the history before them: how many, the first and the last timestamp, a digest."""

    rows: int
    first: str
    last: str
    digest: str


def identify(
    stamps: "pl.Series", frame: "pl.DataFrame", series: Series, spans: Sequence[Spans]
) -> dict[str, RowsIdentity]:
    """The identity of each split: of timestamps, and of the raw values (N, C) of all series one after the other.

    Absent values are equal.
    """

    def cells(column: "pl.Series") -> Any:
        return column.fill_null(float("nan")).to_numpy()

    # Of many series, whole columns, which is faster; else some rows at a time, which copies less.
    whole = {column.name: cells(column) for column in frame} if series.is_panel else {}
    found = {}
    for split in SPLITS:
        digest, count, first, stop = sha256(), 0, len(stamps), 0
        for name, start, offset, one in zip(series.ids, series.first, series.offsets, spans, strict=True):
            own = _without_history(one, split)
            if not own.rows:
                continue
            count, first, stop = count + own.rows, min(first, start + own.start), max(stop, start + own.stop)
            digest.update(f"{name} {start + own.start}".encode())
            rows = slice(offset + own.start, offset + own.stop)
            for column in frame:
                digest.update(column.name.encode())
                values_N = whole[column.name][rows] if whole else cells(column[rows])
                digest.update(values_N.tobytes())
        digest.update(stamps[first:stop].to_physical().to_numpy().tobytes())
        ends = (str(stamps[first]), str(stamps[stop - 1])) if count else ("", "")
        found[split] = RowsIdentity(count, *ends, digest.hexdigest()[:16])
    return found


def _without_history(spans: Spans, split: str) -> Span:
    """The rows of a split, without those before it that its first histories reach back to."""
    starts = {"train": 0, "val": spans.scaler.stop, "test": spans.val.stop}
    stops = {"train": spans.scaler.stop, "val": spans.val.stop, "test": spans.test.stop}
    return Span(starts[split], max(stops[split], starts[split]))


def differences(then: Mapping[str, RowsIdentity], now: Mapping[str, RowsIdentity]) -> Iterator[str]:
    """What differs between the rows of a training and those at hand, one sentence for each split that does."""
    for split in then:
        before, here = then[split], now[split]
        if before == here:
            continue
        if (before.rows, before.first, before.last) == (here.rows, here.first, here.last):
            yield f"{split}: the same {format_count(here.rows, 'row')}, but with other values"
        else:
            yield f"{split}: {_range(before)} then, {_range(here)} now"


def _range(identity: RowsIdentity) -> str:
    return f"{format_count(identity.rows, 'row')} from {identity.first} to {identity.last}"
