"""What a run leaves of its training: metrics.jsonl, its events line by line, and curves.png, the losses drawn.

Importing is light: matplotlib is imported when a picture is drawn.
"""

import json
import logging
import math
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from timellm_cli.console import print_note
from timellm_cli.files import disk_faults_of, replacing
from timellm_cli.training.records import BatchHalved, EpochFinished, MemoryMeasured, Record, StepLogged

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Line = dict[str, Any]
"""A line of metrics.jsonl: its 'event' and the fields of its record."""

_RECORDS: dict[str, type[Record]] = {
    "step": StepLogged,
    "epoch": EpochFinished,
    "memory": MemoryMeasured,
    "memory_short": BatchHalved,
}
_LARGEST = 2**53
_LARGEST_DRAWN = 1e100
_TRAIN, _VAL, _TEST = "#2a6f97", "#e07a1f", "#5b8e3e"
_POINTS_TO_SMOOTH = 20


class MetricsLog:
    """Appends to metrics.jsonl, each step and each epoch once. A line that cannot be written is a note and left out."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._is_torn = False

    def start_after(self, step: int, scored: bool) -> None:
        """Keep the lines that led to a checkpoint of `step` steps; drop the rest, which the run writes again.

        `scored` says whether the scores after that step belong to the checkpoint: a run may have stopped before them.
        Raises ModelError where the file cannot be written.
        """
        kept = [
            line
            for line in read_metrics(self._path)
            if line["step"] < step or (line["step"] == step and (line["event"] != "epoch" or scored))
        ]
        with disk_faults_of(self._path), replacing(self._path) as file:
            file.writelines((json.dumps(line) + "\n").encode("utf-8") for line in kept)

    def write(self, record: Record) -> None:
        """Append the record if its kind belongs in the file."""
        event = next((name for name, kind in _RECORDS.items() if type(record) is kind), None)
        if event is None:
            return
        line = json.dumps({"event": event, **asdict(record)}) + "\n"
        try:
            with self._path.open("a", encoding="utf-8", newline="\n") as file:
                file.write(f"\n{line}" if self._is_torn else line)  # the line before may have been cut off
            self._is_torn = False
        except OSError as error:
            if not self._is_torn:
                print_note(f"{self._path} cannot be written ({error.strerror}): it lacks lines; the training goes on")
            self._is_torn = True


def read_metrics(path: Path) -> list[Line]:
    """The lines of metrics.jsonl; none where there is no file. Skips what is no line of ours, as a power cut leaves."""
    content = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    return [line for text in content.split("\n") if (line := _parse(text))]


@cache
def _reader(event: str) -> TypeAdapter[Record]:
    return TypeAdapter(_RECORDS[event])


def _parse(text: str) -> Line | None:
    """A line with exactly the fields of its record; None for anything else."""
    try:
        event = json.loads(text)["event"]
        line = asdict(_reader(event).validate_json(text, strict=True))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return {"event": event, **line} if 0 <= line["step"] < _LARGEST else None


def draw_curves(metrics: Path, picture: Path, title: str, loss: str) -> None:
    """Draw metrics.jsonl: training loss by step, as logged and smoothed; validation and test loss by epoch.

    `loss` is the kind of loss, for the axis. Draws nothing while there is no step. A picture that cannot be drawn or
    written is a note: no training ends for it.
    """
    try:
        lines = [{key: _drawable(value) for key, value in line.items()} for line in read_metrics(metrics)]
        if steps := [line for line in lines if line["event"] == "step"]:
            _draw(steps, [line for line in lines if line["event"] == "epoch"], picture, title, loss)
    except Exception as error:
        print_note(f"{picture} cannot be drawn: {error}")


def _drawable(value: Any) -> Any:
    """A loss as it is, or NaN, which is left out, for one that no axis has room for."""
    return value if not isinstance(value, float) or abs(value) < _LARGEST_DRAWN else math.nan


def _draw(steps: list[Line], epochs: list[Line], picture: Path, title: str, loss: str) -> None:
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # else it reports that it builds its cache
    from matplotlib.figure import Figure

    from timellm_cli.report.charts import families_for

    figure = Figure(figsize=(9, 5), dpi=120, layout="constrained")
    axes = figure.subplots()
    _draw_training(axes, steps)
    if epochs:
        _draw_epochs(axes, epochs)
    _limit_losses(axes, steps, epochs)
    if families := families_for(title):  # a title that no font here can draw is left out
        axes.set_title(title.replace("$", r"\$"), loc="left", fontsize=11, fontfamily=families)
    axes.set_xlabel("step")
    axes.set_ylabel(f"loss ({loss.upper()}, standardised units)")
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="best")
    with replacing(picture) as file:
        figure.savefig(file, format="png")


def _draw_training(axes: "Axes", steps: list[Line]) -> None:
    numbers, losses = [line["step"] for line in steps], [line["loss"] for line in steps]
    smoothed, label, marker = smooth(losses), "train", "." if len(steps) < 3 else None
    if smoothed != losses:
        axes.plot(numbers, losses, color=_TRAIN, linewidth=0.8, alpha=0.3)
        label = "train, smoothed"
    axes.plot(numbers, smoothed, color=_TRAIN, linewidth=1.8, label=label, marker=marker)


def _draw_epochs(axes: "Axes", epochs: list[Line]) -> None:
    """The losses after each epoch, a ring around the best epoch, and the epochs' numbers along the top."""
    numbers = [line["step"] for line in epochs]
    dots: dict[str, Any] = {"linewidth": 1.2, "marker": "o", "markersize": 4}
    axes.plot(numbers, [line["val_loss"] for line in epochs], color=_VAL, label="validation", **dots)
    axes.plot(numbers, [line["test_loss"] for line in epochs], color=_TEST, label="test", **dots)
    best = min(epochs, key=lambda line: (math.isnan(line["val_loss"]), line["val_loss"]))
    label = f"best: epoch {best['epoch']}, test {best['test_loss']:.4f}"
    ring: dict[str, Any] = {"marker": "o", "markersize": 10, "fillstyle": "none", "linestyle": ""}
    axes.plot(best["step"], best["val_loss"], color=_VAL, label=label, **ring)
    top = axes.secondary_xaxis("top")
    shown = epochs[:: max(1, len(epochs) // 12)]
    top.set_xticks([line["step"] for line in shown], [str(line["epoch"]) for line in shown])
    top.set_xlabel("epoch")
    top.spines["top"].set_visible(False)


def _limit_losses(axes: "Axes", steps: list[Line], epochs: list[Line]) -> None:
    """Cut off the highest 2 % of the training losses, so that a first step far above the rest flattens no curve."""
    losses = sorted(line["loss"] for line in steps if not math.isnan(line["loss"])) or [0.0]
    scored = [line[key] for line in epochs for key in ("val_loss", "test_loss") if not math.isnan(line[key])]
    highest = max([losses[int(0.98 * (len(losses) - 1))], *scored])
    lowest = min([losses[0], *scored])
    if 0 < 10 * lowest < highest:
        axes.set_yscale("log")
        axes.set_ylim(lowest / 1.3, highest * 1.3)
    else:
        margin = 0.1 * (highest - lowest) or 0.1 * highest or 1.0
        axes.set_ylim(max(0.0, lowest - margin), highest + margin)
    axes.set_xlim(left=0)


def smooth(losses: list[float]) -> list[float]:
    """The mean of the points around each one, in linear time. Fewer than 20 points stay as they are.

    Sums are built within blocks as wide as the mean, and a mean spans two blocks at most. So it only holds values
    from its own points: a huge loss elsewhere costs the others no digits, and a NaN spoils no others.
    """
    count = len(losses)
    if count < _POINTS_TO_SMOOTH:
        return losses
    reach = count // (2 * _POINTS_TO_SMOOTH) + 1
    width = 2 * reach + 1
    to_end = [0.0] * reach + losses + [0.0] * reach
    from_start = to_end.copy()
    for i in range(1, len(to_end)):
        if i % width:
            from_start[i] += from_start[i - 1]
    for i in range(len(to_end) - 2, -1, -1):
        if (i + 1) % width:
            to_end[i] += to_end[i + 1]
    return [
        (to_end[i] + (from_start[i + width - 1] if i % width else 0.0))
        / (min(count, i + reach + 1) - max(0, i - reach))
        for i in range(count)
    ]
