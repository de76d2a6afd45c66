"""Trains the five arms of the question what text about the days ahead is worth, and compares them.

    python benchmarks/days_ahead.py [SET ...] [--jobs N] [--minutes M] [--results FOLDER] [--device cpu|cuda]
        [--seeds N] [--folds N] [--epochs N] [--stride N] [--columns A,B] [--arms ABCDE]

Sets: pedestrians-24, metro-24, pedestrians-168, metro-168 (hours ahead; the numeric model has no LLM), and
pedestrians-24-llm, metro-24-llm, whose numeric model is Time-LLM itself. Without a name: the first four.

The numeric model is the same in all arms of a set. A reads nothing; B columns of 0 and 1; C text, by SmolLM2-135M;
D the text of other days; E the text by SmolLM2 with drawn weights. Results lie in FOLDER: a file for each run, and one
JSON for each set, written when its last run ends. Runs whose file is there are not trained again.
"""

import argparse
import dataclasses
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from day_runs import MODEL, Outcome, Run, load_outcome, run_all

from timellm_cli.evaluation.arms import ARMS, ArmTable, compare_arms, judge_arms
from timellm_cli.evaluation.day_errors import DayErrors

FIRST_SEED = 2021
PEDESTRIANS = ["--dataset", "auckland-pedestrians-2019", "--batch-size", "512", "--learning-rate", "0.0003"]
METRO = ["--dataset", "metro-traffic", "--batch-size", "128"]
TEXT = {
    "pedestrians": ["--holiday-text", "NZ-AUK", "--events", "auckland-pedestrians-2019", "--weekday-text", "weekday"],
    "metro": ["--holiday-text", "US-MN", "--weekday-text", "weekday"],
}
READERS: dict[str, list[str]] = {
    "B": ["--text-reader", "columns"],
    "C": ["--text-llm", "smollm2-135m"],
    "D": ["--text-llm", "smollm2-135m", "--text-shuffle"],
    "E": ["--text-llm", "smollm2-135m", "--text-llm-weights", "random"],
}
LLM = ["--llm", "smollm2-135m", "--layers", "6", "--num-prototypes", "100", "--n-heads", "8", "--d-ff", "128"]


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a set trains: its data, horizon, seeds, folds, and options of `timellm train`."""

    data: str
    pred_len: int
    seeds: int
    folds: int
    epochs: int
    stride: int
    arms: str = "ABCDE"
    llm: tuple[str, ...] = ()
    columns: str = ""
    device: str = "cpu"


SETS = {
    "pedestrians-24": Setting("pedestrians", 24, seeds=5, folds=4, epochs=1, stride=7),
    "metro-24": Setting("metro", 24, seeds=5, folds=4, epochs=2, stride=1),
    "pedestrians-168": Setting("pedestrians", 168, seeds=3, folds=1, epochs=1, stride=7),
    "metro-168": Setting("metro", 168, seeds=3, folds=1, epochs=2, stride=1),
    "pedestrians-24-llm": Setting("pedestrians", 24, 1, 1, epochs=2, stride=35, arms="AC", llm=tuple(LLM)),
    "metro-24-llm": Setting("metro", 24, 1, 1, epochs=3, stride=1, arms="AC", llm=tuple(LLM)),
}


def runs_of(name: str, setting: Setting) -> list[Run]:
    """Every run of a set, the folds of a seed together."""
    common = [*(PEDESTRIANS if setting.data == "pedestrians" else METRO), *MODEL, *setting.llm]
    common += ["--seq-len", "168", "--pred-len", str(setting.pred_len), "--epochs", str(setting.epochs)]
    common += ["--window-stride", str(setting.stride)]
    if setting.columns:
        common += ["--columns", setting.columns, "--target", setting.columns.split(",")[-1]]
    found = []
    for seed in range(FIRST_SEED, FIRST_SEED + setting.seeds):
        for arm in setting.arms:
            text = [*TEXT[setting.data], *READERS[arm]] if arm in READERS else []
            for fold in range(1, setting.folds + 1):
                place = ["--folds", str(setting.folds), "--fold", str(fold)] if setting.folds > 1 else []
                options = (*common, *text, *place, "--seed", str(seed))
                is_first = arm == "B" and seed == FIRST_SEED
                found.append(Run(_run_name(name, arm, seed, fold), options, setting.device, is_first))
    return found


def _run_name(name: str, arm: str, seed: int, fold: int) -> str:
    return f"{name}-{arm}-seed{seed}-fold{fold}"


def compare(name: str, setting: Setting, results: Path) -> dict[str, Any] | None:
    """The comparison of a set's arms, over the seeds of each that have all folds; None where nothing compares."""
    by_arm: dict[str, list[list[Outcome]]] = {}
    for arm in setting.arms:
        for seed in range(FIRST_SEED, FIRST_SEED + setting.seeds):
            found = [load_outcome(results, _run_name(name, arm, seed, fold + 1)) for fold in range(setting.folds)]
            if all(found):
                by_arm.setdefault(arm, []).append([one for one in found if one])
    errors = {arm: [DayErrors.joined([one.errors for one in folds]) for folds in own] for arm, own in by_arm.items()}
    table = compare_arms(list(by_arm), {arm: own[0][0].config for arm, own in by_arm.items()}, errors)
    if table is None:
        return None
    return {
        "set": dataclasses.asdict(setting),
        "days": table.days,
        "arms": {arm: _arm(own, errors[arm], table, arm) for arm, own in by_arm.items()},
        "baselines": _baselines(name, setting, results),
        "comparisons": [dataclasses.asdict(one) for one in table.comparisons],
        "sentences": [f"{sentence} ({one.evidence})" for sentence, one in judge_arms(table)],
    }


