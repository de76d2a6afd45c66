"""The charts of the report: errors by step, forecasts of single windows, losses of the runs."""

from collections.abc import Sequence
from typing import Any

from timellm_cli.evaluation.comparison import Comparison
from timellm_cli.evaluation.coverage import USUAL_LEVELS
from timellm_cli.evaluation.entries import Entry
from timellm_cli.evaluation.examples import Example
from timellm_cli.report.chart import Chart, Range, Series, line_chart
from timellm_cli.report.curves import smooth

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
