"""The charts of `report.html` as plain counts that its template draws as SVG, and fonts for any channel's name.

A chart is as wide as a phone; a larger screen shows several side by side. y grows downwards, as in SVG.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

from timellm_cli.evaluation.bands import USUAL_LEVELS
from timellm_cli.evaluation.evaluated import LeaderboardEntry
from timellm_cli.evaluation.event_day import EventDay
from timellm_cli.evaluation.examples import Example
from timellm_cli.evaluation.leaderboard import Leaderboard
from timellm_cli.report.training_log import smooth

WIDTH, HEIGHT = 360, 210
_LETTER = 6.4
"""Width of a letter of a tick label."""
_HISTORY_LENGTH = 2.5
"""Length of the history that is shown, as a multiple of the forecast's."""
_MODEL_STYLES = ("model-1", "model-2", "model-3", "model-4")

LATIN = "DejaVu Sans"
_PREFERRED_FONTS = (
    "Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "Microsoft YaHei", "PingFang SC", "Hiragino Sans GB",
    "WenQuanYi Micro Hei", "SimHei", "Arial Unicode MS",
)  # fmt: skip
_PLACEHOLDER_FONT = "Last Resort"
"""This font draws an empty box for every character."""


@dataclass(frozen=True)
class Series:
    """A line, or with `highs` the area between `ys` and `highs`.

    `style` is its class in the stylesheet, `label` its name in the legend (empty: none).
    """

    label: str
    style: str
    xs: Sequence[float]
    ys: Sequence[float]
    highs: Sequence[float] = ()


@dataclass(frozen=True)
class Chart:
    """Everything the template draws.

    Ticks are a coordinate and a label; areas and lines a style and their points as SVG writes them. `legend` holds
    styles and labels; `rule` is the x of a vertical line.
    """

    width: ClassVar[int] = WIDTH
    height: ClassVar[int] = HEIGHT
    right: ClassVar[float] = WIDTH - 10
    top: ClassVar[float] = 10
    bottom: ClassVar[float] = HEIGHT - 34

    left: float
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    areas: list[tuple[str, str]]
    lines: list[tuple[str, str]]
    legend: tuple[tuple[str, str], ...]
    rule: float | None
    x_label: str


def horizon_chart(leaderboard: Leaderboard) -> Chart | None:
    """MSE of each step of the horizon: the best models and the best baseline. None where there is a single step."""
    if leaderboard.pred_len < 2:
        return None
    drawn = [*style_models(leaderboard), (leaderboard.best_baseline, "baseline")]
    return line_chart(
        [Series(one.name, style, [step.first for step in one.steps], [step.mse for step in one.steps])
         for one, style in drawn],
        x_label="step of the horizon",
    )  # fmt: skip


def example_chart(example: Example) -> Chart:
    """A window in the CSV's units: the end of its history, what came, and the forecast with its usual bands.

    x counts rows from the end of the history.
    """
    steps = len(example.future)
    history = example.history[-min(len(example.history), max(8, round(_HISTORY_LENGTH * steps))) :]
    first, ahead, end = 1 - len(history), range(steps + 1), history[-1]
    series = [
        Series("history", "history", range(first, 1), history),
        Series("what came", "truth", ahead, (end, *example.future)),
        Series("forecast", "model-1", ahead, (end, *example.forecast)),
    ]
    # The widest band comes first, so that the narrower ones are drawn over it.
    for number, level in enumerate(sorted(set(example.bands) & set(USUAL_LEVELS), reverse=True), 1):
        around = list(zip(example.forecast, example.bands[level], strict=True))
        lows, highs = [value - half for value, half in around], [value + half for value, half in around]
        series.append(Series(f"{level} % band", f"model-1 band-{number}", ahead[1:], lows, highs))
    ticks = [(float(first), f"{first} rows"), (0.0, "0"), (float(steps), f"+{steps}")]
    return line_chart(series, x_ticks=ticks, rule=0)


def event_chart(shown: EventDay) -> Chart:
    """A day with an event in the CSV's units: what came, the forecast with the day map, and that without."""
    steps = len(shown.future)
    history = shown.history[-min(len(shown.history), max(8, round(_HISTORY_LENGTH * steps))) :]
    first, ahead, end = 1 - len(history), range(steps + 1), history[-1]
    series = [
        Series("history", "history", range(first, 1), history),
        Series("what came", "truth", ahead, (end, *shown.future)),
        Series("forecast without", "without", ahead, (end, *shown.without)),
        Series("forecast with", "model-1", ahead, (end, *shown.forecast)),
    ]
    ticks = [(float(first), f"{first} rows"), (0.0, "0"), (float(steps), f"+{steps}")]
    return line_chart(series, x_ticks=ticks, rule=0)


