"""Which scale makes bands hold on the test span what they promise: several scales, real data, the linear baseline.

    timellm fetch auckland-pedestrians
    python benchmarks/coverage.py --ett FOLDER [--json FILE]

FOLDER holds ETTh1.csv and ETTh2.csv. Bands are calibrated on all validation windows and counted on all test windows,
the forecast being the linear map in closed form, which takes seconds. `chosen` is what the project does: the scale that
misses least where one half of validation stands in for the other.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from timellm_cli.data.batch import Batch
from timellm_cli.data.ridge import fit_linear
from timellm_cli.data.scale import Floats
from timellm_cli.data.windows import ForecastData, load_data
from timellm_cli.evaluation.bands import ValidationErrors, window_scale
from timellm_cli.evaluation.score import score
from timellm_cli.settings import resolve

LEVELS = (80, 95)
DAY, WEEK = 24, 168
SCALES: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda history_BT: torch.ones(len(history_BT)),
    "deviation": lambda history_BT: window_scale(history_BT, 0),
    "deviation, last week": lambda history_BT: window_scale(history_BT[:, -WEEK:], 0),
    "square root of the deviation": lambda history_BT: window_scale(history_BT, 0).sqrt(),
    "change in a day": lambda history_BT: window_scale(history_BT, DAY),
    "change in a day, last week": lambda history_BT: window_scale(history_BT[:, -WEEK:], DAY),
}


def tasks(ett: Path) -> Iterator[tuple[str, ForecastData]]:
    """What the rule was made with, then what it never saw."""
    for pred_len in (96, 192, 336, 720):
        for name in ("ETTh2", "ETTh1"):
            values = {"data.dataset": name, "data.path": ett / f"{name}.csv", "window.pred_len": pred_len}
            yield f"{name}-{pred_len}", load_data(resolve("etth1-smollm2").config.with_values(values))
    quickstart = resolve("quickstart").config.with_values({"data.window_stride": 1})
    yield "pedestrians, quickstart", load_data(quickstart)
    every = load_data(quickstart.with_values({"data.columns": ()})).table.columns
    others = [name for name in every if name not in quickstart.data.columns]
    values = {"data.columns": tuple(others), "data.target": others[-1]}
    yield "pedestrians, other sensors", load_data(quickstart.with_values(values))


class Gathered:
    """Errors and scales of every window of a split."""

    def __init__(self) -> None:
        self.errors: list[Tensor] = []
        self.scales: dict[str, list[Tensor]] = {name: [] for name in SCALES}

    def add(self, batch: Batch, error_BH: Tensor) -> None:
        """Called by `score` after each batch."""
        self.errors.append(error_BH.abs().float())
        for name, scale in SCALES.items():
            self.scales[name].append(scale(batch.history_BT).float())

    def ratios(self, scale: str, channels: int) -> Floats:
        """Errors in parts of a scale, C x W x H."""
        ratio_BH = torch.cat(self.errors) / torch.cat(self.scales[scale]).unsqueeze(1)
        return ratio_BH.numpy().reshape(channels, -1, ratio_BH.shape[1])


def coverages(data: ForecastData) -> tuple[dict[str, list[float]], str]:
    """Percent held on the test windows, by scale and level, and the scale that the project chooses."""
    linear, channels = fit_linear(data), data.windows("test").channels
    validation, test, errors = Gathered(), Gathered(), ValidationErrors(data)
    score(linear, data, "val", 4096, on_errors=validation.add)
    score(linear, data, "test", 4096, on_errors=test.add)
    score(linear, data, "val", 4096, on_errors=errors.add)
    held = {}
    for scale in SCALES:
        ranked_CWH = np.sort(validation.ratios(scale, channels), axis=1)
        windows = ranked_CWH.shape[1]
        halves = [ranked_CWH[:, [-(-(windows + 1) * level // 100) - 1]] for level in LEVELS]
        ratios = test.ratios(scale, channels)
        held[scale] = [100 * float((ratios <= half).mean()) for half in halves]
    intervals = errors.intervals()
    assert intervals is not None
    return held, "change in a day" if intervals.period else "deviation"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ett", type=Path, required=True, help="folder with ETTh1.csv and ETTh2.csv")
    parser.add_argument("--json", type=Path, help="append a JSON object a task to this file")
    arguments = parser.parse_args()
    print("| task | " + " | ".join(SCALES) + " | chosen |\n|" + "---|" * (len(SCALES) + 2))
    for name, data in tasks(arguments.ett):
        held, chosen = coverages(data)
        cells = [" / ".join(f"{share:.1f}" for share in shares) for shares in held.values()]
        print(f"| {name} | " + " | ".join(cells) + f" | {chosen} |", flush=True)
        if arguments.json:
            with arguments.json.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"task": name, "chosen": chosen, **held}) + "\n")


if __name__ == "__main__":
    main()
