"""Trains with a fitted shortcut and without, chooses on rolling spans, and compares with the linear map in closed form.

    python benchmarks/fitted_shortcut.py choose|quickstart|final|pedestrians --data FOLDER [--llm NAME] [--json FILE]

`choose` trains every recipe on the first 4, 6 and 8 months of ETTh1 and ETTh2, lets the 4 months after them keep an
epoch, and scores the 4 months after those. `quickstart` does likewise with the first 60, 70 and 80 % of the
pedestrians' rows. No row of a published test set is read. `final` trains recipes on all eight tasks of ETTh1 and ETTh2
under three seeds and scores the test set; `pedestrians` does so for the profile of the quickstart. A row a training:
the figures of every epoch; epoch 0 is the linear map itself.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

Row = dict[str, Any]
MONTH = 30 * 24
HORIZONS = (96, 192, 336, 720)
SEEDS = (2021, 2022, 2023)

PLAIN = {"model.shortcut": "none", "model.shortcut_period": 0}
FITTED = {"model.shortcut": "fitted", "model.shortcut_period": 0}
FROZEN = {**FITTED, "frozen": True}
DAILY = {"model.shortcut_period": 24}
SQUARED = {"train.loss": "mse", "train.loss_units": "standardised"}
ETT: dict[str, Row] = {
    "linear, period 24": {"model.shortcut": "linear"},
    "fitted": FITTED,
    "fitted, period 24": FITTED | DAILY,
    "fitted, frozen": FROZEN,
    "fitted, frozen, period 24": FROZEN | DAILY,
    "fitted, squared errors": FITTED | SQUARED,
    "fitted, frozen, squared errors": FROZEN | SQUARED,
    "fitted, frozen, period 24, squared errors": FROZEN | SQUARED | DAILY,
    "fitted, frozen, period 24, learning rate 3e-4": FROZEN | DAILY | {"train.learning_rate": 3e-4},
}
WINDOW_MAE = {"train.loss": "mae", "train.loss_units": "window"}
SLOW, DECAY = {"train.learning_rate": 1e-3}, {"train.optimizer": "adamw", "train.weight_decay": 4.0}
PEDESTRIANS: dict[str, Row] = {
    "none": PLAIN,
    "linear": {"model.shortcut": "linear"},
    "fitted": FITTED,
    "fitted, frozen": FROZEN,
    "fitted, learning rate 1e-3": FITTED | SLOW,
    "fitted, frozen, learning rate 1e-3": FROZEN | SLOW,
    "fitted, learning rate 1e-3, weight decay 4": FITTED | SLOW | DECAY,
    "fitted, learning rate 1e-3, absolute errors of windows": FITTED | SLOW | WINDOW_MAE,
    "fitted, period 24, as etth1-smollm2": FITTED
    | DAILY
    | SLOW
    | WINDOW_MAE
    | DECAY
    | {"train.average": True, "train.schedule": "constant", "model.dropout": 0.3},
}


@dataclass(frozen=True)
class Trial:
    """One training. `span` is how much of the data it may see: months of training, or percent of the rows; 0: all."""

    recipe: str
    dataset: str
    pred_len: int
    span: int
    seed: int
    llm: str
    values: Row


def choosing(llm: str, recipes: Iterable[str], months: Iterable[int]) -> Iterator[Trial]:
    """The trials of `choose`: all recipes of a span before the next span."""
    for span in months:
        for pred_len, dataset in ((96, "ETTh1"), (336, "ETTh2"), (336, "ETTh1"), (96, "ETTh2")):
            for name in recipes:
                yield Trial(name, dataset, pred_len, span, SEEDS[0], llm, ETT[name])


def choosing_pedestrians(llm: str, recipes: Iterable[str]) -> Iterator[Trial]:
    """The same for the profile of the quickstart."""
    for span in (80, 70, 60):
        for name in recipes:
            yield Trial(name, "auckland-pedestrians", 24, span, SEEDS[0], llm, PEDESTRIANS[name])


def final_pedestrians(llm: str, recipes: Iterable[str]) -> Iterator[Trial]:
    """The quickstart on all rows, all recipes under a seed before the next."""
    for seed in SEEDS:
        for name in recipes:
            yield Trial(name, "auckland-pedestrians", 24, 0, seed, llm, PEDESTRIANS[name])


def final(llm: str, recipes: Iterable[str]) -> Iterator[Trial]:
    """The trials of `final`: all tasks of a recipe and a seed before the next."""
    for seed in SEEDS:
        for name in recipes:
            for dataset in ("ETTh1", "ETTh2"):
                for pred_len in reversed(HORIZONS):
                    yield Trial(name, dataset, pred_len, 0, seed, llm, ETT[name])


def run(trial: Trial, data: Path, device: str) -> Row:
    """The row of one trial: the figures of its epochs, which may begin with epoch 0."""
    import torch

    from timellm_cli.data.ridge import fit_linear
    from timellm_cli.data.windows import load_data
    from timellm_cli.model.load import load_model
    from timellm_cli.training.loop import Trainer
    from timellm_cli.training.records import EpochFinished
    from timellm_cli.training.run_directory import RunDirectory
    from timellm_cli.training.state import seed_everything

    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        config = make_config(trial, data, device, Path(temporary))
        loaded = load_data(config)
        seed_everything(config.train.seed)
        runner = load_model(config, torch.device(device))
        linear = fit_linear(loaded)
        if trial.values.get("frozen"):
            freeze(runner.model)
        if config.model.shortcut == "fitted":
            runner.model.start_from(linear.weights_TH)
        directory = RunDirectory.of(config)
        directory.create()
        trainer = Trainer(config, loaded, runner, directory, scoring_batch=512)
        epochs = [asdict(record) for record in trainer.run() if isinstance(record, EpochFinished)]
    return {**asdict(trial), "epochs": epochs, "total_seconds": round(time.perf_counter() - began, 1)}


def make_config(trial: Trial, data: Path, device: str, folder: Path) -> Any:
    """The profile with what the trial changes, resolved."""
    from timellm_cli.settings import resolve

    on_gpu = device == "cuda"
    pedestrians = trial.dataset == "auckland-pedestrians"
    values = {
        "data.path": data / f"{trial.dataset}.csv", "window.pred_len": trial.pred_len, "train.seed": trial.seed,
        "llm.name": trial.llm, "train.precision": "bf16" if on_gpu and trial.llm != "none" else "fp32",
        "train.patience": 0, "hardware.device": device, "hardware.capture": "on" if on_gpu else "off",
        "hardware.recompute": "off", "run.directory": folder, "run.name": "run", "run.save_steps": 0,
        **({} if pedestrians else {"data.dataset": trial.dataset}),
        **(cut(trial, data, folder) if trial.span else {}),
        **{key: value for key, value in trial.values.items() if "." in key},
    }  # fmt: skip
    return resolve("quickstart" if pedestrians else "etth1-smollm2").config.with_values(values)


def cut(trial: Trial, data: Path, folder: Path) -> Row:
    """The first rows of a dataset as one of its own: training, validation and what is scored."""
    from timellm_cli.datasets import DATASETS

    lines = (data / f"{trial.dataset}.csv").read_text(encoding="utf-8").splitlines()
    if trial.dataset == "auckland-pedestrians":
        rows = (len(lines) - 1) * trial.span // 100
        train, test = 0.7, 0.2
    else:
        rows = (trial.span + 8) * MONTH
        assert rows <= 16 * MONTH, "the published test set is not read"
        train, test = trial.span / (trial.span + 8), 4 / (trial.span + 8)
    path = folder / "cut.csv"
    path.write_text("\n".join(lines[: rows + 1]) + "\n", encoding="utf-8")
    return {
        "data.dataset": "custom", "data.path": path, "data.train_ratio": train, "data.test_ratio": test,
        "prompt.description": DATASETS[trial.dataset].description,
    }  # fmt: skip


def freeze(model: Any) -> None:
    """Keep the map that was fitted as it is; its period is trained all the same."""
    model.shortcut.weight_HT.requires_grad_(False)
    model.shortcut.bias_H.requires_grad_(False)


def kept(row: Row) -> Row:
    """The epoch of the lowest validation loss, which training keeps."""
    return min(row["epochs"], key=lambda epoch: epoch["val_loss"])


def print_choice(rows: list[Row]) -> None:
    """For each recipe, its errors as shares of those of the linear map on the same spans: mean, worst, epochs kept."""
    untrained = {place(row): row["epochs"][0] for row in rows if row["epochs"][0]["epoch"] == 0}
    for group in ("ETT", "auckland"):
        recipes = dict.fromkeys(row["recipe"] for row in rows if row["dataset"].startswith(group))
        print(f"\n{group}: test MSE and MAE of the span after validation, as shares of the linear map's\n")
        for recipe in recipes:
            of_recipe = [row for row in rows if row["recipe"] == recipe and row["dataset"].startswith(group)]
            of_recipe = [row for row in of_recipe if place(row) in untrained]
            shares = {
                kind: [kept(row)[f"test_{kind}"] / untrained[place(row)][f"test_{kind}"] for row in of_recipe]
                for kind in ("mse", "mae")
            }
            told = [f"{statistics.mean(shares[kind]):.4f} (worst {max(shares[kind]):.4f})" for kind in shares]
            epochs = "".join(str(kept(row)["epoch"]) for row in of_recipe)
            print(f"| {recipe} | {len(of_recipe)} | {' | '.join(told)} | {epochs} |")


def place(row: Row) -> tuple[Any, ...]:
    """What two recipes have to share to be compared."""
    return row["dataset"], row["pred_len"], row["span"], row["llm"]


def print_final(rows: list[Row]) -> None:
    """For each task, the linear map's errors, and the mean over seeds of what was kept with its deviation."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["recipe"], Path(row["llm"]).name, row["dataset"], row["pred_len"]), []).append(row)
    for (recipe, llm, dataset, pred_len), group in sorted(groups.items()):
        linear, best = group[0]["epochs"][0], [kept(row) for row in group]
        figures = [[epoch[f"test_{kind}"] for epoch in best] for kind in ("mse", "mae")]
        mean = "/".join(f"{statistics.mean(values):.4f}" for values in figures)
        spread = "/".join(f"{statistics.stdev(values) if values[1:] else 0:.4f}" for values in figures)
        epochs = ", ".join(str(epoch["epoch"]) for epoch in best)
        start = f"{linear['test_mse']:.4f}/{linear['test_mae']:.4f}"
        print(f"| {recipe} | {llm} | {dataset}-{pred_len} | {start} | {mean} | {spread} | {epochs} |")


