"""Fonts for names that matplotlib's own font cannot draw, such as Chinese ones.

Line charts as plain geometry: data to places on a small canvas, which a template draws as SVG.

A canvas is as wide as a phone; on a larger screen several stand side by side. y grows downwards, as SVG has it.

The charts of the report: errors by step, forecasts of single windows, losses of the runs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

from timellm_cli.evaluation.bands import USUAL_LEVELS
from timellm_cli.evaluation.evaluated import Entry
from timellm_cli.evaluation.examples import Example
from timellm_cli.evaluation.leaderboard import Comparison
from timellm_cli.report.training_log import smooth

LATIN = "DejaVu Sans"
_FAVOURITES = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "Microsoft YaHei",
    "PingFang SC",
    "Hiragino Sans GB",
    "WenQuanYi Micro Hei",
    "SimHei",
    "Arial Unicode MS",
)
_PLACEHOLDERS = "Last Resort"
"""A font that has a box for every character there is."""


def families_for(text: str) -> list[str] | None:
    """Font families that together draw every character of `text`, or None if this computer has none for some."""
    files = {font.name: font.fname for font in font_manager.fontManager.ttflist}
    missing = {character for character in text if not character.isspace()} - _characters(files[LATIN])
    if not missing:
        return [LATIN]
    others = sorted(name for name in files if not name.startswith(_PLACEHOLDERS))
    for name in (*(favourite for favourite in _FAVOURITES if favourite in files), *others):
        if missing <= _characters(files[name]):
            return [LATIN, name]
    return None


@cache
def _characters(file: str) -> set[str]:
    try:
        return {chr(code) for code in FT2Font(file).get_charmap()}
    except (OSError, RuntimeError):
        return set()


WIDTH, HEIGHT = 360, 210
_TOP, _RIGHT, _BOTTOM = 10, 10, 34
_LETTER = 6.4
"""Width of a letter of a tick label."""


@dataclass(frozen=True)
class Series:
    """A line: `style` is its class in the stylesheet, `label` its name in the legend (empty: none)."""

    label: str
    style: str
    xs: Sequence[float]
    ys: Sequence[float]


@dataclass(frozen=True)
class Range:
    """An area between `lows` and `highs`."""

    label: str
    style: str
    xs: Sequence[float]
    lows: Sequence[float]
    highs: Sequence[float]


@dataclass(frozen=True)
class Tick:
    """A label at a place of an axis."""

    at: float
    label: str


@dataclass(frozen=True)
class Shape:
    """A polyline or polygon: its points as SVG writes them."""

    style: str
    points: str


@dataclass(frozen=True)
class Chart:
    """All a template needs. `legend` holds style and label of what is drawn; `rule` is the place of a vertical line."""

    width: int
    height: int
    left: float
    right: float
    top: float
    bottom: float
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    areas: tuple[Shape, ...]
    lines: tuple[Shape, ...]
    legend: tuple[tuple[str, str], ...]
    rule: float | None
    x_label: str


def line_chart(
    series: Sequence[Series],
    *,
    ranges: Sequence[Range] = (),
    x_label: str = "",
    x_ticks: Sequence[tuple[float, str]] | None = None,
    rule: float | None = None,
    height: int = HEIGHT,
) -> Chart:
    """Lines and areas on common axes. Points that are no finite numbers are left out."""
    xs = [x for line in series for x in line.xs]
    ys = [y for line in series for y in line.ys] + [y for area in ranges for y in (*area.lows, *area.highs)]
    low, high = _widened([y for y in ys if math.isfinite(y)])
    y_values = nice_ticks(low, high)
    labels = tick_labels(y_values)
    left = round(8 + _LETTER * max(map(len, labels)), 1)
    across = _Scale(min(xs), max(xs), left, WIDTH - _RIGHT)
    down = _Scale(low, high, height - _BOTTOM, _TOP)
    ticks = x_ticks if x_ticks is not None else [(x, f"{x:,.0f}") for x in nice_ticks(min(xs), max(xs))]
    drawn = [*((area.style, area.label) for area in ranges), *((line.style, line.label) for line in series)]
    return Chart(
        width=WIDTH,
        height=height,
        left=left,
        right=WIDTH - _RIGHT,
        top=_TOP,
        bottom=height - _BOTTOM,
        x_ticks=tuple(Tick(across(x), label) for x, label in ticks),
        y_ticks=tuple(Tick(down(y), label) for y, label in zip(y_values, labels, strict=True)),
        areas=tuple(
            Shape(
                area.style,
                _points(across, down, [*area.xs, *reversed(area.xs)], [*area.lows, *reversed(area.highs)]),
            )
            for area in ranges
        ),
        lines=tuple(Shape(line.style, _points(across, down, line.xs, line.ys)) for line in series),
        legend=tuple(dict.fromkeys((style, label) for style, label in drawn if label)),
        rule=None if rule is None else across(rule),
        x_label=x_label,
    )


def nice_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """At most `most` round numbers from `low` to `high`: multiples of 1, 2 or 5 times a power of ten."""
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw)) if raw > 0 else 1.0
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def tick_labels(values: Sequence[float]) -> list[str]:
    """The values with as many decimals as tell them apart."""
    step = values[1] - values[0] if len(values) > 1 else abs(values[0]) or 1.0
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return [f"{value:,.{decimals}f}" for value in values]


@dataclass(frozen=True)
class _Scale:
    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return round(self.start + share * (self.stop - self.start), 1)


def _widened(values: Sequence[float]) -> tuple[float, float]:
    """The range of the values with a little room; a range of some width also where they are all alike."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    room = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    return (max(0.0, low - room) if low >= 0 else low - room), high + room


