"""Line charts as plain geometry: data to places on a small canvas, which a template draws as SVG.

A canvas is as wide as a phone; on a larger screen several stand side by side. y grows downwards, as SVG has it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

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
