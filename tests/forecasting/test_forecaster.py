"""`Forecaster` takes and returns frames, with the figures of `timellm predict`."""

from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest

from tests.commands.test_panel import NAMED, SMALL
from tests.conftest import REPOSITORY, Cli
from tests.panels import IDS, write_lines, write_long
from timellm_cli import ConfigError, DataError, Forecaster, ModelError

TABLE = ("--dataset", "custom", "--data-path", "small.csv", *SMALL)


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, parse_dates=["date"])


@pytest.fixture
def table(cli: Cli, small_csv: Path, tmp_path: Path) -> Path:
    """The best checkpoint of a table with two channels."""
    finished = cli("train", *TABLE, "--run-name", "table")
    assert finished.returncode == 0, finished.stderr
    return tmp_path / "checkpoints" / "table" / "best.pt"


@pytest.fixture
def panel(cli: Cli, tmp_path: Path) -> Path:
    """The best checkpoint of a long table, `long.csv`."""
    finished = cli("train", write_long(tmp_path / "long.csv"), *NAMED, *SMALL, "--run-name", "long")
    assert finished.returncode == 0, finished.stderr
    return tmp_path / "checkpoints" / "long" / "best.pt"


def test_a_table_is_forecast_with_the_figures_of_the_command(
    cli: Cli, table: Path, small_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = cli("predict", table, small_csv, "--levels", "80,95", "--steps", 20, "-o", "out.csv")
    assert written.returncode == 0, written.stderr
    expected = read(tmp_path / "out.csv")
    capsys.readouterr()
    forecaster = Forecaster.load(table)
    predicted = forecaster.predict(read(small_csv), levels=[80, 95], steps=20)
    pd.testing.assert_frame_equal(predicted, expected, check_dtype=False, check_exact=True)
    assert predicted["date"].dtype == read(small_csv)["date"].dtype
    assert "errors add up" in predicted.attrs["notes"][0]
    assert (forecaster.seq_len, forecaster.pred_len, forecaster.columns) == (48, 12, ("load", "OT"))
    assert capsys.readouterr() == ("", "")


def test_timestamps_may_be_the_index_or_texts_or_have_a_zone(table: Path, small_csv: Path) -> None:
    forecaster = Forecaster.load(table)
    frame = read(small_csv)
    plain = forecaster.predict(frame)
    indexed = forecaster.predict(frame.set_index("date"))
    assert indexed.index.name == "date"
    pd.testing.assert_frame_equal(indexed.reset_index(), plain)
    unnamed = forecaster.predict(frame.set_index(pd.DatetimeIndex(frame["date"], name=None)).drop(columns="date"))
    pd.testing.assert_frame_equal(unnamed.reset_index(), plain)
    texts = forecaster.predict(frame.assign(date=frame["date"].dt.strftime("%Y-%m-%d %H:%M")))
    assert texts["date"].tolist() == plain["date"].dt.strftime("%Y-%m-%d %H:%M").tolist()
    for zone in ("Pacific/Auckland", "+02:00"):
        zoned = forecaster.predict(frame.assign(date=frame["date"].dt.tz_localize("UTC").dt.tz_convert(zone)))
        assert zoned["date"].dt.tz_convert("UTC").dt.tz_localize(None).tolist() == plain["date"].tolist()
        assert zoned["OT"].tolist() == plain["OT"].tolist()
    hours = forecaster.predict(frame.assign(date=frame["date"].dt.to_period("h")))
    assert hours["date"].tolist() == plain["date"].dt.to_period("h").tolist()


def test_many_series_are_forecast_with_the_figures_of_the_command(cli: Cli, panel: Path, tmp_path: Path) -> None:
    path = write_long(tmp_path / "new.csv", {IDS[0]: range(400), "short": range(380, 400), IDS[2]: range(400)})
    written = cli("predict", panel, path, "--levels", "80", "-o", "out.csv")
    assert written.returncode == 0, written.stderr
    expected = pd.read_csv(tmp_path / "out.csv", parse_dates=["ds"])
    frame = pd.read_csv(path, parse_dates=["ds"])
    predicted = Forecaster.load(panel).predict(frame, levels=[80])
    pd.testing.assert_frame_equal(predicted, expected, check_dtype=False, check_exact=True)
    assert list(predicted.attrs["skipped"]) == ["short"]
    by_both = Forecaster.load(panel).predict(frame.set_index(["unique_id", "ds"]), levels=[80])
    assert by_both.index.names == ["unique_id", "ds"]
    numbered = frame.assign(unique_id=frame["unique_id"].map({IDS[0]: 7, "short": 8, IDS[2]: 9}))
    assert Forecaster.load(panel).predict(numbered)["unique_id"].unique().tolist() == [7, 9]
    kinds = frame.astype({"unique_id": "category"})
    assert Forecaster.load(panel).predict(kinds)["unique_id"].dtype == kinds["unique_id"].dtype


def test_a_series_a_line_comes_back_as_a_line(cli: Cli, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "m4.csv")
    assert cli("train", path, "--date-column", "none", "--id-column", "V1", *SMALL, "--run-name", "m4").returncode == 0
    predicted = Forecaster.load(tmp_path / "checkpoints" / "m4" / "best.pt").predict(pd.read_csv(path))
    assert list(predicted) == ["V1", *(f"F{step}" for step in range(1, 13))]
    assert predicted["V1"].tolist() == ["H1", "H2", "H3"]


def test_a_mistake_raises_the_sentence_of_the_command(cli: Cli, table: Path, small_csv: Path, tmp_path: Path) -> None:
    forecaster, frame = Forecaster.load(table), read(small_csv)
    with pytest.raises(ConfigError, match="has no bands of level 42"):
        forecaster.predict(frame, levels=[42])
    with pytest.raises(DataError, match="the frame has no column 'OT', which the checkpoint needs"):
        forecaster.predict(frame.drop(columns="OT"))
    with pytest.raises(DataError, match="the frame has 20 rows, but the checkpoint reads 48 rows"):
        forecaster.predict(frame.tail(20))
    with pytest.raises(DataError, match="has no row at 2031-01-01"):
        forecaster.predict(frame, at="2031-01-01")
    with pytest.raises(DataError, match="several columns named 'OT'"):
        forecaster.predict(frame.rename(columns={"load": "OT"}))
    with pytest.raises(ConfigError, match="takes a pandas DataFrame, and got list"):
        forecaster.predict([1, 2, 3])  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="not in the range"):
        forecaster.predict(frame, steps=0)
    with pytest.raises(ConfigError, match="device 'gpu' is not known"):
        Forecaster.load(table, device="gpu")
    with pytest.raises(ModelError, match=r"checkpoint '.*bets\.pt' not found") as raised:
        Forecaster.load(table.with_name("bets.pt"))
    printed = cli("predict", table.with_name("bets.pt"), small_csv)
    assert raised.value.message in printed.stderr


