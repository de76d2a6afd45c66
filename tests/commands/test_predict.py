"""`timellm predict` on a checkpoint of a small model with an LLM."""

import csv
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import Cli, last_json
from tests.untrained import CPU, make_config, save_untrained
from timellm_cli.training.checkpoint import load_checkpoint, load_runner

torch.set_num_threads(1)


@pytest.fixture
def checkpoint(small_csv: Path, tiny_llm: Path, tmp_path: Path) -> Path:
    """Reads 48 rows, forecasts 12."""
    return save_untrained(tmp_path / "run" / "best.pt", make_config(small_csv, tiny_llm))


def rows_of(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


def expected_forecast(path: Path, source: Path, last_row: int, steps: int) -> np.ndarray:
    """In the file's units and column order (OT, load), from the model itself."""
    trained = load_checkpoint(path)
    runner = load_runner(trained, trained.config, CPU)
    table = [list(map(float, row[:0:-1])) for row in rows_of(source.read_text(encoding="utf-8"))[1:]]
    history_TC = trained.scaler.standardise(np.array(table)[last_row - 47 : last_row + 1])
    return trained.scaler.restore(runner.roll_forward(history_TC, steps))[:, ::-1]


def test_the_forecast_goes_to_stdout_in_units_and_dates_of_the_input(
    cli: Cli, checkpoint: Path, small_csv: Path
) -> None:
    finished = cli("predict", checkpoint, small_csv)
    assert finished.returncode == 0, finished.stderr
    header, *rows = rows_of(finished.stdout)
    assert header == ["date", "OT", "load"]
    assert [row[0] for row in (rows[0], rows[-1])] == ["2024-01-17 16:00:00", "2024-01-18 03:00:00"]
    values = np.array([row[1:] for row in rows], dtype=float)
    assert values == pytest.approx(expected_forecast(checkpoint, small_csv, 399, 12), abs=1e-3)
    assert finished.stderr == ""


def test_history_from_a_pipe_before_a_timestamp_rolls_forward_into_files(
    cli: Cli, checkpoint: Path, small_csv: Path, tmp_path: Path
) -> None:
    files = ["-o", "out.csv", "--plot", "out.png"]
    text = small_csv.read_text(encoding="utf-8")
    finished = cli("predict", checkpoint, "-", "--at", "2024-01-17 05:00", "--steps", 30, *files, "--json", stdin=text)
    plain = last_json(finished)
    rows = rows_of((tmp_path / "out.csv").read_text(encoding="utf-8"))[1:]
    expected = expected_forecast(checkpoint, small_csv, 16 * 24 + 5, 30)
    assert np.array([row[1:] for row in rows], dtype=float) == pytest.approx(expected, abs=1e-3)
    assert plain["forecast"]["load"] == [float(row[2]) for row in rows]
    assert plain["dates"] == [row[0] for row in rows]
    assert (plain["steps"], plain["pred_len"], plain["rolled_forward"]) == (30, 12, True)
    known = rows_of(text)[1:][16 * 24 + 6 :]
    assert plain["actual"]["OT"] == [float(row[1]) for row in known]
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    for words in ("from step 13 to 30 it reads its own forecasts", "Forecast of 30 steps", "knows the first 10"):
        assert words in " ".join(finished.stderr.split())
    assert sorted(path.name for path in tmp_path.iterdir() if "out" in path.name) == ["out.csv", "out.png"]


def test_a_fetched_dataset_may_be_named_instead_of_its_file(
    cli: Cli, checkpoint: Path, small_csv: Path, private_cache: Path
) -> None:
    (private_cache / "data").mkdir()
    (private_cache / "data" / "ETTh2.csv").write_bytes(small_csv.read_bytes())
    by_name, by_path = cli("predict", checkpoint, "ETTh2"), cli("predict", checkpoint, small_csv)
    assert by_name.returncode == 0, by_name.stderr
    assert by_name.stdout == by_path.stdout
    absent = cli("predict", checkpoint, "ETTm1")
    assert absent.returncode == 3 and "ETTm1.csv' not found" in absent.stderr


def test_an_llm_that_has_moved_is_named_with_llm(
    cli: Cli, checkpoint: Path, small_csv: Path, tiny_llm: Path, tmp_path: Path
) -> None:
    moved = shutil.copytree(tiny_llm, tmp_path / "moved")
    gone = shutil.copytree(tiny_llm, tmp_path / "gone")
    elsewhere = save_untrained(tmp_path / "elsewhere" / "best.pt", make_config(small_csv, gone))
    there = cli("predict", elsewhere, small_csv)
    shutil.rmtree(gone)
    lost = cli("predict", elsewhere, small_csv)
    assert lost.returncode == 4 and "--llm" in lost.stderr
    assert cli("predict", elsewhere, small_csv, "--llm", moved).stdout == there.stdout != ""
    (moved / "tokenizer.json").write_text(
        (moved / "tokenizer.json").read_text(encoding="utf-8") + " ", encoding="utf-8"
    )
    other = cli("predict", elsewhere, small_csv, "--llm", moved)
    assert other.returncode == 4 and "fingerprint" in other.stderr
    shutil.copytree(tiny_llm, gone)
    obeyed = cli("predict", elsewhere, small_csv, "--llm", moved)
    assert obeyed.returncode == 4 and "fingerprint" in obeyed.stderr, "the old folder is back, and not what was named"


def test_semicolons_excel_dates_and_bom_come_back_as_they_went_in(
    cli: Cli, checkpoint: Path, small_csv: Path, tmp_path: Path
) -> None:
    path, lines = tmp_path / "excel.csv", ["date;OT;load"]
    for date, *cells in rows_of(small_csv.read_text(encoding="utf-8"))[1:]:
        lines.append(f"{int(date[8:10])}/{int(date[5:7])}/{date[:4]} {date[11:16]};{';'.join(cells)}")
    path.write_text("\n".join(lines), encoding="utf-8-sig")
    assert "'50.000' could be 50000 or 50" in cli("predict", checkpoint, path, "--steps", 2).stderr
    finished = cli("predict", checkpoint, path, "--steps", 2, "--decimal", ".")
    assert finished.returncode == 0, finished.stderr
    first = finished.stdout.splitlines()
    assert first[0] == "date;OT;load"
    assert [line.split(";")[0] for line in first[1:]] == ["17/1/2024 16:00", "17/1/2024 17:00"]


def test_holes_before_the_rows_that_are_read_change_nothing(cli: Cli, small_csv: Path, tmp_path: Path) -> None:
    checkpoint = save_untrained(tmp_path / "plain.pt", make_config(small_csv))
    header, *rows = small_csv.read_text(encoding="utf-8").splitlines()
    holes = "\n".join([header, *rows[:100], *rows[150:200], f"{rows[200][:19]},,", *rows[201:]])
    from_holes, from_whole = cli("predict", checkpoint, "-", stdin=holes), cli("predict", checkpoint, small_csv)
    assert (from_holes.returncode, from_holes.stderr) == (0, "")
    assert from_holes.stdout == from_whole.stdout


def change(csv_file: Path, kind: str) -> Path:
    header, *rows = csv_file.read_text(encoding="utf-8").splitlines()
    changed = {
        "missing column": ["date,OT,Load", *rows],
        "other cadence": [header, *rows[::2]],
        "too few rows": [header, *rows[:20]],
        "gap": [header, *rows[:380], *rows[385:]],
    }
    path = csv_file.with_name("bad.csv")
    path.write_text("\n".join(changed[kind]), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing column", ["no column 'load'", "did you mean 'Load'?"]),
        ("other cadence", ["2 hours", "1 hour"]),
        ("too few rows", ["20 rows", "48 rows"]),
        ("gap", ["gap", "--fill linear"]),
    ],
)
def test_bad_input_is_refused_and_leaves_nothing(
    cli: Cli, small_csv: Path, tmp_path: Path, kind: str, words: list[str]
) -> None:
    """The CSV is judged before the LLM is loaded, so a model without one will do."""
    checkpoint = save_untrained(tmp_path / "plain.pt", make_config(small_csv))
    bad = change(small_csv, kind)
    before = set(tmp_path.iterdir())
    finished = cli("predict", checkpoint, bad, "-o", "out.csv", "--plot", "out.png")
    assert finished.returncode == 3
    for word in words:
        assert word in finished.stderr
    assert finished.stdout == ""
    assert set(tmp_path.iterdir()) == before
    if kind == "gap":
        filled = cli("predict", checkpoint, bad, "--fill", "linear")
        assert filled.returncode == 0
        assert len(rows_of(filled.stdout)) == 13
        assert "5" in filled.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["run/best.pt", "small.csv", "-o", "nowhere/out.csv"], 2, "no folder 'nowhere'"),
        (["run/best.pt", "small.csv", "-o", "small.csv"], 2, "is an input, which would be lost"),
        (["run/best.pt", "small.csv", "-o", "run/best.pt"], 2, "is an input, which would be lost"),
        (["run/best.pt", "small.csv", "-o", "a.png", "--plot", "a.png"], 2, "is named for another output, too"),
        (["run/best.pt", "small.csv", "--plot", "out.jpg"], 2, "--plot out.png"),
        (["run/best.pt", "absent.csv"], 3, "'absent.csv' not found"),
        (["run/absent.pt", "small.csv"], 4, "best.pt"),
    ],
)
def test_wrong_paths_are_refused_before_any_work(
    cli: Cli, small_csv: Path, tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    save_untrained(tmp_path / "run" / "best.pt", make_config(small_csv))
    before = [path.read_bytes() for path in (small_csv, tmp_path / "run" / "best.pt")]
    finished = cli("predict", *arguments)
    assert finished.returncode == code
    assert words in finished.stderr
    assert [path.read_bytes() for path in (small_csv, tmp_path / "run" / "best.pt")] == before
    assert not list(tmp_path.glob("out*"))


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo terminal")
def test_a_terminal_also_gets_a_table_with_sparklines(small_csv: Path, tmp_path: Path) -> None:
    checkpoint = save_untrained(tmp_path / "plain.pt", make_config(small_csv))
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "timellm_cli", "predict", str(checkpoint), str(small_csv), "--steps", "3"]
    finished = subprocess.run(
        command, stdout=theirs, stderr=subprocess.PIPE, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    os.close(theirs)
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    assert finished.returncode == 0
    assert len(shown.splitlines()) == 4
    table = finished.stderr.decode()
    for word in ("Forecast of 3 steps", "load", "OT", "█"):
        assert word in table
