"""The one place that counts rows, windows, samples, steps, patches and tokens. Light: standard library only.

Words, once for the whole project. A *row* is a line of the CSV. A *window* is `seq_len` rows of history and the
`pred_len` rows after them. A *sample* is one column of one window. A *batch* is `batch_size` samples; one batch is one
*step* (= one iteration). A *patch* is `patch_len` rows of a sample's history. The data loaders and the model assert
against these counts.
"""

from dataclasses import dataclass

from timellm_cli.config import Config, TrainConfig, WindowConfig
from timellm_cli.datasets import Dataset
from timellm_cli.errors import DataError
from timellm_cli.splits import SPLITS, Series, split_series


def count_windows(rows: int, window: WindowConfig, window_stride: int) -> int:
    """Windows that fit into `rows` consecutive rows when each starts `window_stride` rows after the last."""
    last_start = rows - window.seq_len - window.pred_len
    return last_start // window_stride + 1 if last_start >= 0 else 0


def count_patches(seq_len: int, patch_len: int, patch_stride: int) -> int:
    """Patches of a history that is padded by one stride: (T - L) // stride + 2 (the original's `patch_nums`)."""
    return (seq_len - patch_len) // patch_stride + 2


@dataclass(frozen=True)
class SplitCount:
    """Rows (the history that reaches back included) and windows of all series, and samples of one split."""

    rows: int
    windows: int
    samples: int


@dataclass(frozen=True)
class RunCounts:
    """What a run amounts to.

    `channels` are what becomes samples: the columns, of each series. `series` counts these, None for a table without
    an id column. `dataset_len` = training windows of all series x columns.
    """

    channels: int
    series: int | None
    train: SplitCount
    val: SplitCount
    test: SplitCount
    batch_size: int
    steps_per_epoch: int
    total_steps: int
    samples_dropped_per_epoch: int
    optimizer_updates: int
    step_checkpoints_written: int
    step_checkpoints_kept: int
    patch_nums: int
    patches_per_step: int

    @property
    def dataset_len(self) -> int:
        """Training samples: windows x columns."""
        return self.train.samples

    @property
    def windows(self) -> int:
        """Training windows of one column."""
        return self.train.windows


def count_run(series: Series, columns: int, dataset: Dataset | None, config: Config) -> RunCounts:
    """Count everything a configuration amounts to on these series with `columns` value columns each.

    Raises DataError where a split has too few rows for a window, or the training split for a batch.
    """
    data, window, model, train = config.data, config.window, config.model, config.train
    spans = split_series(series, dataset, data, window)
    columns = 1 if data.features == "S" else columns
    scored = 1 if data.features == "MS" else columns
    counts = {}
    for split in SPLITS:
        windows = sum(count_windows(one[split].rows, window, data.window_stride) for one in spans)
        rows = sum(one[split].rows for one in spans)
        counts[split] = SplitCount(rows, windows, windows * (columns if split == "train" else scored))
    steps = steps_per_epoch(counts["train"].samples, train)
    total = count_total_steps(steps, train)
    written = total // config.run.save_steps if config.run.save_steps else 0
    patches = count_patches(window.seq_len, model.patch_len, model.patch_stride)
    return RunCounts(
        channels=columns * len(series.ids),
        series=len(series.ids) if series.is_panel else None,
        **counts,
        batch_size=train.batch,
        steps_per_epoch=steps,
        total_steps=total,
        samples_dropped_per_epoch=counts["train"].samples - steps * train.batch,
        optimizer_updates=count_updates(steps, total, train),
        step_checkpoints_written=written,
        step_checkpoints_kept=min(written, config.run.save_total_limit),
        patch_nums=patches,
        patches_per_step=patches * train.batch,
    )


def steps_per_epoch(samples: int, train: TrainConfig) -> int:
    """Whole batches in one pass; the short batch at the end is dropped. Raises DataError if there is none."""
    steps = samples // train.batch
    if steps == 0:
        raise DataError(
            f"the training split has {samples:,} samples, fewer than one batch of {train.batch}",
            f"use --batch-size {max(samples, 1)} or less, or more data",
        )
    return steps


def count_total_steps(steps: int, train: TrainConfig) -> int:
    """Steps of the whole run, `max_steps` at most; early stopping may end it before."""
    total = train.epochs * steps
    return min(total, train.max_steps) if train.max_steps is not None else total


def count_updates(steps: int, total: int, train: TrainConfig) -> int:
    """Weight updates: one each `accumulate` steps, and one at the end of an epoch for the steps left over."""
    whole_epochs, rest = divmod(total, steps)
    per_epoch = -(-steps // train.accumulate)
    return whole_epochs * per_epoch + -(-rest // train.accumulate)
