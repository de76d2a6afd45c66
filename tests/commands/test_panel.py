"""Every verb on many series: figures as of a column each, forecasts in the form of the input, bad series named."""

import csv
import io
import json
from pathlib import Path

import pytest
import torch

from tests.conftest import Cli, last_json
from tests.panels import IDS, stamp, write_folder, write_lines, write_long, write_wide

SMALL = (
    "--llm", "none", "--seq-len", 48, "--pred-len", 12, "--d-model", 8, "--d-ff", 8, "--num-prototypes", 20,
    "--max-steps", 8, "--batch-size", 16, "--save-steps", 4,
)  # fmt: skip
NAMED = ("--date-column", "ds", "--target", "y", "--id-column", "unique_id")


def train(cli: Cli, *arguments: object) -> None:
    finished = cli("train", *arguments, *SMALL)
    assert finished.returncode == 0, finished.stderr


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def assert_alike(ours: str, theirs: str) -> None:
    """Equal rows, up to the rounding of batches of another size."""
    for mine, other in zip(rows_of(ours), rows_of(theirs), strict=True):
        assert (mine["unique_id"], mine["ds"]) == (other["unique_id"], other["ds"])
        for name in mine.keys() - {"unique_id", "ds"}:
            assert float(mine[name]) == pytest.approx(float(other[name]), abs=3e-5)


def losses(folder: Path) -> list[dict[str, float]]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return [{key: line[key] for key in line if "loss" in key or key.startswith(("val_", "test_"))} for line in lines]


@pytest.fixture
def long(cli: Cli, tmp_path: Path) -> Path:
    """The run of the long table."""
    train(cli, write_long(tmp_path / "long.csv"), *NAMED, "--run-name", "long")
    return tmp_path / "checkpoints" / "long"


def test_a_panel_equals_the_table_with_a_column_for_each_series(cli: Cli, tmp_path: Path, long: Path) -> None:
    train(cli, write_wide(tmp_path / "wide.csv"), "--target", IDS[-1], "--bands", "pooled", "--run-name", "wide")
    wide = tmp_path / "checkpoints" / "wide"
    ours, theirs = (torch.load(run / "best.pt", weights_only=True)["weights"] for run in (long, wide))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert losses(long) == losses(wide)
    boards = [last_json(cli("eval", run / "best.pt", "--json")) for run in (long, wide)]
    for mine, other in zip(*(board["entries"] for board in boards), strict=True):
        same = [key for key in mine if key not in ("name", "runs")]
        assert {key: mine[key] for key in same} == {key: other[key] for key in same}
    assert (boards[0]["series"], boards[1]["series"]) == (4, None)
    assert set(boards[0]["entries"][0]["coverage"][0]["channels"]) == set(IDS)
    channels = boards[0]["entries"][0]["channels"].values()
    mean = sum(errors["mse"] for errors in channels) / 4
    assert boards[0]["entries"][0]["channel_mean"][0] == pytest.approx(mean, rel=1e-12)

    forecast = rows_of(cli("predict", long / "best.pt", "long.csv", "--levels", "80").stdout)
    columns = rows_of(cli("predict", wide / "best.pt", "wide.csv", "--levels", "80").stdout)
    for name in IDS:
        own = [row for row in forecast if row["unique_id"] == name]
        assert [row["ds"] for row in own] == [stamp(row) for row in range(400, 412)]
        for ending in ("", "-lo-80", "-hi-80"):
            assert [row[f"y{ending}"] for row in own] == [row[f"{name}{ending}"] for row in columns]


