"""A forecast as CSV, JSON, terminal table and picture."""

import csv
import io
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from rich.console import Console

from timellm_cli.config import DataConfig
from timellm_cli.data.open_csv import open_csv
from timellm_cli.report.charts import families_for
from timellm_cli.report.forecast import (
    MOST_PANELS,
    Forecast,
    decimals_of,
    draw_bars,
    plot_forecast,
    render,
    to_json,
)
from timellm_cli.report.forecast_file import Layout

HOURS = np.datetime64("2024-01-01T00:00", "us") + np.arange(72) * np.timedelta64(3600, "s")


def make_forecast(columns: tuple[str, ...] = ("load", "OT"), known: int = 0) -> Forecast:
    """48 hours of history, 24 of forecast; the channels are ramps of 1 and 1000 a row."""
    ramp_NC = np.arange(72.0)[:, None] * np.logspace(0, 3, len(columns))
    actual_HC = np.full((24, len(columns)), np.nan)
    actual_HC[:known] = ramp_NC[48 : 48 + known] + 2
    resolution_C = 1e-5 * np.logspace(0, 3, len(columns))
    dates = [f"{hour:%d.%m.%Y %H:%M}" for hour in HOURS.tolist()]
    texts = dates[47], dates[48:]
    return Forecast(columns, HOURS[:48], ramp_NC[:48], HOURS[48:], ramp_NC[48:], actual_HC, resolution_C, *texts)


def laid_out(header: str, row: str = "x;1;1", **changes: object) -> Layout:
    """The layout of a CSV with this header and row."""
    csv_format = open_csv(io.BytesIO(f"{header}\n{row}\n".encode()), None, DataConfig(date_column="when"))
    return Layout(replace(csv_format, **changes), ("when",))  # type: ignore[arg-type]


def show(forecast: Forecast, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(render(forecast, width))
    return console.file.getvalue()


def test_the_csv_has_dates_columns_and_digits_of_the_input() -> None:
    text = laid_out("when;load;OT").text(make_forecast())
    rows = list(csv.reader(io.StringIO(text), delimiter=";"))
    assert rows[0] == ["when", "load", "OT"]
    assert rows[1] == ["03.01.2024 00:00", "48.00000", "48000.00"]
    assert len(rows) == 25
    assert text.endswith("03.01.2024 23:00;71.00000;71000.00\n")


def test_names_with_delimiters_are_quoted() -> None:
    assert laid_out("when,x").text(make_forecast(("a,b", 'say "x"'))).splitlines()[0] == 'when,"a,b","say ""x"""'


def test_json_holds_the_figures_of_the_csv_and_what_is_known() -> None:
    plain, known = to_json(make_forecast()), to_json(make_forecast(known=3))
    assert plain["last_known"] == "02.01.2024 23:00"
    assert (plain["steps"], plain["dates"][-1], plain["actual"]) == (24, "03.01.2024 23:00", None)
    assert plain["forecast"]["OT"][:2] == [48000.0, 49000.0]
    assert known["actual"] == {"load": [50.0, 51.0, 52.0], "OT": [48002.0, 49002.0, 50002.0]}


@pytest.mark.parametrize(("resolution", "decimals"), [(1e-5, 5), (2.5e-4, 4), (1.0, 0), (1234.0, 0)])
def test_decimals_show_the_resolution_and_no_more(resolution: float, decimals: int) -> None:
    assert decimals_of(resolution) == decimals


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_the_terminal_and_names_every_channel(width: int) -> None:
    text = show(make_forecast(known=5), width)
    assert max(map(len, text.splitlines())) <= width
    for words in (
        "24 steps",
        "03.01.2024 00:00 to 03.01.2024 23:00",
        "load",
        "OT",
        "▁",
        "█",
        "71,000",
        "knows the first 5",
    ):
        assert words in " ".join(text.split())
    assert "2.00" in text


def test_markup_in_a_name_is_not_interpreted() -> None:
    assert "[red]x" in show(make_forecast(("[red]x",)), 80)


def test_many_channels_are_counted_not_listed() -> None:
    text = show(make_forecast(tuple(f"channel {number}" for number in range(30))), 120)
    assert "channel 19" in text
    assert "channel 20" not in text
    assert "and 10 more channels" in text


def test_bars_follow_the_values() -> None:
    assert draw_bars(np.arange(8.0), 0, 7, 8) == "▁▂▃▄▅▆▇█"
    assert draw_bars(np.repeat([0.0, 7.0], 50), 0, 7, 4) == "▁▁██"
    assert draw_bars(np.full(3, 5.0), 5, 5, 10) == "▅▅▅"


@pytest.mark.parametrize(
    "columns", [("OT",), ("负荷 (MW)", "油温", "price $"), tuple(map(str, range(MOST_PANELS + 3)))]
)
def test_the_picture_is_a_png_without_a_warning_whatever_the_names(columns: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "forecast.png"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        notes = plot_forecast(make_forecast(columns, known=4), path)
    height, width, _ = imread(path).shape
    assert width > 1000
    assert height > 400
    assert [file.name for file in tmp_path.iterdir()] == ["forecast.png"]
    undrawable = [name for name in columns[:MOST_PANELS] if families_for(name) is None]
    assert len(notes) == len(undrawable) + (len(columns) > MOST_PANELS)
    if len(columns) > MOST_PANELS:
        assert notes[0] == f"the picture shows {MOST_PANELS} of {len(columns)} channels"


def test_latin_and_greek_names_need_no_other_font_and_nonsense_has_none() -> None:
    assert families_for("Σ load °C, é") == ["DejaVu Sans"]
    assert families_for("\U000f0000") is None
