"""Many series in parts: the bytes of one process, a second start that goes on, and processes that die."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.command_line import SURROUNDINGS
from tests.commands.test_panel import NAMED, SMALL
from tests.conftest import REPOSITORY, Cli
from tests.panels import write_long
from timellm_cli.errors import DataError
from timellm_cli.forecasting.processes import environments_of, forecast_parts
from timellm_cli.forecasting.shards import Shards

SERIES = {f"s{number}": range(390, 400) if number == 3 else range(300, 400) for number in range(7)}
BEST = "checkpoints/long/best.pt"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint of many series and `new.csv`, which has 7 series, one too short."""
    folder = tmp_path_factory.mktemp("parts")
    arguments = ("train", write_long(folder / "long.csv"), *NAMED, *SMALL, "--run-name", "long")
    run(folder, *arguments)
    write_long(folder / "new.csv", SERIES)
    return folder


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch, trained: Path) -> None:
    """Parts of 2 series, so that there are 4."""
    monkeypatch.setattr("timellm_cli.forecasting.panel.SERIES_AT_ONCE", 2)


def run(folder: Path, *arguments: object) -> None:
    command = [sys.executable, "-m", "timellm_cli", *map(str, arguments)]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, env={**os.environ, **SURROUNDINGS})


def predict(cli: Cli, folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return cli("predict", BEST, "new.csv", *arguments, cwd=folder)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_two_processes_write_the_bytes_of_one(cli: Cli, trained: Path, ending: str) -> None:
    one = predict(cli, trained, "--levels", "80", "-o", f"one.{ending}")
    assert one.returncode == 0, one.stderr
    two = predict(cli, trained, "--levels", "80", "-o", f"two.{ending}", "--processes", 2)
    assert two.returncode == 0, two.stderr
    assert (trained / f"two.{ending}").read_bytes() == (trained / f"one.{ending}").read_bytes()
    assert not (trained / f"two.{ending}.parts").exists()
    assert "has the forecasts of 6 series in 72 rows" in two.stderr
    assert "1 of 7 series could not be forecast" in two.stderr
    assert "s3,new.csv has 10 rows" in (trained / "two.skipped.csv").read_text(encoding="utf-8").replace('"', "")


def test_a_killed_forecast_goes_on_with_its_parts(cli: Cli, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = predict(cli, trained, "-o", "whole.csv")
    assert one.returncode == 0, one.stderr

    def interrupted(shards: Shards, numbers: list[int], *_: object, **__: object) -> None:
        forecast_parts(shards, numbers[1:3], [{}], lambda _: None)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("timellm_cli.commands.predict_processes.forecast_parts", interrupted)
        stopped = predict(cli, trained, "-o", "out.csv", "--processes", 1)
    assert stopped.returncode == 130
    assert "stopped: 2 of 4 parts are kept in 'out.csv.parts'" in stopped.stderr
    assert not (trained / "out.csv").exists()
    parts = trained / "out.csv.parts"
    (parts / ".000003.part.1.tmp").write_bytes(b"half")
    kept = (parts / "000001.part").stat().st_mtime_ns
    other = predict(cli, trained, "-o", "out.csv", "--processes", 1, "--levels", "80")
    assert other.returncode == 2
    assert "holds the parts of another forecast: it differs in levels ([] before, [80] now)" in other.stderr
    assert (parts / "000001.part").stat().st_mtime_ns == kept
    again = predict(cli, trained, "-o", "out.csv", "--processes", 1)
    assert again.returncode == 0, again.stderr
    assert "Going on: 2 of 4 parts" in again.stderr
    assert (trained / "out.csv").read_bytes() == (trained / "whole.csv").read_bytes()


def test_ctrl_c_ends_every_process_and_keeps_what_is_done(trained: Path, tmp_path: Path) -> None:
    """The processes never finish a part, so that it does not matter when the signal comes."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, time\n"
        "if any('shard_worker' in word for word in sys.orig_argv):\n"
        "    import timellm_cli.forecasting.shards as shards\n"
        "    shards.Shards.write = lambda own, *_: (own.path / 'reached').write_text('') or time.sleep(3600)\n"
    )
    command = [sys.executable, "-m", "timellm_cli", "predict", BEST, "new.csv", "-o", "stopped.csv", "--processes", "2"]
    environment = {**os.environ, **SURROUNDINGS, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(REPOSITORY)])}
    with subprocess.Popen(command, cwd=trained, stderr=subprocess.PIPE, text=True, env=environment) as process:
        while not (trained / "stopped.csv.parts" / "reached").exists() and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    assert process.returncode == 130, said
    assert "stopped: 0 of 1 parts are kept in 'stopped.csv.parts'" in said
    assert "the same command goes on from there" in said


def test_a_process_that_dies_is_replaced_and_a_part_that_kills_two_is_an_error(
    cli: Cli, trained: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "from pathlib import Path\n"
        "flag = Path(os.environ['FLAG'])\n"
        "if any(word.endswith('shard_worker') or 'shard_worker' in word for word in sys.orig_argv):\n"
        "    if not flag.exists() or os.environ.get('ALWAYS'):\n"
        "        flag.write_text('')\n"
        "        import timellm_cli.forecasting.shards as shards\n"
        "        shards.Shards.write = lambda *_: os._exit(9)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("FLAG", str(tmp_path / "flag"))
    once = predict(cli, trained, "-o", "once.csv", "--processes", 1)
    assert once.returncode == 0, once.stderr
    assert (tmp_path / "flag").exists()
    monkeypatch.setenv("ALWAYS", "1")
    always = predict(cli, trained, "-o", "always.csv", "--processes", 1)
    assert always.returncode == 4
    assert "a process of the forecast died 2 times at part 0 (exit code 9)" in always.stderr
    assert json.loads((trained / "always.csv.parts" / "job.json").read_text())["steps"] == 12


def test_what_cannot_be_shared_out_is_said_before_anything_runs(cli: Cli, trained: Path, tmp_path: Path) -> None:
    for arguments, sentence in [
        (("--processes", 2), "--processes needs a file to write"),
        (("--processes", 2, "-o", "x.csv", "--json"), "--processes and --json cannot go together"),
        (("--processes", 2, "-o", "x.csv", "--plot", "x.png"), "--processes and --plot cannot go together"),
    ]:
        refused = predict(cli, trained, *arguments)
        assert (refused.returncode, sentence in refused.stderr) == (2, True), refused.stderr
    with pytest.raises(Exception, match="--processes 3: there are 2 GPUs here"):
        environments_of(3, ["0", "1"])
    assert environments_of(2, ["4", "5", "6"]) == [{"CUDA_VISIBLE_DEVICES": "4"}, {"CUDA_VISIBLE_DEVICES": "5"}]
    assert not list(trained.glob("x.csv*"))


def test_strict_and_a_file_without_a_good_series_are_errors_and_leave_no_output(cli: Cli, trained: Path) -> None:
    strict = predict(cli, trained, "-o", "strict.csv", "--processes", 1, "--strict")
    assert strict.returncode == DataError.exit_code
    assert "series 's3': " in strict.stderr
    write_long(trained / "mended.csv", SERIES)
    assert cli("predict", BEST, "mended.csv", "-o", "m.csv", "--processes", 1, "--strict", cwd=trained).returncode == 3
    write_long(trained / "mended.csv", {name: rows for name, rows in SERIES.items() if name != "s3"})
    mended = cli("predict", BEST, "mended.csv", "-o", "m.csv", "--processes", 1, "--strict", cwd=trained)
    assert mended.returncode == 0, mended.stderr
    assert "the input has changed since 'm.csv.parts' was begun: its parts are made anew" in mended.stderr
    write_long(trained / "bad.csv", {"short": range(20)})
    none = cli("predict", BEST, "bad.csv", "-o", "none.csv", "--processes", 1, cwd=trained)
    assert none.returncode == DataError.exit_code
    assert "none of 1 series can be forecast" in none.stderr
    assert not (trained / "none.csv").exists()
