"""Slow baselines: which windows they have, what runs out of time, and that every line is scored on the same windows."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.conftest import Cli, last_json
from tests.untrained import make_config, save_untrained
from timellm_cli.data.batch import Batch
from timellm_cli.data.windows import load_data
from timellm_cli.errors import ConfigError
from timellm_cli.evaluation.bands import ValidationErrors
from timellm_cli.evaluation.classical import Classical, ClassicalForecasts, choose_classical
from timellm_cli.evaluation.metrics import MetricCount, seasonal_errors
from timellm_cli.evaluation.score import score
from timellm_cli.evaluation.spaced import errors_of_classical, histories_of, spaced_grids, spaced_table
from timellm_cli.evaluation.window_bands import WindowBands

needs_statsforecast = pytest.mark.skipif(
    not importlib.util.find_spec("statsforecast"), reason="the extra `baselines` is not installed"
)


def persist(batch: Batch) -> Tensor:
    return batch.history_BT[:, -1:].expand(-1, 12)


def test_grids_are_evenly_spaced_and_contain_each_other(small_csv: Path) -> None:
    data = load_data(make_config(small_csv))
    grids = list(spaced_grids(data, "test", None))
    assert [len(grid) for grid in grids] == [100, 138], "50 of 69 windows of each channel, then all"
    assert set(grids[0]) < set(grids[1]) and grids[0][0] == 0 and grids[0][49] == 68
    assert set(np.diff(grids[0][:50])) == {1, 2}
    assert [len(grid) for grid in spaced_grids(data, "test", 10)] == [20]


def test_every_line_is_scored_on_the_chosen_windows(small_csv: Path) -> None:
    """What repeats the last value, as a baseline and as a line of the table, has the same errors."""
    data = load_data(make_config(small_csv))
    places = next(spaced_grids(data, "test", None))
    histories = histories_of(data, "test", None, places)
    found = ClassicalForecasts(
        {"theta": {place: np.repeat(row[-1], 12)[None] for place, row in zip(places, histories, strict=True)}}
    )
    seasonal_C, std_C = seasonal_errors(data, 24), data.scaler.std_C * [2.0, 0.5]
    errors = errors_of_classical(data, "test", None, places, found, seasonal_C, std_C)
    scores = score(persist, data, "test", 64, std_C=std_C)
    table = spaced_table([errors], [("ours", scores)])
    ours, theirs = table.lines
    assert (table.origins, table.windows, ours.name, theirs.name) == (50, 100, "ours", "theta")
    assert theirs.mse == pytest.approx(ours.mse) and theirs.mae == pytest.approx(ours.mae)
    assert theirs.mase == pytest.approx(ours.mase)
    batch = data.windows("test").batch(places)
    error_BH = (persist(batch).double() - batch.future_BH) * torch.tensor([0.5, 2.0])[batch.channel_B, None]
    assert ours.mse == pytest.approx(float(error_BH.square().mean()))
    own = [float((persist(batch).double() - batch.future_BH)[batch.channel_B == c].abs().mean()) for c in (0, 1)]
    assert ours.mase == pytest.approx(np.mean(np.array(own) / seasonal_C))


def test_own_bands_and_a_models_are_compared_on_the_same_windows(small_csv: Path) -> None:
    """The bands of a line of the table, handed over as a classical baseline's own, give the same WQL and shares."""
    data = load_data(make_config(small_csv))
    errors = ValidationErrors(data)
    score(persist, data, "val", 64, on_errors=errors.add)
    intervals = errors.intervals()
    assert intervals is not None
    bands, metrics = WindowBands(data, intervals), MetricCount(data, seasonal_errors(data, 24), intervals)

    def add(batch: Batch, error_BH: Tensor) -> None:
        bands.add(batch, error_BH)
        metrics.add(batch, error_BH)

    scores = replace(score(persist, data, "test", 64, on_errors=add), bands_4W=bands.result())
    places = list(range(len(data.windows("test"))))
    batch = data.windows("test").batch(places)
    row_B = intervals.rows_of(data.table)[batch.channel_B]
    curves = [persist(batch).double().numpy()]
    for level in intervals.levels:
        half_BH = intervals.around(level, batch.history_BT, row_B).numpy()
        curves += [curves[0] - half_BH, curves[0] + half_BH]
    by_window = dict(zip(places, np.stack(curves, axis=1), strict=True))
    found = ClassicalForecasts({"theta": by_window}, levels=intervals.levels)
    own = errors_of_classical(data, "test", None, places, found, np.ones(2), None)
    ours, theirs = spaced_table([own], [("ours", scores)]).lines
    assert ours.wql == pytest.approx(theirs.wql, rel=1e-5)
    assert ours.held == pytest.approx(theirs.held, abs=0.2)
    sums = metrics.result()
    assert ours.wql == pytest.approx(sums.quantile_C.sum() / sums.target_C.sum())
    assert set(ours.held) == {80, 95}
    assert 0 < ours.held[80] < ours.held[95] <= 100
    found = ClassicalForecasts({"theta": by_window})
    without = errors_of_classical(data, "test", None, places, found, np.ones(2), None)
    lines = spaced_table([without], [("ours", replace(scores, bands_4W=None))]).lines
    assert [(line.wql, line.held) for line in lines] == [(None, {}), (None, {})]