def test_a_folder_and_a_long_table_forecast_alike(cli: Cli, tmp_path: Path, long: Path) -> None:
    train(cli, write_folder(tmp_path / "shops"), "--run-name", "shops")
    shops = tmp_path / "checkpoints" / "shops"
    ours = rows_of(cli("predict", shops / "best.pt", "shops").stdout)
    theirs = rows_of(cli("predict", long / "best.pt", "long.csv").stdout)
    assert [row["y"] for row in ours] == [row["y"] for row in theirs]
    assert ours[0].keys() == {"series", "ds", "y"}
    again = cli("predict", shops / "best.pt", "shops", "-o", "ahead")
    assert again.returncode == 0, again.stderr
    assert sorted(path.stem for path in (tmp_path / "ahead").iterdir()) == sorted({row["series"] for row in ours})
    for path in (tmp_path / "ahead").iterdir():
        own = [row for row in ours if row["series"] == path.stem]
        header = (tmp_path / "shops" / path.name).read_text(encoding="utf-8").splitlines()[0]
        assert path.read_text(encoding="utf-8").splitlines() == [
            header, *(f"{row['ds']},{row['y']}" for row in own)
        ]  # fmt: skip
    refused = cli("predict", shops / "best.pt", "shops", "-o", "shops")
    assert refused.returncode != 0 and "is the input, whose files would be lost" in refused.stderr
    one = rows_of(cli("predict", shops / "best.pt", "shops/1 K Road.csv").stdout)
    assert [row["y"] for row in one] == [row["y"] for row in ours if row["series"] == "1 K Road"]


def test_a_series_a_line_comes_back_as_a_line(cli: Cli, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "m4.csv")
    train(cli, path, "--date-column", "none", "--id-column", "V1", "--run-name", "m4")
    forecast = cli("predict", "checkpoints/m4/best.pt", path)
    assert "'H4': " in forecast.stderr
    assert "has 20 rows, but the checkpoint reads 48 rows of history" in forecast.stderr
    lines = rows_of(forecast.stdout)
    assert [line["V1"] for line in lines] == ["H1", "H2", "H3"]
    assert list(lines[0]) == ["V1", *(f"F{step}" for step in range(1, 13))]
    assert "2000-01" not in forecast.stdout + forecast.stderr


def test_one_bad_series_is_named_and_skipped_and_strict_stops_at_it(cli: Cli, tmp_path: Path, long: Path) -> None:
    path = write_long(tmp_path / "new.csv", {IDS[0]: range(400), "short": range(380, 400), "unknown": range(100, 400)})
    forecast = cli("predict", long / "best.pt", path)
    assert forecast.returncode == 0, forecast.stderr
    assert "1 of 3 series could not be forecast and are left out (--strict stops instead)" in forecast.stderr
    assert "'short': " in forecast.stderr
    assert {row["unique_id"] for row in rows_of(forecast.stdout)} == {IDS[0], "unknown"}
    known = rows_of(cli("predict", long / "best.pt", "long.csv").stdout)
    assert [row["y"] for row in rows_of(forecast.stdout)][:12] == [row["y"] for row in known][:12]
    record = last_json(cli("predict", long / "best.pt", path, "--json"))
    assert (set(record["series"]), set(record["skipped"])) == ({IDS[0], "unknown"}, {"short"})
    strict = cli("predict", long / "best.pt", path, "--strict", "-o", "out.csv")
    assert strict.returncode == 3
    assert "series 'short': " in strict.stderr
    assert not (tmp_path / "out.csv").exists()
    none = cli("predict", long / "best.pt", write_long(tmp_path / "none.csv", {"short": range(20)}), "-o", "out.csv")
    assert none.returncode == 3
    assert "none of 1 series can be forecast; 'short': " in none.stderr
    assert not (tmp_path / "out.csv").exists()


def test_series_read_together_and_one_by_one_are_forecast_alike(cli: Cli, tmp_path: Path, long: Path) -> None:
    """`--at` reads each series alone; with a gap in one of them, so does a plain call."""
    together = cli("predict", long / "best.pt", "long.csv", "--levels", "80")
    alone = cli("predict", long / "best.pt", "long.csv", "--levels", "80", "--at", stamp(399))
    assert_alike(alone.stdout, together.stdout)
    lines = (tmp_path / "long.csv").read_text(encoding="utf-8").splitlines()
    del lines[1 + 400 + 380]
    (tmp_path / "gap.csv").write_text("\n".join(lines), encoding="utf-8")
    gap = cli("predict", long / "best.pt", "gap.csv", "--levels", "80")
    kept = [line for line in together.stdout.splitlines() if not line.startswith("K Road")]
    assert_alike(gap.stdout, "\n".join(kept))
    assert "'K Road': " in gap.stderr
    filled = cli("predict", long / "best.pt", "gap.csv", "--levels", "80", "--fill", "linear")
    assert len(filled.stdout.splitlines()) == len(together.stdout.splitlines())


