"""Trains and scores many runs of `timellm` in parallel processes, for `days_ahead.py` and `unseen_holidays.py`.

A run is trained by the command line, and scored on every window of its test rows as `timellm eval` does it. What is
kept of it is its squared error by channel and day; its folder is deleted. A run that fails leaves a log, and the
others go on.
"""

import json
import multiprocessing
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from hashlib import sha256
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import torch
import typer
from torch import Tensor

from timellm_cli.cli import app
from timellm_cli.commands import train
from timellm_cli.config import Config
from timellm_cli.data.ridge import Linear, fit_linear
from timellm_cli.data.scale import Floats
from timellm_cli.data.windows import ForecastData, load_data
from timellm_cli.evaluation.baselines import fit_baselines
from timellm_cli.evaluation.day_errors import DayCount, DayErrors
from timellm_cli.evaluation.folds import fold_of
from timellm_cli.evaluation.score import Forecaster, score
from timellm_cli.forecasting.open_checkpoint import config_for, open_checkpoint
from timellm_cli.model import closed_form
from timellm_cli.model.day_reader import read_days
from timellm_cli.model.linear_days import LinearWithDays, fit_linear_days
from timellm_cli.planning.hardware import look_at_machine
from timellm_cli.training.checkpoint import Checkpoint, clock_of, load_checkpoint

MODEL = [
    "--fill", "linear", "--llm", "none", "--shortcut", "fitted", "--num-prototypes", "20", "--n-heads", "1",
    "--d-ff", "8", "--patience", "0", "--save-steps", "0", "--log-steps", "100000",
]  # fmt: skip
"""The numeric model that all arms share: the linear map in closed form, and a small body without an LLM."""


@dataclass(frozen=True)
class Run:
    """A run to train: the options of `timellm train`, and where to compute. `name` is unique.

    With `baselines`, those of `timellm eval` are fitted and scored on its data, too.
    """

    name: str
    options: tuple[str, ...]
    device: str = "cpu"
    baselines: bool = False


@dataclass(frozen=True, eq=False)
class Outcome:
    """A run's configuration, its errors by day, the epoch kept, its validation MSE and the seconds that it took."""

    config: Config
    errors: DayErrors
    epoch: int
    val_mse: float
    seconds: float


def run_all(
    runs: Sequence[Run], jobs: int, minutes: float, results: Path, on_end: Callable[[Run, bool], None]
) -> list[str]:
    """Train and score every run whose result is not there yet, so many at once; two at once of those on a GPU.

    `on_end` is called with each, and whether it has a result. After so many minutes what still runs is ended. Returns
    the names of the runs without a result.
    """
    results.mkdir(parents=True, exist_ok=True)
    waiting = [run for run in runs if not _file(results, run).exists()]
    running: dict[Run, BaseProcess] = {}
    context, end = multiprocessing.get_context("forkserver"), time.monotonic() + 60 * minutes
    context.set_forkserver_preload(["day_runs"])
    while (waiting or running) and time.monotonic() < end:
        for run in [one for one in waiting if _has_room(one, running, jobs)]:
            if _has_room(run, running, jobs):
                waiting.remove(run)
                sys.stdout.flush()
                running[run] = context.Process(target=_train_and_score, args=(run, results))
                running[run].start()
        wait([process.sentinel for process in running.values()], timeout=max(end - time.monotonic(), 0))
        for run in [run for run, process in running.items() if not process.is_alive()]:
            running.pop(run).join()
            on_end(run, _file(results, run).exists())
    for process in running.values():
        process.terminate()
        process.join()
    return [run.name for run in runs if not _file(results, run).exists()]


def _has_room(run: Run, running: Iterable[Run], jobs: int) -> bool:
    same = sum(one.device == run.device for one in running)
    return same < (2 if run.device == "cuda" else jobs)


def _file(results: Path, run: Run) -> Path:
    return results / f"{run.name}.npz"


def _train_and_score(run: Run, results: Path) -> None:
    """In a process of its own, whose output goes to a log; the log is deleted where all went well."""
    log = results / f"{run.name}.log"
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    torch.set_num_threads(1)
    train.draw_curves = lambda *_: None  # type: ignore[assignment]  # nobody looks at hundreds of pictures
    closed_form.fit_linear = partial(_fit_once, results)  # type: ignore[assignment]
    closed_form.fit_linear_days = partial(_fit_days_once, results)  # type: ignore[assignment]
    folder = results / "checkpoints" / run.name
    try:
        began = time.monotonic()
        places = ["--device", run.device, "--checkpoints", str(folder.parent), "--run-name", run.name]
        typer.main.get_command(app).main(["train", *run.options, *places], "timellm", standalone_mode=False)
        _save(run, results, folder / "best.pt", began)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    log.unlink()


