"""`timellm eval FORECAST --against ACTUAL`: forecasts that lie in a file, of ours and of other tools."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.conftest import Cli, last_json
from tests.untrained import make_config, save_untrained


def lines_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines(keepends=True)


@pytest.fixture
def forecast(cli: Cli, small_csv: Path, tmp_path: Path) -> Path:
    """12 rows with bands after row 380, and the file of all 400 rows beside it."""
    checkpoint = save_untrained(tmp_path / "run" / "best.pt", make_config(small_csv))
    finished = cli("predict", checkpoint, small_csv, "--at", "2024-01-16 19:00:00", "-o", tmp_path / "forecast.csv")
    assert finished.returncode == 0, finished.stderr
    table = pl.read_csv(tmp_path / "forecast.csv")
    ends = [(name, side, sign) for name in ("OT", "load") for side, sign in (("lo", -1), ("hi", 1))]
    banded = table.with_columns(**{f"{name}-{side}-80": pl.col(name) + sign * 3.0 for name, side, sign in ends})
    banded.write_csv(tmp_path / "forecast.csv")
    return tmp_path / "forecast.csv"


def test_errors_bands_and_mase_are_those_of_the_two_files(cli: Cli, forecast: Path, small_csv: Path) -> None:
    plain = last_json(cli("eval", forecast, "--against", small_csv, "--json"))
    ours, actual = pl.read_csv(forecast), pl.read_csv(small_csv)
    assert (plain["absent"], plain["season"], [one["name"] for one in plain["channels"]]) == (0, 24, ["load", "OT"])
    for one in plain["channels"]:
        target, past = actual[one["name"]].to_numpy()[380:392], actual[one["name"]].to_numpy()[:380]
        error = target - ours[one["name"]].to_numpy()
        assert one["values"] == 12
        assert one["metrics"]["mae_raw"] == pytest.approx(np.abs(error).mean())
        assert one["metrics"]["mase"] == pytest.approx(np.abs(error).mean() / np.abs(past[24:] - past[:-24]).mean())
        assert one["mse"] == pytest.approx(np.mean(error**2) / past.std() ** 2)
        assert one["coverage"] == {"80": pytest.approx(100 * (np.abs(error) <= 3).mean(), abs=0.01)}
        losses = [np.abs(error).sum()]
        for q, shift in ((0.1, -3.0), (0.9, 3.0)):
            losses.append(2 * np.maximum(q * (error - shift), (q - 1) * (error - shift)).sum())
        assert one["metrics"]["wql_raw"] == pytest.approx(np.mean(losses) / np.abs(target).sum(), rel=1e-6)
    shown = cli("eval", forecast, "--against", small_csv, "--metrics").stdout
    assert "80 % bands held" in shown and "24 rows before" in shown and "sMAPE" in shown and "mean" in shown


def test_a_long_forecast_of_another_tool_is_matched_by_series_and_time(cli: Cli, tmp_path: Path) -> None:
    days = [f"2024-01-{day:02}" for day in range(1, 31)]
    actual = [
        f"{name},{day},{place + shift}" for name, shift in (("a", 0), ("b", 50)) for place, day in enumerate(days)
    ]
    (tmp_path / "actual.csv").write_text("unique_id,ds,y\n" + "\n".join(actual), encoding="utf-8")
    made = [f"{name},2024-01-{day},{value}" for name, value in (("a", 30), ("b", 80)) for day in (29, 30)]
    late = ["a,2024-01-31,1"]
    (tmp_path / "theirs.csv").write_text("unique_id,ds,AutoETS\n" + "\n".join(made + late), encoding="utf-8")
    finished = cli("eval", "theirs.csv", "--against", "actual.csv", "--id-column", "unique_id", "--json")
    plain = last_json(finished)
    assert [(one["name"], one["values"], one["metrics"]["mae_raw"]) for one in plain["channels"]] == [
        ("a", 2, 1.5),
        ("b", 2, 1.5),
    ]
    assert plain["absent"] == 1 and plain["mean"]["mase"] == 1.5 and plain["mean"]["wql_raw"] is None
    shown = cli("eval", "theirs.csv", "--against", "actual.csv", "--id-column", "unique_id").stdout
    assert "1 values have no actual value" in shown


def test_missing_values_are_not_scored(cli: Cli, forecast: Path, small_csv: Path) -> None:
    lines = lines_of(small_csv)
    stamp, _, load = lines[383].strip().split(",")
    lines[383] = f"{stamp},,{load}\n"
    small_csv.write_text("".join(lines), encoding="utf-8")
    plain = last_json(cli("eval", forecast, "--against", small_csv, "--json"))
    assert [one["values"] for one in plain["channels"]] == [12, 11] and plain["absent"] == 1


def test_what_does_not_go_together_is_refused_in_one_sentence(
    cli: Cli, forecast: Path, small_csv: Path, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "run" / "best.pt"
    (tmp_path / "old.csv").write_text("".join(lines_of(small_csv)[:300]), encoding="utf-8")
    renamed = "".join(lines_of(small_csv)).replace("OT", "oil")
    (tmp_path / "other.csv").write_text(renamed, encoding="utf-8")
    for arguments, code, words in (
        ((forecast,), 4, "is no timellm checkpoint but a table"),
        ((checkpoint, "--against", small_csv), 2, "is a checkpoint"),
        ((forecast, "--against", "old.csv"), 3, "no timestamp of"),
        ((forecast, "--against", "other.csv"), 3, "has no column 'OT'"),
        ((forecast, "--against", "gone.csv"), 3, "gone.csv"),
        (("gone.csv", "--against", small_csv), 3, "gone.csv"),
    ):
        finished = cli("eval", *arguments)
        assert (finished.returncode, words in " ".join(finished.stderr.split())) == (code, True), finished.stderr
        assert "Traceback" not in finished.stderr


def test_lines_without_dates_are_matched_step_by_step(cli: Cli, tmp_path: Path) -> None:
    header = "id,F1,F2,F1-lo-80,F2-lo-80,F1-hi-80,F2-hi-80\n"
    (tmp_path / "made.csv").write_text(f"{header}H1,1,2,0,1,2,3\nH2,5,5,4,4,6,6\n", encoding="utf-8")
    (tmp_path / "actual.csv").write_text("id,V1,V2\nH2,5,9\nH1,1.5,2\n", encoding="utf-8")
    plain = last_json(cli("eval", "made.csv", "--against", "actual.csv", "--date-column", "none", "--json"))
    assert [(one["name"], one["values"], one["metrics"]["mae_raw"]) for one in plain["channels"]] == [
        ("H1", 2, 0.25),
        ("H2", 2, 2.0),
    ]
    assert [one["coverage"] for one in plain["channels"]] == [{"80": 100.0}, {"80": 50.0}]
    (tmp_path / "longer.csv").write_text("id,V1,V2,V3\nH1,1,2,3\n", encoding="utf-8")
    refused = cli("eval", "made.csv", "--against", "longer.csv", "--date-column", "none")
    assert refused.returncode == 3 and "has 2 steps a line" in " ".join(refused.stderr.split())
