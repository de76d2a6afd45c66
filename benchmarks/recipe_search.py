"""Trains many recipes on the ETT files with SmolLM2 on all GPUs here, and prints validation and test errors.

    python benchmarks/recipe_search.py --llm FOLDER --data FOLDER [--round first] [--seconds 400] [--json FILE]

Every trial goes through the project's own training and scoring code. `recipe_settings.py` lists the recipes of a round
in order of importance: those for which no time is left are skipped. Each is tried with one seed. Round `first` then
tries more seeds of those with the lowest validation MAE. Round `folds` trains on the first 4, 6, 8 and 12 months and
validates each on the 4 months after them; the recipe with the lowest mean MAE goes to the other seeds, horizons and
ETTh2, and loses its LLM. The test set plays no part in the choice.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import time
import traceback
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from recipe_settings import ABLATIONS, ROUNDS, SPANS, Trial
from rich import box
from rich.console import Console
from rich.table import Table

Row = dict[str, Any]
SEEDS = (2021, 2022, 2023)
SEED = SEEDS[0]
HORIZONS = (96, 192, 336, 720)


def start_worker(gpus: Any, threads: int) -> None:
    """Give a process its GPU and its share of the cores."""
    os.environ["CUDA_VISIBLE_DEVICES"] = gpus.get()
    os.environ["RAYON_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = str(threads)


def run(trial: Trial, llm: str, data: Path, device: str, toy: bool) -> Row:
    """The row of one trial; what fails is written into it."""
    from recipe_trial import Place, run_trial

    started = time.perf_counter()
    row: Row = {**asdict(trial), "epochs": [], "fault": ""}
    try:
        row["epochs"] = run_trial(trial, Place(llm, data, device, toy))
    except Exception as error:
        traceback.print_exc()
        row["fault"] = f"{type(error).__name__}: {error}"
    return {**row, "total_seconds": round(time.perf_counter() - started, 1)}


class Search:
    """Hands trials to worker processes until the time is used up, and keeps their rows."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments, self._deadline = arguments, time.monotonic() + arguments.seconds
        self._place = (arguments.llm, arguments.data, "cpu" if arguments.toy else "cuda", arguments.toy)
        count = 1 if arguments.toy else _count_gpus()
        self.workers = arguments.workers * count
        context = multiprocessing.get_context("spawn")
        gpus = context.Queue()
        for worker in range(self.workers):
            gpus.put("" if arguments.toy else str(worker % count))
        threads = max((os.cpu_count() or 1) // self.workers, 1)
        self._pool = ProcessPoolExecutor(self.workers, context, start_worker, (gpus, threads))
        self.rows: list[Row] = []

    def run(self, trials: Iterable[Trial]) -> None:
        """Run trials in this order while another one fits into the time that is left."""
        waiting, running = list(trials), dict[Future[Row], Trial]()
        while waiting or running:
            while waiting and len(running) < self.workers:
                trial = waiting.pop(0)
                if self._expected(trial) > self._deadline - time.monotonic():
                    print(f"no time left for {describe(asdict(trial))}", file=sys.stderr)
                    continue
                running[self._pool.submit(run, trial, *self._place)] = trial
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                trial = running.pop(future)
                fault = future.exception()
                self._keep({**asdict(trial), "epochs": [], "fault": repr(fault)} if fault else future.result())

    def close(self) -> None:
        """End the workers."""
        self._pool.shutdown(cancel_futures=True)

    def _expected(self, trial: Trial) -> float:
        """Seconds, from the epochs so far."""
        epochs = [row["total_seconds"] / len(row["epochs"]) for row in self.rows if row["epochs"]]
        return statistics.mean(epochs) * trial.values["train.epochs"] if epochs else 0.0

    def _keep(self, row: Row) -> None:
        self.rows.append(row)
        if self._arguments.json:
            with self._arguments.json.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        said = row["fault"] or f"{_pair(row, 'val')} {_pair(row, 'test')} in {row['total_seconds']} s"
        print(f"{describe(row)}: {said}", file=sys.stderr, flush=True)


def best_epoch(row: Row) -> Row:
    """The epoch of lowest validation error, of the kind that was minimised."""
    kind = "mse" if row["values"]["train.loss"] == "mse" else "mae"
    return min(row["epochs"], key=lambda epoch: epoch[f"val_{kind}"])


def more_seeds(rows: list[Row]) -> list[Trial]:
    """Two more seeds of the three recipes with the lowest validation MAE, the best first."""
    done = sorted((row for row in rows if row["epochs"]), key=lambda row: best_epoch(row)["val_mae"])
    return [replace(_trial(row), seed=seed) for row in done[:3] for seed in SEEDS[1:]]


def chosen(rows: list[Row]) -> Trial:
    """The recipe with the lowest validation MAE, as a mean over all folds."""
    by_setting: dict[str, list[Row]] = {}
    for row in rows:
        if row["epochs"]:
            by_setting.setdefault(row["setting"], []).append(row)
    complete = [group for group in by_setting.values() if len(group) == len(SPANS)]
    best = min(complete, key=lambda group: statistics.mean(best_epoch(row)["val_mae"] for row in group))
    return replace(_trial(best[0]), fold=0)


def whole_table(recipe: Trial) -> list[Trial]:
    """A recipe everywhere, and what becomes of it with less of an LLM."""
    places = [("ETTh1", horizon) for horizon in HORIZONS[1:]] + [("ETTh2", horizon) for horizon in HORIZONS]
    elsewhere = [replace(recipe, dataset=dataset, pred_len=horizon) for dataset, horizon in places]
    less = [
        replace(recipe, setting=f"{recipe.setting}: {name}", values=recipe.values | change, seed=seed)
        for seed in SEEDS
        for name, change in ABLATIONS.items()
    ]
    seconds = [replace(recipe, seed=seed) for seed in SEEDS[1:]]
    again = [replace(trial, seed=seed) for seed in SEEDS[1:] for trial in elsewhere]
    return [*seconds, *elsewhere, *less, *again]


def _trial(row: Row) -> Trial:
    return Trial(**{name: row[name] for name in Trial.__dataclass_fields__})


def print_table(rows: list[Row]) -> None:
    """Mean over seeds of each recipe's best epoch, and the spread of the test figures."""
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("recipe", "data", "seeds", "epoch", "validation", "test", "spread", "s"):
        table.add_column(name, justify="left" if name == "recipe" else "right", no_wrap=True)
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["setting"], _data(row)), []).append(row)
    for (setting, data), group in groups.items():
        done = [row for row in group if row["epochs"]]
        if done:
            table.add_row(setting, data, *_cells(done))
        else:
            table.add_row(setting, data, "0", "", group[0]["fault"][:40])
    Console(width=120).print(table)