def main() -> None:
    """Train, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "what",
        choices=["choose", "quickstart", "final", "pedestrians", "show"],
        help="show: the tables of rows in --json",
    )
    parser.add_argument("--data", type=Path, help="folder with ETTh1.csv, ETTh2.csv and auckland-pedestrians.csv")
    parser.add_argument("--llm", nargs="+", default=["smollm2-135m"], help="names or folders; 'none' trains without")
    parser.add_argument("--recipes", nargs="+", choices=[*ETT, *PEDESTRIANS], help="by default all")
    parser.add_argument("--months", type=int, nargs="+", choices=[8, 6, 4], default=[8, 6, 4], help="of `choose`")
    parser.add_argument("--seconds", type=float, default=500, help="no trial starts after that")
    parser.add_argument("--workers", type=int, default=1, help="trainings at a time")
    parser.add_argument("--gpus", type=int, default=1, help="over which the trainings are spread")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--json", type=Path, help="append a row a training to this file")
    arguments = parser.parse_args()
    if arguments.what == "show":
        rows = [json.loads(line) for line in arguments.json.read_text(encoding="utf-8").splitlines()]
        print_choice([row for row in rows if row["span"]])
        print_final([row for row in rows if not row["span"]])
        return
    deadline = time.monotonic() + arguments.seconds
    trials = [
        trial for llm in arguments.llm for trial in trials_of(arguments.what, llm, arguments.recipes, arguments.months)
    ]
    os.environ.setdefault("OMP_NUM_THREADS", str(max((os.cpu_count() or 1) // arguments.workers, 1)))
    context = multiprocessing.get_context("spawn")
    gpus = context.Queue()
    for worker in range(arguments.workers):
        gpus.put(worker % arguments.gpus if arguments.device == "cuda" else None)
    with ProcessPoolExecutor(arguments.workers, context, start_worker, (gpus,)) as pool:
        started = [pool.submit(run_until, deadline, trial, arguments.data, arguments.device) for trial in trials]
        rows = []
        for future in started:
            if (row := future.result()) is None:
                continue
            rows.append(row)
            if arguments.json:
                with arguments.json.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
    (print_final if arguments.what in ("final", "pedestrians") else print_choice)(rows)


def trials_of(what: str, llm: str, recipes: Sequence[str] | None, months: Iterable[int]) -> Iterator[Trial]:
    """The trials of a command."""
    if what in ("quickstart", "pedestrians"):
        return (choosing_pedestrians if what == "quickstart" else final_pedestrians)(llm, recipes or list(PEDESTRIANS))
    recipes = recipes or list(ETT)
    return choosing(llm, recipes, months) if what == "choose" else final(llm, recipes)


def start_worker(gpus: Any) -> None:
    """Give a process its GPU."""
    if (gpu := gpus.get()) is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(gpu)


def run_until(deadline: float, trial: Trial, data: Path, device: str) -> Row | None:
    """None for a trial without time left, and for one that fails, whose error is printed."""
    if time.monotonic() > deadline:
        return None
    try:
        return run(trial, data, device)
    except Exception as error:
        print(f"{trial}: {error!r}", flush=True)
        return None


if __name__ == "__main__":
    main()
