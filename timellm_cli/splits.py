"""Which rows belong to training, validation and test, and how they are known again. Light: standard library only.

A *row* is a line of the CSV.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from timellm_cli.config import DataConfig, WindowConfig
from timellm_cli.datasets import Dataset
from timellm_cli.errors import DataError
from timellm_cli.units import format_count

if TYPE_CHECKING:
    import polars as pl

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Span:
    """Rows `start` (included) to `stop` (excluded)."""

    start: int
    stop: int

    @property
    def rows(self) -> int:
        """How many rows it holds."""
        return self.stop - self.start


@dataclass(frozen=True)
class Spans:
    """Which rows each split may use. `val` and `test` start `seq_len` rows early: their first window needs a history.

    `scaler` is the whole training span, also where `percent` shortens `train`.
    """

    train: Span
    val: Span
    test: Span
    scaler: Span

    def __getitem__(self, split: str) -> Span:
        return {"train": self.train, "val": self.val, "test": self.test}[split]


BORDERS = (12, 16, 20)
"""Months after which training, validation and test of the ETT datasets end."""


def split_rows(rows: int, dataset: Dataset | None, data: DataConfig, window: WindowConfig) -> Spans:
    """Cut `rows` rows into spans: 12/4/4 months for ETT, else by ratio, as the original's data sets do.

    Raises DataError where a split has too few rows for one window.
    """
    if dataset is not None and dataset.month_rows is not None:
        train_stop, val_stop, test_stop = (months * dataset.month_rows for months in BORDERS)
    else:
        train_stop = int(rows * data.train_ratio)
        val_stop = rows - int(rows * data.test_ratio)
        test_stop = rows
    if test_stop > rows:
        raise DataError(
            f"{data.dataset} needs {test_stop:,} rows for its 12/4/4-month borders, but the file has {rows:,}",
            "fetch the whole file, or use --dataset custom to split by ratio",
        )
    few_shot_stop = (train_stop - window.seq_len) * data.percent // 100 + window.seq_len
    spans = Spans(
        train=Span(0, few_shot_stop),
        val=Span(train_stop - window.seq_len, val_stop),
        test=Span(val_stop - window.seq_len, test_stop),
        scaler=Span(0, train_stop),
    )
    for split in SPLITS:
        if (has := spans[split].rows) < (needs := window.seq_len + window.pred_len) or spans[split].start < 0:
            raise DataError(
                f"too few rows: one window needs {needs:,} (seq_len {window.seq_len} + pred_len {window.pred_len}), "
                f"but the {split} split has {max(has, 0):,} of the file's {rows:,}",
                "use a longer file, or a smaller --seq-len or --pred-len",
            )
    return spans


@dataclass(frozen=True)
class RowsIdentity:
    """The rows of a split without the history before them: how many, the first and the last timestamp, a digest."""

    rows: int
    first: str
    last: str
    digest: str


def identify(stamps: "pl.Series", frame: "pl.DataFrame", spans: Spans, seq_len: int) -> dict[str, RowsIdentity]:
    """The identity of each split of a table with timestamps (N) and raw values (N, C). Absent values are equal."""
    starts = {"train": 0, "val": spans.val.start + seq_len, "test": spans.test.start + seq_len}
    stops = {"train": spans.scaler.stop, "val": spans.val.stop, "test": spans.test.stop}
    found = {}
    for split in SPLITS:
        part, length = slice(starts[split], stops[split]), stops[split] - starts[split]
        digest = sha256(stamps[part].to_physical().to_numpy().tobytes())
        for column in frame:
            digest.update(column.name.encode())
            digest.update(column[part].fill_null(float("nan")).to_numpy().tobytes())
        first, last = stamps[starts[split]], stamps[stops[split] - 1]
        found[split] = RowsIdentity(length, str(first), str(last), digest.hexdigest()[:16])
    return found


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
