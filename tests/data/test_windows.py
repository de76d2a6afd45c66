"""Which rows a sample holds, in every kind of split."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.data.csv_files import hourly, write_csv
from timellm_cli.config import Config
from timellm_cli.counts import count_run
from timellm_cli.data.read_table import read_table
from timellm_cli.data.scale import Scaler
from timellm_cli.data.windows import ForecastData, WindowDataset, load_data
from timellm_cli.datasets import DATASETS, data_path, known_dataset
from timellm_cli.errors import DataError
from timellm_cli.splits import SPLITS, Series


def config_for(path: Path, seq_len: int = 24, pred_len: int = 6, **data: object) -> Config:
    """A configuration of a custom CSV."""
    return Config.model_validate(
        {
            "data": {"dataset": "custom", "path": path, **data},
            "window": {"seq_len": seq_len, "pred_len": pred_len},
            "model": {"patch_len": 2},
            "prompt": {"top_lags": 1},
            "train": {"batch_size": 1},
        }
    )


def counting_csv(path: Path, rows: int, columns: int = 2) -> Path:
    """Column `c` of row `n` holds 1000 * c + n; the last column is OT."""
    names = [f"x{column}" for column in range(columns - 1)] + ["OT"]
    lines = [
        ",".join([stamp, *(str(1000 * c + row) for c in range(columns))]) for row, stamp in enumerate(hourly(rows))
    ]
    return write_csv(path, ",".join(["date", *names]), lines)


def assert_windows_are_slices(data: ForecastData, split: str) -> None:
    """Every sample of a split is the slice of the standardised table that it claims to be, in the order promised."""
    samples, config, span = data.windows(split), data.config, data.spans[0][split]
    seq_len, pred_len, stride = config.window.seq_len, config.window.pred_len, config.data.window_stride
    raw_NC = read_table(data_path(config.data), config.data).values
    table_NC = data.scaler.standardise(raw_NC).astype(np.float32)
    first_channel = len(data.table.columns) - samples.channels
    batch = samples.batch(range(len(samples)))
    assert len(batch) == len(samples)
    for item, (channel, start) in enumerate(zip(batch.channel_B.tolist(), batch.start_B.tolist(), strict=True)):
        assert channel == first_channel + item // samples.windows
        assert start == span.start + item % samples.windows * stride
        middle, end = start + seq_len, start + seq_len + pred_len
        assert end <= span.stop
        np.testing.assert_array_equal(batch.history_BT[item], table_NC[start:middle, channel])
        np.testing.assert_array_equal(batch.future_BH[item], table_NC[middle:end, channel])
    # One more window would not fit.
    assert span.start + samples.windows * stride + seq_len + pred_len > span.stop


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.integers(80, 150),
    seq_len=st.integers(2, 12),
    pred_len=st.integers(1, 6),
    stride=st.integers(1, 7),
    percent=st.sampled_from([10, 50, 100]),
    features=st.sampled_from(["M", "S", "MS"]),
    columns=st.integers(1, 3),
)
def test_every_window_is_the_slice_it_claims_and_the_counts_are_those_of_counts(
    tmp_path: Path, rows: int, seq_len: int, pred_len: int, stride: int, percent: int, features: str, columns: int
) -> None:
    path = counting_csv(tmp_path / "x.csv", rows, columns)
    config = config_for(
        path,
        seq_len,
        pred_len,
        window_stride=stride,
        percent=percent,
        features=features,
        train_ratio=0.6,
        test_ratio=0.2,
    )
    try:
        counts = count_run(Series.single(rows), columns, None, config)
    except DataError as error:
        with pytest.raises(DataError, match=r"too few rows"):
            load_data(config)
        assert "too few rows" in error.message
        return
    data = load_data(config)
    for split in SPLITS:
        assert_windows_are_slices(data, split)
        used = data.training_windows() if split == "train" else data.windows(split)
        assert len(used) == getattr(counts, split).samples
        assert used.windows == getattr(counts, split).windows


def test_a_batch_holds_the_samples_in_the_order_in_which_they_were_requested(small_csv: Path) -> None:
    samples = load_data(config_for(small_csv)).windows("test")
    order = [5, 0, len(samples) - 1, 5]
    batch = samples.batch(order)
    assert batch.history_BT.dtype == batch.future_BH.dtype == torch.float32
    assert batch.prompt is None
    for row, sample in enumerate(order):
        alone = samples.batch([sample])
        assert torch.equal(batch.history_BT[row], alone.history_BT[0])
        assert torch.equal(batch.future_BH[row], alone.future_BH[0])
        assert (batch.channel_B[row], batch.start_B[row]) == (alone.channel_B[0], alone.start_B[0])


def test_the_table_is_held_once_in_float32_and_a_batch_is_a_copy(small_csv: Path) -> None:
    data = load_data(config_for(small_csv))
    assert data.values_KV.dtype == torch.float32
    assert all(data.windows(split).values_KV is data.values_KV for split in SPLITS)
    before_CN = data.values_KV.clone()
    data.windows("val").batch([0]).history_BT.zero_()
    assert torch.equal(data.values_KV, before_CN)


@pytest.mark.parametrize("beyond", [0, -1], ids=["past the end", "negative"])
def test_a_sample_that_does_not_exist_is_an_index_error(small_csv: Path, beyond: int) -> None:
    samples = load_data(config_for(small_csv)).windows("val")
    with pytest.raises(IndexError):
        samples.batch([0, beyond or len(samples)])


def test_the_scaler_sees_only_the_training_span(tmp_path: Path) -> None:
    path = counting_csv(tmp_path / "x.csv", 200, 1)
    data = load_data(config_for(path, percent=10))
    assert data.scaler.mean_C.tolist() == [np.arange(140).mean()]
    assert data.scaler.std_C.tolist() == [np.arange(140).std()]


def test_multivariate_to_single_trains_on_all_channels_and_scores_the_target(small_csv: Path) -> None:
    data = load_data(config_for(small_csv, features="MS"))
    assert data.table.columns == ("load", "OT")
    assert [data.windows(split).channels for split in SPLITS] == [1, 1, 1]
    assert channels_of(data.training_windows()) == {0, 1}
    for split in SPLITS:
        assert channels_of(data.windows(split)) == {1}, "scored, it is the target alone"


def channels_of(samples: WindowDataset) -> set[int]:
    """Every channel that the samples come from."""
    return set(samples.batch(range(len(samples))).channel_B.tolist())


def test_validation_and_test_begin_one_history_early(small_csv: Path) -> None:
    data = load_data(config_for(small_csv))
    assert data.training_windows().batch([0]).start_B.tolist() == [0]
    assert data.windows("val").batch([0]).start_B.tolist() == [280 - 24]
    assert data.windows("test").batch([0]).start_B.tolist() == [320 - 24]


def test_a_checkpoints_scaler_and_order_of_columns_are_kept(tmp_path: Path) -> None:
    path = counting_csv(tmp_path / "x.csv", 200, 3)
    scaler = Scaler(np.array([7.0, 5.0, 6.0]), np.array([2.0, 2.0, 2.0]))
    data = load_data(config_for(path), scaler, ("x1", "x0", "OT"))
    assert data.scaler is scaler
    assert data.table.columns == ("x1", "x0", "OT")
    assert data.values_KV[:, 3].tolist() == [(1003 - 7) / 2, (3 - 5) / 2, (2003 - 6) / 2]


def test_a_channel_that_only_later_changes_is_a_warning(tmp_path: Path) -> None:
    lines = [f"{stamp},{int(row > 150)},{row}" for row, stamp in enumerate(hourly(200))]
    data = load_data(config_for(write_csv(tmp_path / "x.csv", "date,switch,OT", lines)))
    assert data.warnings == ("constant in the training rows, so there is nothing to learn from: switch",)
    assert data.scaler.std_C[0] == 1.0
    assert torch.isfinite(data.values_KV).all()


def test_too_few_rows_name_both_numbers(tmp_path: Path) -> None:
    path = counting_csv(tmp_path / "x.csv", 40)
    with pytest.raises(
        DataError, match=r"one window needs 30 .* but the (val|train|test) split has \d+ of the file's 40"
    ):
        load_data(config_for(path))


def test_the_absent_file_of_a_known_dataset_names_the_command_that_fetches_it() -> None:
    with pytest.raises(DataError, match="the data of ETTm1 are not here") as caught:
        load_data(Config())
    assert "timellm fetch ETTm1" in caught.value.hint


def test_an_ettm1_of_full_length_has_the_published_counts(tmp_path: Path) -> None:
    dataset = DATASETS["ETTm1"]
    stamps = np.datetime64("2016-07-01T00:00") + np.arange(69_680) * np.timedelta64(15, "m")
    values = np.random.default_rng(1).integers(0, 99, size=(69_680, 7)).astype(str)
    lines = [",".join([str(stamp), *row]) for stamp, row in zip(stamps, values.tolist(), strict=True)]
    path = write_csv(tmp_path / "ETTm1.csv", ",".join(["date", *dataset.columns]), lines)
    config = Config.model_validate({"data": {"path": path}})
    data = load_data(config)
    assert len(data.table.stamps) == data.values_KV.shape[1] == dataset.rows
    assert (data.training_windows().windows, len(data.training_windows())) == (33_953, 237_671)
    counts = count_run(Series.single(69_680), 7, known_dataset(config.data), config)
    assert [len(data.windows(split)) for split in SPLITS] == [getattr(counts, split).samples for split in SPLITS]
    assert counts.steps_per_epoch == 29_708