def test_at_takes_the_row_of_every_series_and_a_picture_shows_them(cli: Cli, tmp_path: Path, long: Path) -> None:
    at = cli("predict", long / "best.pt", "long.csv", "--at", stamp(350), "-o", "out.csv", "--plot", "out.png")
    assert at.returncode == 0, at.stderr
    written = rows_of((tmp_path / "out.csv").read_text(encoding="utf-8"))
    assert [row["ds"] for row in written[:12]] == [stamp(row) for row in range(351, 363)]
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    assert "MAE," in at.stderr


def test_a_resumed_panel_ends_with_the_same_weights(cli: Cli, tmp_path: Path, long: Path) -> None:
    whole = torch.load(long / "last.pt", weights_only=True)["weights"]
    (long / "best.pt").unlink()
    resumed = cli("train", "--resume", long / "step-4.pt", "long.csv", *NAMED, *SMALL)
    assert resumed.returncode == 0, resumed.stderr
    again = torch.load(long / "last.pt", weights_only=True)["weights"]
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    write_long(tmp_path / "long.csv", {name: range(400) for name in IDS[:3]})
    other = cli("train", "--resume", long / "step-4.pt", "long.csv", *NAMED, *SMALL)
    assert other.returncode == 3
    assert "trained on 4 series, and those of" in other.stderr


def test_inspect_counts_series_and_names_those_too_short(cli: Cli, tmp_path: Path) -> None:
    rows = {"a": range(400), "b": range(400), "new": range(390, 400)}
    path = write_long(tmp_path / "long.csv", rows)
    record = last_json(cli("inspect", path, *NAMED, *SMALL, "--json"))
    assert (record["series"], record["rows"], record["channels"]) == (3, 810, 3)
    assert record["splits"]["train"]["windows"] == 2 * (283 - 60 + 1)  # the first 283 rows of each hold 70 % of all
    shown = cli("inspect", path, *NAMED, *SMALL, COLUMNS="160")
    assert "810 rows of 3 series" in shown.stdout
    assert "1 of 3 series have fewer than 60 training rows" in shown.stdout
    assert cli("inspect", path, "--id-column", "uniqe_id", *SMALL).returncode == 3


def test_the_prompt_can_name_the_series(cli: Cli, tmp_path: Path, tiny_llm: Path) -> None:
    path = write_long(tmp_path / "long.csv")
    template = "Pedestrians at {series}. min {min}"
    shown = cli("inspect", path, *NAMED, *SMALL, "--llm", tiny_llm, "--prompt-template", template, "--show-prompt")
    assert "Pedestrians at Queen Street. min -" in shown.stdout
    finished = cli(
        "train",
        path,
        *NAMED,
        *SMALL,
        "--llm",
        tiny_llm,
        "--layers",
        1,
        "--prompt-template",
        template,
        "--run-name",
        "said",
    )
    assert finished.returncode == 0, finished.stderr
    assert cli("predict", "checkpoints/said/best.pt", path).returncode == 0


def test_eval_shows_the_ten_worst_series(cli: Cli, tmp_path: Path) -> None:
    rows = {f"s{number:02}": range(400) for number in range(14)}
    train(cli, write_long(tmp_path / "long.csv", rows), *NAMED, "--run-name", "many")
    shown = cli("eval", "checkpoints/many/best.pt", COLUMNS="160")
    assert "of 14 series = " in shown.stdout
    assert "the 10 series with the highest MSE" in shown.stdout
    assert "and 4 more: --json has them all" in shown.stdout
    assert "MSE / MAE as the mean of the series" in shown.stdout
    board = last_json(cli("eval", "checkpoints/many/best.pt", "--json"))
    worst = sorted(board["entries"][0]["channels"], key=lambda name: -board["entries"][0]["channels"][name]["mse"])
    listed = [word for word in shown.stdout.split() if word in rows]
    assert listed == worst[:10]
