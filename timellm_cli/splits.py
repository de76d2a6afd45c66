"""Which rows belong to training, validation and test. Light: standard library only.

A *row* is a line of the CSV.
"""

from dataclasses import dataclass

from timellm_cli.config import DataConfig, WindowConfig
from timellm_cli.datasets import Dataset
from timellm_cli.errors import DataError

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
