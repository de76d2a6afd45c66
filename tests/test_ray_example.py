"""`examples/ray_forecast.py` on two local actors gives the figures of `timellm predict`."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.command_line import SURROUNDINGS
from tests.commands.test_panel import NAMED, SMALL
from tests.conftest import REPOSITORY, Cli
from tests.panels import IDS, write_long


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed: pip install 'timellm[ray]'")
def test_two_actors_forecast_parquet_files_as_the_command_does(cli: Cli, tmp_path: Path) -> None:
    finished = cli("train", write_long(tmp_path / "long.csv"), *NAMED, *SMALL, "--run-name", "long")
    assert finished.returncode == 0, finished.stderr
    history = pd.read_csv(write_long(tmp_path / "new.csv", dict.fromkeys(IDS, range(400)) | {"short": range(390, 400)}))
    (tmp_path / "history").mkdir()
    for number, part in enumerate((history.iloc[::2], history.iloc[1::2])):
        part.assign(ds=pd.to_datetime(part["ds"])).to_parquet(tmp_path / "history" / f"{number}.parquet")
    script = REPOSITORY / "examples" / "ray_forecast.py"
    best = tmp_path / "checkpoints" / "long" / "best.pt"
    paths = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, script, best, "history", "forecasts", "--actors", "2", "--batches", "2"]
    ran = subprocess.run(
        [*map(str, command)], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, **SURROUNDINGS, "PYTHONPATH": paths, "RAY_DATA_DISABLE_PROGRESS_BARS": "1"},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-3000:]
    forecast = pd.concat(map(pd.read_parquet, (tmp_path / "forecasts").glob("*.parquet")))
    written = cli("predict", best, "new.csv", "-o", "out.csv")
    assert written.returncode == 0, written.stderr
    expected = pd.read_csv(tmp_path / "out.csv", parse_dates=["ds"])
    both = [one.sort_values(["unique_id", "ds"], ignore_index=True) for one in (forecast, expected)]
    assert both[0]["unique_id"].tolist() == both[1]["unique_id"].tolist()
    assert both[0]["ds"].tolist() == both[1]["ds"].tolist()
    assert both[0]["y"].to_numpy() == pytest.approx(both[1]["y"].to_numpy(), abs=3e-5), "batches differ in size"
    assert "short" in pd.concat(map(pd.read_csv, (tmp_path / "forecasts" / "skipped").glob("*.csv")))["series"].tolist()
