"""Windows, scalers, lengths and channel order of the original's loaders, on real ETTh1 and on a made-up CSV."""

import gzip
import lzma
from pathlib import Path

import numpy as np
import pytest

from timellm_cli.config import Config
from timellm_cli.data.read_table import read_table
from timellm_cli.data.windows import ForecastData, load_data
from timellm_cli.datasets import data_path

CUT = Path(__file__).parent.parent / "golden"


def assert_matches(data: ForecastData, golden: dict[str, np.ndarray], variant: str) -> None:
    """Every stored item of every stored split, in float64 before the cast and in float32 after it."""
    config = data.config
    splits = [split for split in ("train", "val", "test") if f"{variant}.{split}.len" in golden]
    assert splits
    for split in splits:
        expected = {
            key.rpartition(".")[2]: value for key, value in golden.items() if key.startswith(f"{variant}.{split}.")
        }
        samples = data.windows(split)
        assert len(samples) == expected["len"]
        assert samples.windows == expected["tot_len"]
        assert samples.channels == expected["enc_in"]
        assert data.spans[0][split].rows == expected["n_rows"]
        np.testing.assert_allclose(data.scaler.mean_C, expected["scaler_mean"], rtol=1e-13)
        np.testing.assert_allclose(data.scaler.std_C, expected["scaler_scale"], rtol=1e-13)
        raw_NC = read_table(data_path(config.data), config.data).values
        batch = samples.batch(expected["indices"].tolist())
        assert batch.channel_B.tolist() == expected["feature"].tolist()
        for row, (channel, start) in enumerate(zip(batch.channel_B.tolist(), batch.start_B.tolist(), strict=True)):
            middle = start + config.window.seq_len
            channel_N = data.scaler.standardise(raw_NC)[:, channel]
            for part, rows, key in (
                (batch.history_BT[row], slice(start, middle), "seq_x"),
                (batch.future_BH[row], slice(middle, middle + config.window.pred_len), "seq_y_tail"),
            ):
                np.testing.assert_allclose(channel_N[rows], expected[key][row], rtol=0, atol=1e-13)
                np.testing.assert_array_equal(part, expected[key][row].astype(np.float32))


@pytest.mark.parametrize("variant", ["M", "S", "M_percent10", "S_percent10"])
def test_etth1_has_the_windows_of_the_original(shared_dir: Path, variant: str) -> None:
    path = shared_dir / "data" / "ETT-small" / "ETTh1.csv"
    percent = 10 if "percent10" in variant else 100
    config = Config.model_validate(
        {
            "data": {"dataset": "ETTh1", "path": path, "features": variant[0], "percent": percent},
            "window": {"seq_len": 512, "pred_len": 96},
        }
    )
    golden = dict(np.load(shared_dir / "golden" / "etth1_windows.npz"))
    assert_matches(load_data(config), golden, variant)


@pytest.mark.parametrize("size", ["cut", "whole"])
def test_a_custom_csv_has_the_windows_of_the_original(
    request: pytest.FixtureRequest, tmp_path: Path, size: str
) -> None:
    path = tmp_path / "custom.csv"
    if size == "cut":
        folder = CUT
        path.write_bytes(lzma.decompress((folder / "custom_12194.csv.xz").read_bytes()))
    else:
        folder = request.getfixturevalue("shared_dir") / "golden"
        path.write_bytes(gzip.decompress((folder / "custom_12194.csv.gz").read_bytes()))
    golden = dict(np.load(folder / "custom_12194_windows.npz"))
    config = Config.model_validate(
        {"data": {"dataset": "custom", "path": path}, "window": {"seq_len": 256, "pred_len": 96}}
    )
    data = load_data(config)
    assert data.table.columns == tuple(golden["channel_order_expected"])
    assert data.training_windows().windows == 8_184
    assert_matches(data, golden, "M")