def _arm(own: Sequence[Sequence[Outcome]], errors: Sequence[DayErrors], table: ArmTable, arm: str) -> dict[str, Any]:
    seeds = [mse_of([one]) for one in errors]
    return {
        "mse": table.mse[arm],  # type: ignore[index]
        "seeds": seeds,
        "spread": stdev(seeds) if len(seeds) > 1 else None,
        "folds": [mse_of([folds[fold].errors for folds in own]) for fold in range(len(own[0]))],
        "epochs": [[one.epoch for one in folds] for folds in own],
        "val_mse": [[one.val_mse for one in folds] for folds in own],
        "seconds": mean(one.seconds for folds in own for one in folds),
    }


def _baselines(name: str, setting: Setting, results: Path) -> dict[str, dict[str, float]]:
    """The MSE of the baselines that were scored on all folds, by part of the days."""
    found: dict[str, dict[str, float]] = {}
    for baseline in ("seasonal naive", "linear", "linear+days"):
        names = [f"{_run_name(name, 'B', FIRST_SEED, fold + 1)}.{baseline}" for fold in range(setting.folds)]
        folds = [one.errors for one in map(partial(load_outcome, results), names) if one]
        if len(folds) == setting.folds:
            errors = DayErrors.joined(folds)
            special_CD = np.zeros(errors.known_CD.shape, bool) if errors.special_CD is None else errors.special_CD
            masks = {"all": special_CD | True, "event": special_CD > 0, "ordinary": special_CD == 0}
            found[baseline] = {
                part: float((errors.squared_CD * mask).sum() / max((errors.known_CD * mask).sum(), 1))
                for part, mask in masks.items()
            }
    return found


def mse_of(errors: Sequence[DayErrors]) -> float:
    """The MSE over all targets of some runs."""
    return float(sum(one.squared_CD.sum() for one in errors) / sum(one.known_CD.sum() for one in errors))


def print_set(name: str, found: dict[str, Any]) -> None:
    """A row for each arm."""
    days = found["days"]
    print(f"\n{name}: MSE of {', '.join(f'{count} {part} days' for part, count in days.items())}")
    for arm, one in found["arms"].items():
        parts = "  ".join(f"{one['mse'][part]:.4f}" for part in days)
        spread = "" if one["spread"] is None else f"±{one['spread']:.4f}"
        print(f"{arm} {ARMS[arm]:22} {parts}  {spread}  {len(one['seeds'])} seeds, {one['seconds']:.0f} s a run")  # type: ignore[index]
    for baseline, mse in found["baselines"].items():
        print(f"  {baseline:22} " + "  ".join(f"{mse[part]:.4f}" for part in days))
    print("\n".join(found["sentences"]), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", default=list(SETS)[:4], metavar="SET")
    parser.add_argument("--jobs", type=int, default=1, help="Runs at once on the CPU, one thread each.")
    parser.add_argument("--minutes", type=float, default=600.0, help="End after so many, with what is finished.")
    parser.add_argument("--results", type=Path, default=Path("days_ahead"))
    parser.add_argument("--device", choices=("cpu", "cuda"), help="For all sets. Default: cpu; cuda for ...-llm.")
    for name in ("seeds", "folds", "epochs", "stride"):
        parser.add_argument(f"--{name}", type=int, help="Instead of the set's own.")
    parser.add_argument("--columns", help="Channels to use, separated by commas. Default: all.")
    parser.add_argument("--arms", help="Instead of the set's own, such as ABC.")
    options = parser.parse_args()
    if unknown := [name for name in options.sets if name not in SETS]:
        parser.error(f"no set is called {', '.join(unknown)}; there are {', '.join(SETS)}")
    names = ("seeds", "folds", "epochs", "stride", "columns", "arms", "device")
    given = {name: value for name in names if (value := getattr(options, name)) is not None}
    settings = {name: dataclasses.replace(SETS[name], **given) for name in options.sets}
    runs = {name: runs_of(name, setting) for name, setting in settings.items()}
    waiting = {name: {run.name for run in own} for name, own in runs.items()}

    def on_end(run: Run, worked: bool) -> None:
        print(run.name if worked else f"{run.name}: FAILED, see its log", flush=True)
        for name in [name for name, left in waiting.items() if run.name in left]:
            waiting[name].discard(run.name)
            if not waiting[name]:
                report(name)

    def report(name: str) -> None:
        if found := compare(name, settings[name], options.results):
            (options.results / f"{name}.json").write_text(json.dumps(found, indent=2), encoding="utf-8")
            print_set(name, found)

    every = [run for own in runs.values() for run in own]
    failed = run_all(every, options.jobs, options.minutes, options.results, on_end)
    print("\n--- all sets")
    for name in settings:
        report(name)
    if failed:
        print(f"{len(failed)} runs have no result: {', '.join(failed[:20])}")


if __name__ == "__main__":
    main()