def coverage_chart(leaderboard: Leaderboard) -> Chart | None:
    """The share of the values that the bands of each level held. None where no model has bands."""
    series = [
        Series(entry.name, style, [one.level for one in entry.coverage], [one.coverage for one in entry.coverage])
        for entry, style in style_models(leaderboard)
        if entry.coverage
    ]
    if not series:
        return None
    levels = sorted({level for line in series for level in line.xs})
    ticks = [(float(level), str(level)) for level in levels if level in (50, 60, 70, 80, 90, 99)]
    return line_chart([Series("as promised", "baseline", levels, levels), *series], x_label="level, %", x_ticks=ticks)


def loss_chart(logs: Sequence[list[dict[str, Any]]]) -> Chart | None:
    """Training and validation loss by step, a line for each seed. None where no run has metrics.

    `logs` holds the lines of each run's metrics.jsonl, as `read_metrics` returns them.
    """
    series = []
    for lines in logs:
        steps = [line for line in lines if line["event"] == "step"]
        epochs = [line for line in lines if line["event"] == "epoch"]
        for name, points, losses in (
            ("training", steps, smooth([line["loss"] for line in steps])),
            ("validation", epochs, [line["val_loss"] for line in epochs]),
        ):
            if points:
                series.append(Series(name, name, [line["step"] for line in points], losses))
    return line_chart(series, x_label="step") if series else None


def style_models(leaderboard: Leaderboard) -> list[tuple[LeaderboardEntry, str]]:
    """The best models, best first, with the style that each has in all charts; the rest are not drawn."""
    return list(zip(sorted(leaderboard.models, key=lambda entry: entry.rank), _MODEL_STYLES, strict=False))


def line_chart(
    series: Sequence[Series],
    *,
    x_label: str = "",
    x_ticks: Sequence[tuple[float, str]] | None = None,
    rule: float | None = None,
) -> Chart:
    """Lines and areas on common axes; points whose y is not finite are left out. The legend has the areas first."""
    areas, lines = [one for one in series if one.highs], [one for one in series if not one.highs]
    xs = [x for line in lines for x in line.xs]
    low, high = _with_margin([y for one in series for y in (*one.ys, *one.highs) if math.isfinite(y)])
    y_values = nice_ticks(low, high)
    labels = tick_labels(y_values)
    left = round(8 + _LETTER * max(map(len, labels)), 1)
    across = _scale(min(xs), max(xs), left, Chart.right)
    down = _scale(low, high, Chart.bottom, Chart.top)

    def draw(one: Series) -> tuple[str, str]:
        outline = zip([*one.xs, *reversed(one.xs)], [*one.ys, *reversed(one.highs)], strict=False)
        points = [f"{across(x):g},{down(y):g}" for x, y in outline if math.isfinite(y)]
        # SVG draws nothing for a line of one point. With the point twice, it draws the line's round cap.
        return one.style, " ".join(points * 2 if len(points) == 1 else points)

    if x_ticks is None:
        x_ticks = [(x, f"{x:,.0f}") for x in nice_ticks(min(xs), max(xs))]
    return Chart(
        left=left,
        x_ticks=[(across(x), label) for x, label in x_ticks],
        y_ticks=[(down(y), label) for y, label in zip(y_values, labels, strict=True)],
        areas=list(map(draw, areas)),
        lines=list(map(draw, lines)),
        legend=tuple(dict.fromkeys((one.style, one.label) for one in (*areas, *lines) if one.label)),
        rule=None if rule is None else across(rule),
        x_label=x_label,
    )


def _scale(low: float, high: float, start: float, stop: float) -> Callable[[float], float]:
    """Maps values from `low` to `high` onto coordinates from `start` to `stop`."""
    span = high - low
    return lambda value: round(start + ((value - low) / span if span > 0 else 0.5) * (stop - start), 1)


def _with_margin(values: Sequence[float]) -> tuple[float, float]:
    """The range of the values with a margin. It is never empty, and does not go below 0 where no value does."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    margin = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    return (max(0.0, low - margin) if low >= 0 else low - margin), high + margin


def nice_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """At most `most` round numbers from `low` to `high`: multiples of 1, 2 or 5 times a power of ten."""
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw)) if raw > 0 else 1.0
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * (1 - 1e-9))
    return [number * step for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def tick_labels(values: Sequence[float]) -> list[str]:
    """The values with as many decimals as it takes to distinguish them."""
    step = values[1] - values[0] if len(values) > 1 else abs(values[0]) or 1.0
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return [f"{value:,.{decimals}f}" for value in values]


def families_for(text: str) -> list[str] | None:
    """Font families that together draw every character of `text`. None if this computer has no font for one of them."""
    files = {font.name: font.fname for font in font_manager.fontManager.ttflist}
    missing = {character for character in text if not character.isspace()} - _characters(files[LATIN])
    if not missing:
        return [LATIN]
    preferred = [name for name in _PREFERRED_FONTS if name in files]
    others = sorted(name for name in files if not name.startswith(_PLACEHOLDER_FONT))
    return next(([LATIN, name] for name in (*preferred, *others) if missing <= _characters(files[name])), None)


@cache
def _characters(file: str) -> set[str]:
    try:
        return {chr(code) for code in FT2Font(file).get_charmap()}
    except (OSError, RuntimeError):
        return set()