def _fit_once(results: Path, data: ForecastData) -> Linear:
    """The linear map, which all arms and seeds of a fold start from, fitted by the first of them."""
    rows = [data.identity[split].digest for split in ("train", "val")]
    window = data.config.window
    path = results / f"linear-{'-'.join(rows)}-{window.seq_len}-{window.pred_len}.pt"
    if path.exists():
        return Linear(torch.load(path), 0)
    found = fit_linear(data)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    torch.save(found.weights_TH, temporary)
    temporary.replace(path)
    return found


def _fit_days_once(results: Path, data: ForecastData, linear: Linear, known_LK: Tensor) -> LinearWithDays | None:
    """The closed form with what an arm knows of a fold, fitted by its first seed; D and E know other things by seed."""
    assert data.ahead is not None
    rows = [data.identity[split].digest for split in ("train", "val")]
    window = data.config.window
    key = sha256(repr((rows, data.ahead.digest, window.seq_len, window.pred_len)).encode() + known_LK.numpy().tobytes())
    path = results / f"days-{key.hexdigest()[:16]}.pt"
    if path.exists():
        with torch.serialization.safe_globals([LinearWithDays, Linear]):
            found: LinearWithDays | None = torch.load(path)
        return found
    found = fit_linear_days(data, linear, known_LK)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    torch.save(found, temporary)
    temporary.replace(path)
    return found


def _save(run: Run, results: Path, best: Path, began: float) -> None:
    """The result of the run last, for it says that all is there."""
    checkpoint = load_checkpoint(best)
    data, std_C = _data(checkpoint, run.device)
    for baseline in fit_baselines(data) if run.baselines else ():
        found = _days(baseline.forecaster, data, 1024, std_C)
        _write(results / f"{run.name}.{baseline.name}.npz", checkpoint, 0, found, began)
    runner, at_once = open_checkpoint(checkpoint, data.config, look_at_machine(), True)
    if data.ahead and data.ahead.lines:
        read_days(runner, data.ahead.lines.lines, data.config)
    _write(_file(results, run), checkpoint, checkpoint.epoch, _days(runner, data, at_once, std_C), began)


def _data(checkpoint: Checkpoint, device: str) -> tuple[ForecastData, Floats | None]:
    """What a checkpoint is scored on, every window of it; of a fold, also the units, which are the first fold's."""
    config = config_for(checkpoint, device, None, None, {"data.window_stride": 1})
    data = load_data(config, checkpoint.scaler, checkpoint.columns, checkpoint.ids, clock_of(checkpoint))
    if fold_of(config) < 2:
        return data, None
    return data, load_data(config.with_values({"data.fold": 1})).scaler.std_C


def _days(forecaster: Forecaster, data: ForecastData, at_once: int, std_C: Floats | None) -> DayErrors:
    count = DayCount(data, std_C)
    score(forecaster, data, "test", at_once, on_errors=count.add)
    return count.result()


def _write(path: Path, checkpoint: Checkpoint, epoch: int | None, errors: DayErrors, began: float) -> None:
    scored_D = errors.known_CD.any(axis=0)
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        np.savez_compressed(
            file,
            config=np.array(checkpoint.config.model_dump_json()),
            figures=np.array(json.dumps([epoch, checkpoint.metrics["val_mse"], time.monotonic() - began])),
            days=np.array([day.toordinal() for day in errors.days])[scored_D],
            squared_CD=errors.squared_CD[:, scored_D],
            known_CD=errors.known_CD[:, scored_D].astype(np.int32),
            special_CD=np.zeros(0) if errors.special_CD is None else errors.special_CD[:, scored_D],
        )
    temporary.rename(path)


def load_outcome(results: Path, name: str) -> Outcome | None:
    """What is known of a run; None where it has no result."""
    path = results / f"{name}.npz"
    if not path.exists():
        return None
    with np.load(path) as found:
        days = tuple(date.fromordinal(day) for day in found["days"].tolist())
        special_CD = found["special_CD"] if found["special_CD"].size else None
        errors = DayErrors(days, found["squared_CD"], found["known_CD"].astype(np.float64), special_CD)
        epoch, val_mse, seconds = json.loads(str(found["figures"]))
        return Outcome(Config.model_validate_json(str(found["config"])), errors, epoch, val_mse, seconds)
