"""metrics.jsonl: what happened in a run, one JSON object a line, each step and each epoch once. Light.

curves.png: how the losses moved. Imports matplotlib when a picture is drawn.
"""

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from timellm_cli.files import disk_faults_of, replacing
from timellm_cli.training.records import BatchHalved, EpochFinished, MemoryMeasured, Record, StepLogged

_EVENTS: dict[type, str] = {
    StepLogged: "step",
    EpochFinished: "epoch",
    MemoryMeasured: "memory",
    BatchHalved: "memory_short",
}


class MetricsLog:
    """Appends to the file, line by line. Raises ModelError where the disk refuses."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def start_after(self, step: int, scored: bool) -> None:
        """Keep what led to a checkpoint of `step` steps; the rest is written anew.

        `scored` says whether the scores after that very step are part of it: a run may have stopped before them.
        """
        kept = [
            line
            for line in read_metrics(self._path)
            if line["step"] < step or (line["step"] == step and (line["event"] != "epoch" or scored))
        ]
        with disk_faults_of(self._path), replacing(self._path) as file:
            file.writelines((json.dumps(line) + "\n").encode("utf-8") for line in kept)

    def write(self, record: Record) -> None:
        """Write the records that belong into the file; the others pass."""
        if event := _EVENTS.get(type(record)):
            line = json.dumps({"event": event, **asdict(record)}) + "\n"
            with disk_faults_of(self._path), self._path.open("a", encoding="utf-8", newline="\n") as file:
                file.write(line)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics file as objects; a line that a killed process left unfinished is passed over."""
    if not path.is_file():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if isinstance(line, dict) and line.get("event") in _EVENTS.values():
            lines.append(line)
    return lines


_TRAIN, _VAL, _TEST = "#2a6f97", "#e07a1f", "#5b8e3e"
_POINTS_TO_SMOOTH = 20


def draw_curves(metrics: Path, picture: Path, title: str, loss: str) -> None:
    """Draw the file of metrics: training loss by step, as logged and smoothed, validation and test loss by epoch.

    `loss` names the kind for the axis. Draws nothing while there is nothing. Raises ModelError where the disk refuses.
    """
    lines = read_metrics(metrics)
    steps = [line for line in lines if line["event"] == "step"]
    epochs = [line for line in lines if line["event"] == "epoch"]
    if not steps:
        return
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # it tells when it builds its cache
    from matplotlib.figure import Figure

    from timellm_cli.report.charts import families_for

    figure = Figure(figsize=(9, 5), dpi=120, layout="constrained")
    axes = figure.subplots()
    _draw_training(axes, steps)
    _draw_epochs(axes, epochs)
    _limit_losses(axes, steps, epochs)
    if families := families_for(title):  # a name that no font here can draw is left to the folder of the picture
        axes.set_title(title.replace("$", r"\$"), loc="left", fontsize=11, fontfamily=families)
    axes.set_xlabel("step")
    axes.set_ylabel(f"loss ({loss.upper()}, standardised units)")
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="best")
    with disk_faults_of(picture), replacing(picture) as file:
        figure.savefig(file, format="png")


def _draw_training(axes: Any, steps: list[dict[str, Any]]) -> None:
    numbers, losses = [line["step"] for line in steps], [line["loss"] for line in steps]
    smoothed = smooth(losses)
    if smoothed == losses:
        axes.plot(numbers, losses, color=_TRAIN, linewidth=1.8, label="train", marker="." if len(steps) < 3 else None)
    else:
        axes.plot(numbers, losses, color=_TRAIN, linewidth=0.8, alpha=0.3)
        axes.plot(numbers, smoothed, color=_TRAIN, linewidth=1.8, label="train, smoothed")


def _draw_epochs(axes: Any, epochs: list[dict[str, Any]]) -> None:
    if not epochs:
        return
    numbers = [line["step"] for line in epochs]
    for key, name, color in (("val_loss", "validation", _VAL), ("test_loss", "test", _TEST)):
        axes.plot(
            numbers, [line[key] for line in epochs], color=color, linewidth=1.2, marker="o", markersize=4, label=name
        )
    best = min(epochs, key=lambda line: line["val_loss"])
    axes.plot(
        best["step"],
        best["val_loss"],
        color=_VAL,
        marker="o",
        markersize=10,
        fillstyle="none",
        linestyle="",
        label=f"best: epoch {best['epoch']}, test {best['test_loss']:.4f}",
    )
    top = axes.secondary_xaxis("top")
    shown = epochs[:: max(1, len(epochs) // 12)]
    top.set_xticks([line["step"] for line in shown], [str(line["epoch"]) for line in shown])
    top.set_xlabel("epoch")
    top.spines["top"].set_visible(False)


def _limit_losses(axes: Any, steps: list[dict[str, Any]], epochs: list[dict[str, Any]]) -> None:
    """A first step far above the rest must not flatten the curves: the highest 2 % may leave the picture."""
    losses = sorted(line["loss"] for line in steps)
    scored = [line[key] for line in epochs for key in ("val_loss", "test_loss")]
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
    """The mean of the points around each one; as they are while there are few."""
    if len(losses) < _POINTS_TO_SMOOTH:
        return losses
    reach = len(losses) // (2 * _POINTS_TO_SMOOTH) + 1
    return [
        sum(around) / len(around)
        for around in (losses[max(0, place - reach) : place + reach + 1] for place in range(len(losses)))
    ]