def test_names_are_checked_before_anything_runs() -> None:
    assert choose_classical(None) == ()
    with pytest.raises(ConfigError, match="'auto_etz' is no baseline; did you mean 'auto_ets'"):
        choose_classical("theta,auto_etz")


@pytest.mark.skipif(bool(importlib.util.find_spec("statsforecast")), reason="the extra `baselines` is installed")
def test_without_statsforecast_the_error_says_what_to_install(cli: Cli, small_csv: Path, tmp_path: Path) -> None:
    checkpoint = save_untrained(tmp_path / "run" / "best.pt", make_config(small_csv))
    refused = cli("eval", checkpoint, "--baselines", "theta")
    assert refused.returncode == 2 and "pip install 'timellm[baselines]'" in refused.stderr


@needs_statsforecast
def test_real_baselines_stand_in_a_table_of_their_own(cli: Cli, small_csv: Path, tmp_path: Path) -> None:
    checkpoint = save_untrained(tmp_path / "run" / "best.pt", make_config(small_csv))
    plain = last_json(cli("eval", checkpoint, "--baselines", "theta,auto_ets", "--limit", "5", "--json"))
    table = plain["spaced"]
    assert (table["origins"], table["windows"], table["left_out"], table["failed"]) == (5, 10, {}, {})
    assert [line["name"] for line in table["lines"]] == [
        "run", "last value", "seasonal naive", "linear", "theta", "auto_ets",
    ]  # fmt: skip
    by_name = {line["name"]: line["mse"] for line in table["lines"]}
    assert by_name["linear"] == pytest.approx(plain["entries"][3]["mse"], rel=1e-6), "all windows are chosen"
    assert by_name["auto_ets"] < by_name["last value"]
    assert all(line["wql"] is None for line in table["lines"])
    banded = last_json(cli("eval", checkpoint, "--baselines", "theta,auto_ets", "--limit", "5", "--metrics", "--json"))
    lines = {line["name"]: line for line in banded["spaced"]["lines"]}
    assert lines["theta"]["mse"] == pytest.approx(by_name["theta"], rel=1e-9), "bands change no forecast"
    assert all(lines[name]["wql"] > 0 for name in ("theta", "auto_ets", "linear", "last value"))
    assert 50 < lines["auto_ets"]["held"]["80"] <= lines["auto_ets"]["held"]["95"] <= 100
    page = tmp_path / "page.html"
    shown = cli("eval", checkpoint, "--baselines", "theta", "--limit", "5", "--metrics", "--report", page).stdout
    assert "WQL" in shown.partition("evenly spaced")[2]
    assert "80 %<br>held" in page.read_text(encoding="utf-8")


@needs_statsforecast
def test_what_runs_out_of_time_is_left_out_by_name() -> None:
    rows = np.sin(np.arange(120) / 3)[None].repeat(3, axis=0)
    places, found = Classical(("theta",), 1, 4, 0.0).run([[0, 1, 2]], lambda some: rows[list(some)])
    assert not found.by_name and found.left_out["theta"].startswith("0 of 3 windows in 0.0 minutes")
    assert list(places) == [0, 1, 2]