def _cells(rows: list[Row]) -> list[str]:
    chosen = [best_epoch(row) for row in rows]
    means = {name: statistics.mean(epoch[name] for epoch in chosen) for name in chosen[0]}
    spreads = [statistics.stdev(epoch[f"test_{kind}"] for epoch in chosen) for kind in ("mse", "mae") if chosen[1:]]
    return [
        str(len(rows)),
        ",".join(str(row["epochs"].index(epoch) + 1) for row, epoch in zip(rows, chosen, strict=True)),
        *(f"{means[f'{split}_mse']:.4f}/{means[f'{split}_mae']:.4f}" for split in ("val", "test")),
        "/".join(f"{spread:.4f}" for spread in spreads),
        f"{statistics.mean(row['total_seconds'] for row in rows):.0f}",
    ]


def describe(row: Row) -> str:
    """A trial in a few words."""
    return f"{row['setting']}, {_data(row)}, seed {row['seed']}"


def _data(row: Row) -> str:
    return f"{row['dataset']}-{row['pred_len']}" + (f" @{row['fold']}" if row["fold"] else "")


def _pair(row: Row, split: str) -> str:
    epoch = best_epoch(row)
    return f"{split} {epoch[f'{split}_mse']:.4f}/{epoch[f'{split}_mae']:.4f}"


def _count_gpus() -> int:
    import torch

    return torch.cuda.device_count()


def main() -> None:
    """Search, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--llm", required=True, help="folder of SmolLM2-135M, or of its first layers")
    parser.add_argument("--data", type=Path, required=True, help="folder with ETTh1.csv and ETTh2.csv")
    parser.add_argument("--round", choices=ROUNDS, default="first")
    parser.add_argument("--seconds", type=float, default=400, help="no trial starts that would not end by then")
    parser.add_argument("--workers", type=int, default=4, help="processes that share a GPU")
    parser.add_argument("--json", type=Path, help="append a JSON object a trial to this file")
    parser.add_argument("--toy", action="store_true", help="a few steps of each on the CPU, to try the script")
    arguments = parser.parse_args()
    arguments.llm = str(Path(arguments.llm).absolute())
    search = Search(arguments)
    search.run(ROUNDS[arguments.round])
    search.run(more_seeds(search.rows) if arguments.round == "first" else whole_table(chosen(search.rows)))
    print_table(search.rows)
    search.close()


if __name__ == "__main__":
    main()