def test_every_series_that_is_bad_is_an_error_and_strict_stops_at_the_first(panel: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(write_long(tmp_path / "new.csv", {IDS[0]: range(400), "short": range(380, 400)}))
    forecaster = Forecaster.load(panel)
    with pytest.raises(DataError, match="series 'short': "):
        forecaster.predict(frame, strict=True)
    with pytest.raises(DataError, match="none of 1 series can be forecast; 'short': "):
        forecaster.predict(frame[frame["unique_id"] == "short"])


def test_a_forecast_of_one_batch_does_not_depend_on_a_bad_series_in_another(
    panel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("timellm_cli.forecasting.panel.SERIES_AT_ONCE", 2)
    sound = pd.read_csv(write_long(tmp_path / "sound.csv"))
    bad = sound[(sound["unique_id"] != IDS[1]) | (sound.groupby("unique_id").cumcount() > 380)]
    forecaster = Forecaster.load(panel)
    whole, part = forecaster.predict(sound), forecaster.predict(bad)
    assert len(part) == len(whole) - 12
    later = [frame[frame["unique_id"].isin(IDS[2:])].reset_index(drop=True) for frame in (whole, part)]
    pd.testing.assert_frame_equal(*later, check_exact=True)


def test_a_frame_equals_the_same_table_as_parquet(cli: Cli, panel: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(tmp_path / "long.csv", parse_dates=["ds"])
    pl.DataFrame({name: frame[name].to_list() for name in frame}).write_parquet(tmp_path / "long.parquet")
    written = cli("predict", panel, "long.parquet", "-o", "out.parquet")
    assert written.returncode == 0, written.stderr
    assert (
        pl.read_parquet(tmp_path / "out.parquet")["y"].to_list() == Forecaster.load(panel).predict(frame)["y"].tolist()
    )


def test_the_function_for_spark_in_the_docs_forecasts_a_partition_that_comes_in_pieces(
    panel: Path, tmp_path: Path
) -> None:
    page = (REPOSITORY / "docs" / "python.md").read_text(encoding="utf-8")
    snippet = page.split("## Spark")[1].split("```python\n")[1].split("history = spark")[0]
    names: dict[str, Any] = {}
    exec(snippet.replace("/dbfs/models/best.pt", panel.as_posix()), names)
    frame = pd.read_csv(tmp_path / "long.csv", parse_dates=["ds"])
    pieces = [frame.iloc[:500], frame.iloc[:0], frame.iloc[500:]]
    (made,) = names["forecast"](iter(pieces))
    pd.testing.assert_frame_equal(made, Forecaster.load(panel).predict(frame, levels=[80]), check_exact=True)
    assert list(made) == ["unique_id", "ds", "y", "y-lo-80", "y-hi-80"]
    assert list(names["forecast"](iter([frame.iloc[:0]]))) == []
