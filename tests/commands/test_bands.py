"""Bands from training to forecast and score, on the real command line."""

import csv
import io
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tests.command_line import run_here
from tests.conftest import Cli, last_json, write_small_csv
from timellm_cli.evaluation.coverage import TOLERANCE
from timellm_cli.training.checkpoint import load_checkpoint

SMALL = "--seq-len 48 --pred-len 12 --d-model 8 --d-ff 8 --n-heads 2 --num-prototypes 20 --epochs 2 --batch-size 32"


@pytest.fixture(scope="module")
def trained(tiny_llm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bands")
    write_small_csv(folder / "small.csv")
    flags = ["--dataset=custom", f"--data-path={folder / 'small.csv'}", f"--llm={tiny_llm}", "--layers=1"]
    finished = run_here(["train", *flags, *SMALL.split(), "--run-name=run", "--device=cpu"], folder)
    assert finished.returncode == 0, finished.stderr
    return folder / "checkpoints" / "run" / "best.pt"


def test_training_leaves_bands_that_predict_writes_draws_and_eval_counts(
    cli: Cli, trained: Path, small_csv: Path, tmp_path: Path
) -> None:
    kept = load_checkpoint(trained).intervals
    assert kept is not None
    assert (kept.channels, kept.windows, kept.halves_LCH.shape) == (("load", "OT"), 29, (6, 2, 12))
    assert load_checkpoint(trained.with_name("last.pt")).intervals is not None

    files = ["-o", "out.csv", "--plot", "out.png", "--json"]
    plain = last_json(cli("predict", trained, small_csv, "--levels", "95,80", *files))
    rows = list(csv.reader(io.StringIO((tmp_path / "out.csv").read_text(encoding="utf-8"))))
    names = ["OT-lo-95", "OT-lo-80", "OT-hi-80", "OT-hi-95", "load-lo-95", "load-lo-80", "load-hi-80", "load-hi-95"]
    assert rows[0] == ["date", "OT", "load", *names]
    table = {
        name: np.array([float(row[position]) for row in rows[1:]]) for position, name in enumerate(rows[0]) if position
    }
    for channel in ("OT", "load"):
        ordered = [table[name] for name in names if name.startswith(channel)]
        assert all((low <= high).all() for low, high in pairwise(ordered))
        middle = (table[f"{channel}-lo-80"] + table[f"{channel}-hi-80"]) / 2
        assert middle == pytest.approx(table[channel], abs=2e-3)
    assert plain["bands"]["95"]["hi"]["OT"] == table["OT-hi-95"].tolist()
    assert list(plain["bands"]) == ["80", "95"]
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")

    scored = last_json(cli("eval", trained, "--json"))
    coverage = {one["level"]: one for one in scored["entries"][0]["coverage"]}
    assert list(coverage) == list(kept.levels)
    assert all(0 <= one["coverage"] <= 100 and one["width"] > 0 for one in coverage.values())
    assert set(coverage[80]["channels"]) == {"OT", "load"}
    assert len(coverage[80]["parts"]) == 4
    text = " ".join(cli("eval", trained).stdout.split())
    assert f"80 % bands held {coverage[80]['coverage']:.1f} ± {coverage[80]['error']:.1f} % of the values" in text


def test_another_dataset_has_no_bands_even_where_its_channels_have_the_same_names(
    cli: Cli, trained: Path, small_csv: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.csv"
    other.write_bytes(small_csv.read_bytes())
    scored = last_json(cli("eval", trained, "--zero-shot", other, "--json"))
    assert scored["entries"][0]["coverage"] == []


def test_drift_is_said_of_the_test_split_alone_and_beyond_two_standard_errors(cli: Cli, trained: Path) -> None:
    scored = {split: last_json(cli("eval", trained, "--split", split, "--json")) for split in ("test", "train")}
    coverage = [one for one in scored["test"]["entries"][0]["coverage"] if one["level"] in (80, 95)]
    drifts = any(abs(one["coverage"] - one["level"]) > max(TOLERANCE, 2 * one["error"]) for one in coverage)
    assert len(coverage) == 2
    assert any("the data drift" in note for note in scored["test"]["notes"]) is drifts
    assert not any("the data drift" in note for note in scored["train"]["notes"])


def test_beyond_pred_len_there_is_a_forecast_but_no_band(cli: Cli, trained: Path, small_csv: Path) -> None:
    finished = cli("predict", trained, small_csv, "--levels", "80", "--steps", 15)
    rows = list(csv.reader(io.StringIO(finished.stdout)))
    assert [row[3] == "" for row in rows[1:]] == [False] * 12 + [True] * 3
    assert all(row[1] for row in rows)
    assert "bands end with step 12" in " ".join(finished.stderr.split())


def test_the_bands_of_a_sum_come_from_whole_paths_of_errors(cli: Cli, trained: Path, small_csv: Path) -> None:
    single = last_json(cli("predict", trained, small_csv, "--levels", "80", "--json"))
    total = last_json(cli("predict", trained, small_csv, "--levels", "80", "--sum", "--json"))
    assert (total["summed_steps"], total["summed_from"]) == (12, single["dates"][0])
    assert total["dates"] == single["dates"][-1:]
    kept = load_checkpoint(trained).intervals
    assert kept is not None and kept.sums_LCH is not None
    assert kept.sums_LCH[:, :, 0] == pytest.approx(kept.halves_LCH[:, :, 0], rel=1e-6), "a sum of one step"
    level, ends = kept.levels.index(80), total["bands"]["80"]
    for place, channel in enumerate(kept.channels):
        assert total["forecast"][channel][0] == pytest.approx(sum(single["forecast"][channel]), abs=2e-3)
        half = (ends["hi"][channel][0] - ends["lo"][channel][0]) / 2
        of_last = (single["bands"]["80"]["hi"][channel][-1] - single["bands"]["80"]["lo"][channel][-1]) / 2
        assert half / of_last == pytest.approx(
            kept.sums_LCH[level, place, -1] / kept.halves_LCH[level, place, -1], rel=0.01
        )
        of_all = sum(
            hi - lo
            for hi, lo in zip(single["bands"]["80"]["hi"][channel], single["bands"]["80"]["lo"][channel], strict=True)
        )
        assert 0 < half < of_all / 2, "errors of steps partly cancel"
    table = cli("predict", trained, small_csv, "--sum").stdout.splitlines()
    assert len(table) == 2 and table[0] == "date,OT,load"
    for arguments, words in (
        (("--steps", 13, "--levels", "80"), "steps up to 12 (pred_len) were validated"),
        (("--plot", "sum.png"), "--plot draws single steps"),
    ):
        refused = cli("predict", trained, small_csv, "--sum", *arguments)
        assert refused.returncode == 2 and words in " ".join(refused.stderr.split())
    assert cli("predict", trained, small_csv, "--sum", "--steps", 13).returncode == 0, "without bands it rolls forward"


def test_nothing_goes_below_the_least_value(cli: Cli, trained: Path, small_csv: Path) -> None:
    free = last_json(cli("predict", trained, small_csv, "--levels", "80", "--json"))
    floor = sorted(free["forecast"]["OT"])[6]
    held = last_json(cli("predict", trained, small_csv, "--levels", "80", "--min", floor, "--json"))
    for where in (("forecast",), ("bands", "80", "lo"), ("bands", "80", "hi")):
        before, after = free, held
        for key in where:
            before, after = before[key], after[key]
        assert after["OT"] == pytest.approx([max(value, floor) for value in before["OT"]], abs=1e-3)
    assert min(held["forecast"]["OT"]) == pytest.approx(floor, abs=1e-3)
    total = last_json(cli("predict", trained, small_csv, "--levels", "80", "--min", floor, "--sum", "--json"))
    assert total["forecast"]["OT"][0] == pytest.approx(sum(held["forecast"]["OT"]), abs=2e-3)
    assert total["bands"]["80"]["lo"]["OT"][0] >= 12 * floor - 1e-3
