"""The report's day with an event: which one it is, and its forecast with the day map and without."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.commands.test_known_ahead import COLUMN, TEXT, Train, shop, train  # noqa: F401  (fixtures)
from tests.conftest import Cli
from timellm_cli.data.windows import load_data
from timellm_cli.evaluation.event_day import EventDay, make_event_day
from timellm_cli.forecasting.open_checkpoint import config_for, open_checkpoint
from timellm_cli.model.day_reader import read_days
from timellm_cli.planning.hardware import Machine
from timellm_cli.training.checkpoint import clock_of, load_checkpoint

CPU = Machine(None, 8 * 2**30, torch_has_cuda=False)


def event_day(checkpoint: Path) -> EventDay | None:
    """As `eval` makes it."""
    trained = load_checkpoint(checkpoint)
    config = config_for(trained, "cpu", None, None, {})
    data = load_data(config, trained.scaler, trained.columns, trained.ids, clock_of(trained))
    runner, _ = open_checkpoint(trained, config, CPU, offline=True)
    if data.ahead and data.ahead.lines:
        read_days(runner, data.ahead.lines.lines, config)
    day = make_event_day(runner, data, "test")
    if day is not None:
        check_forecasts(day, runner, data)
    return day


def check_forecasts(day: EventDay, runner: object, data: object) -> None:
    """With the map is what the runner forecasts; without is the numeric part alone, for the same history."""
    samples = data.windows("test")
    channel = data.table.channels.index(day.channel)
    places = [number for number in range(len(samples)) if int(samples.batch([number]).channel_B) == channel]
    std, mean = data.scaler.std_C[channel], data.scaler.mean_C[channel]
    for number in places:
        batch = samples.batch([number])
        first = data.table.stamps[int(batch.start_B[0]) + batch.history_BT.shape[1]]
        if data.table.style.write(first) == day.first:
            np.testing.assert_allclose(batch.history_BT[0].double() * std + mean, day.history, rtol=1e-5)
            prompt = runner.encode(batch).prompt
            with torch.no_grad():
                parts = runner.model.parts(batch.history_BT, prompt, None, *batch.ahead_tensors)
                numeric_BH, start_BH, added_BH = parts
            np.testing.assert_allclose(day.without, numeric_BH[0].double() * std + mean, rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(
                day.forecast, (numeric_BH + start_BH + added_BH)[0].double() * std + mean, rtol=1e-5, atol=1e-5
            )
            return
    pytest.fail("the history is of no window")


def test_it_is_the_first_event_of_the_test_rows_and_the_day_map_makes_the_difference(
    cli: Cli,
    train: Train,  # noqa: F811
    tmp_path: Path,
) -> None:
    train("text", *TEXT)
    day = event_day(tmp_path / "checkpoints/text/best.pt")
    assert day is not None
    # 80 days, the last 16 of them test; every ninth has a sale: day 72 is the first, and the target comes first.
    assert (str(day.day), day.channel, day.chosen) == ("2024-03-13", "right", "event")
    assert (day.first, day.last) == ("2024-03-13 00:00:00", "2024-03-13 18:00:00")
    assert day.read.startswith("Sale.")
    assert day.on_day == (True,) * 4
    assert day.mae < 0.7 * day.mae_without
    cli("eval", "checkpoints/text/best.pt", "--report", "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "A day with an event, with and without what is known of it" in page
    assert "2024-03-13: right" in page
    assert "<pre>Sale." in page


def test_without_text_it_is_the_day_with_the_least_usual_columns(
    cli: Cli,
    train: Train,  # noqa: F811
    tmp_path: Path,
) -> None:
    train("column", *COLUMN, "--max-steps=60")
    day = event_day(tmp_path / "checkpoints/column/best.pt")
    assert day is not None
    assert (str(day.day), day.chosen, day.read) == ("2024-03-13", "columns", "sale 1")
    assert not day.adds_nothing
    cli("eval", "checkpoints/column/best.pt", "--report", "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "A day with unusual columns, with and without" in page
    assert "the columns of this one differ most" in page
    assert "adds nothing" not in page
    assert replace(day, forecast=day.without).adds_nothing


def test_a_run_that_knows_nothing_ahead_or_of_no_event_has_none(
    cli: Cli,
    train: Train,  # noqa: F811
    tmp_path: Path,
) -> None:
    train("without", "--exclude=sale", "--max-steps=2")
    train("weekdays", "--exclude=sale", "--weekday-text=weekday", "--max-steps=2")
    assert event_day(tmp_path / "checkpoints/without/best.pt") is None
    assert event_day(tmp_path / "checkpoints/weekdays/best.pt") is None
    cli("eval", "checkpoints/without/best.pt", "--report", "page.html")
    assert "A day with an event" not in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_an_event_of_one_channel_shows_that_channel_and_a_forecast_longer_than_a_day_marks_the_day(
    train: Train,  # noqa: F811
    tmp_path: Path,
) -> None:
    (tmp_path / "events.csv").write_text(
        "start,channel,text\n2024-01-10,left,fair\n2024-03-14,left,fair\n2024-03-16,right,sale\n", encoding="utf-8"
    )
    train("one", *TEXT, "--pred-len=12", "--max-steps=20")
    day = event_day(tmp_path / "checkpoints/one/best.pt")
    assert day is not None
    assert (str(day.day), day.channel) == ("2024-03-14", "left")
    assert day.on_day == (True,) * 4 + (False,) * 8
    assert day.mae == pytest.approx(np.abs(np.array(day.forecast) - day.future)[:4].mean())