def _points(across: _Scale, down: _Scale, xs: Sequence[float], ys: Sequence[float]) -> str:
    """A lonely point comes twice: a line of no length is drawn as its round cap."""
    found = [point for point in zip(xs, ys, strict=True) if math.isfinite(point[1])]
    return " ".join(f"{across(x):g},{down(y):g}" for x, y in (found * 2 if len(found) == 1 else found))


_MODEL_STYLES = ("model-1", "model-2", "model-3", "model-4")
_TAIL = 2.5
"""History shown, in lengths of the forecast."""


def style_models(comparison: Comparison) -> list[tuple[Entry, str]]:
    """The best models that there are styles for, best first: a model looks alike in all charts."""
    ranked = sorted(comparison.models, key=lambda entry: entry.rank)
    return list(zip(ranked, _MODEL_STYLES, strict=False))


def horizon_chart(comparison: Comparison) -> Chart | None:
    """MSE of each step of the horizon: the best models and the best baseline. None where there is a single step."""
    if comparison.pred_len < 2:
        return None
    drawn = [*style_models(comparison), (comparison.best_baseline, "baseline")]
    series = [_by_step(entry, style) for entry, style in drawn]
    return line_chart(series, x_label="step of the horizon")


def example_chart(example: Example) -> Chart:
    """The end of a window's history, what came, and what was forecast with its usual bands, in the CSV's units.

    x is rows from the end of the history.
    """
    steps = len(example.future)
    history = example.history[-min(len(example.history), max(8, round(_TAIL * steps))) :]
    past, ahead = range(1 - len(history), 1), range(steps + 1)
    end = history[-1]
    series = [
        Series("history", "history", past, history),
        Series("what came", "truth", ahead, (end, *example.future)),
        Series("forecast", "model-1", ahead, (end, *example.forecast)),
    ]
    ticks = [(float(1 - len(history)), f"{1 - len(history)} rows"), (0.0, "0"), (float(steps), f"+{steps}")]
    return line_chart(series, ranges=_bands(example), x_ticks=ticks, rule=0)


def _bands(example: Example) -> list[Range]:
    """The widest first, so that the narrower lies on it."""
    levels = sorted(set(example.bands) & set(USUAL_LEVELS), reverse=True)
    return [
        Range(
            f"{level} % band",
            f"model-1 band-{place}",
            range(1, len(example.forecast) + 1),
            [value - half for value, half in zip(example.forecast, example.bands[level], strict=True)],
            [value + half for value, half in zip(example.forecast, example.bands[level], strict=True)],
        )
        for place, level in enumerate(levels, 1)
    ]


def coverage_chart(comparison: Comparison) -> Chart | None:
    """What share of the values the bands of each level held; None where no model has bands."""
    series = [
        Series(entry.name, style, [one.level for one in entry.coverage], [one.coverage for one in entry.coverage])
        for entry, style in style_models(comparison)
        if entry.coverage
    ]
    if not series:
        return None
    levels = sorted({level for line in series for level in line.xs})
    ticks = [(float(level), str(level)) for level in levels if level in (50, 60, 70, 80, 90, 99)]
    return line_chart([Series("as promised", "baseline", levels, levels), *series], x_label="level, %", x_ticks=ticks)


def loss_chart(logs: Sequence[list[dict[str, Any]]]) -> Chart | None:
    """Training and validation loss by step, a line for each seed; None where no run left its metrics."""
    series = []
    for lines in logs:
        steps = [line for line in lines if line["event"] == "step"]
        epochs = [line for line in lines if line["event"] == "epoch"]
        if steps:
            losses = smooth([line["loss"] for line in steps])
            series.append(Series("training", "training", [line["step"] for line in steps], losses))
        if epochs:
            at = [line["step"] for line in epochs]
            series.append(Series("validation", "validation", at, [line["val_loss"] for line in epochs]))
    return line_chart(series, x_label="step") if series else None


def _by_step(entry: Entry, style: str) -> Series:
    return Series(entry.name, style, [step.first for step in entry.steps], [step.mse for step in entry.steps])
