"""The counts everybody relies on, to the last one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from timellm_cli.config import Config, DataConfig, TrainConfig, WindowConfig
from timellm_cli.counts import RunCounts, count_patches, count_run, count_updates, count_windows
from timellm_cli.datasets import DATASETS, known_dataset
from timellm_cli.errors import ConfigError, DataError
from timellm_cli.settings import resolve
from timellm_cli.splits import Series, Span, split_series


def counts(rows: int | None = None, columns: int = 7, **flags: object) -> RunCounts:
    config = resolve(assignments=[f"{key.replace('__', '.')}={value}" for key, value in flags.items()]).config
    dataset = known_dataset(config.data)
    return count_run(Series.single(rows or (dataset.rows if dataset else 0)), columns, dataset, config)


def test_ettm1_with_a_window_of_512() -> None:
    found = counts(window__seq_len=512, train__batch_size=8)
    assert (found.windows, found.dataset_len, found.steps_per_epoch, found.patch_nums) == (33_953, 237_671, 29_708, 64)
    assert found.samples_dropped_per_epoch == 237_671 - 29_708 * 8 == 7
    assert found.patches_per_step == 512


@pytest.mark.parametrize(
    ("features", "samples", "steps"), [("M", 58_023, 29_011), ("MS", 58_023, 29_011), ("S", 8_289, 4_144)]
)
def test_etth1_with_a_window_of_256(features: str, samples: int, steps: int) -> None:
    found = counts(data__dataset="ETTh1", window__seq_len=256, train__batch_size=2, data__features=features)
    assert (found.windows, found.dataset_len, found.steps_per_epoch) == (8_289, samples, steps)
    assert (found.patch_nums, found.patches_per_step) == (32, 64)
    assert found.test.windows == 2_785
    assert found.test.samples == (19_495 if features == "M" else 2_785)


def test_a_csv_of_12194_rows_is_split_by_ratio() -> None:
    found = counts(12_194, data__dataset="custom", window__seq_len=256)
    assert found.train.windows == int(0.7 * 12_194) - 256 - 96 + 1 == 8_184
    assert found.val.rows == 12_194 - int(12_194 * 0.7) - int(12_194 * 0.2) + 256
    assert found.test.rows == int(12_194 * 0.2) + 256


def test_few_shot_training_shortens_training_only() -> None:
    data = DataConfig(dataset="ETTh1", percent=10)
    (spans,) = split_series(Series.single(17_420), DATASETS["ETTh1"], data, WindowConfig(seq_len=512))
    assert spans.train == Span(0, (8_640 - 512) * 10 // 100 + 512)
    assert (spans.scaler, spans.val) == (Span(0, 8_640), Span(8_640 - 512, 11_520))


@given(rows=st.integers(1, 400), seq_len=st.integers(2, 40), pred_len=st.integers(1, 40), stride=st.integers(1, 9))
def test_windows_are_counted_as_a_plain_loop_counts_them(rows: int, seq_len: int, pred_len: int, stride: int) -> None:
    starts = [start for start in range(0, rows, stride) if start + seq_len + pred_len <= rows]
    assert count_windows(rows, WindowConfig(seq_len=seq_len, pred_len=pred_len), stride) == len(starts)


@given(seq_len=st.integers(4, 300), patch_len=st.integers(1, 40), patch_stride=st.integers(1, 40))
def test_patches_are_counted_as_a_plain_loop_counts_them(seq_len: int, patch_len: int, patch_stride: int) -> None:
    padded = seq_len + patch_stride
    if patch_len > padded:
        return
    starts = [start for start in range(0, padded, patch_stride) if start + patch_len <= padded]
    assert count_patches(seq_len, patch_len, patch_stride) == len(starts)


@given(steps=st.integers(1, 50), epochs=st.integers(1, 4), accumulate=st.integers(1, 7), cut=st.integers(1, 300))
def test_updates_are_counted_as_a_plain_loop_counts_them(steps: int, epochs: int, accumulate: int, cut: int) -> None:
    total, updates, taken = min(steps * epochs, cut), 0, 0
    for _ in range(epochs):
        for step in range(1, steps + 1):
            taken += 1
            last = step == steps or taken == total
            if step % accumulate == 0 or last:
                updates += 1
            if taken == total:
                break
        if taken == total:
            break
    assert count_updates(steps, total, TrainConfig(accumulate=accumulate)) == updates


def test_step_checkpoints_are_counted_over_the_whole_run() -> None:
    found = counts(data__dataset="ETTh1", train__epochs=2, run__save_steps=1000, run__save_total_limit=5)
    assert found.total_steps == 2 * found.steps_per_epoch == 14_056
    assert (found.step_checkpoints_written, found.step_checkpoints_kept) == (14, 5)
    assert counts(run__save_steps=0).step_checkpoints_written == 0
    assert counts(train__max_steps=2_500).step_checkpoints_written == 2


@pytest.mark.parametrize(
    ("rows", "flags", "message"),
    [
        (200, {}, "one window needs 608"),
        (2_000, {"window__seq_len": 500, "window__pred_len": 250}, "the val split has"),
        (3_000, {"window__seq_len": 96, "train__batch_size": 50_000}, "fewer than one batch of 50000"),
    ],
)
def test_too_few_rows_are_refused_with_both_numbers(rows: int, flags: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        counts(rows, data__dataset="custom", **flags)


def test_a_shortened_ett_file_is_refused_with_both_numbers() -> None:
    with pytest.raises(DataError, match=r"needs 14,400 rows .* the file has 12,000"):
        counts(12_000, data__dataset="ETTh1")


def test_an_unknown_dataset_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="did you mean 'ETTh1'") as raised:
        known_dataset(Config().data.model_copy(update={"dataset": "etth1"}))
    assert "auckland-pedestrians" in raised.value.hint
