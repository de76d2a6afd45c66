"""`timellm train --seeds N` and `--folds N`: the same training several times, and how far the runs scatter."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from rich.text import Text

from timellm_cli.commands import train
from timellm_cli.console import err, out, print_json, say
from timellm_cli.errors import ConfigError, Interrupted
from timellm_cli.files import disk_faults_of, replacing
from timellm_cli.model.runner import free_gpu_memory
from timellm_cli.planning.hardware import Machine, look_at_machine
from timellm_cli.planning.run_name import run_name
from timellm_cli.processes.place import find_place
from timellm_cli.report.train_summary import print_runs, summarise_runs
from timellm_cli.settings import Settings
from timellm_cli.training.resume import continue_config, find_checkpoint, load_resumable
from timellm_cli.training.run_directory import RunDirectory

_LENGTH = ("train.epochs", "train.max_steps", "train.patience")
"""What decides whether a run that has ended may continue."""
_VARIED = {"seed": "train.seed", "fold": "data.fold"}
"""What the runs differ in, and its key."""


def run(
    settings: Settings, seeds: int | None, *, resume: str | None, offline: bool, shown: train.Shown = train.TABLES
) -> None:
    """Train under `train.seed` and the seeds after it, and on every fold of `data.folds`, each run in its own folder.

    All are planned for the machine as it is before the first, since each run frees its memory at its end.
    With `resume` 'auto', finished runs are left alone, started ones continue and missing ones are trained. Raises
    Interrupted once the current run is saved.
    """
    varied = _values_of_runs(settings, seeds)
    if (processes := find_place().size) > 1:
        raise ConfigError(
            f"--{' and --'.join(f'{name}s' for name in varied)} train one run after the other in one process, but "
            f"{processes} were started",
            "give each process a run of its own (--seed N --run-name NAME), or train one run in all of them",
        )
    if resume not in (None, "auto"):
        flags = [f"--{name}s {len(values)}" for name, values in varied.items()]
        raise ConfigError(
            f"{' and '.join(flags)} resumes all of its runs, not '{resume}' alone",
            f"use --resume auto with {' and '.join(flag.split()[0] for flag in flags)}",
        )
    variants = [dict(zip(varied, values, strict=True)) for values in product(*varied.values())]
    runs = [_with(settings, variant) for variant in variants]
    folders = [RunDirectory.of(one.config) for one in runs]
    if not resume:
        for folder in folders:
            train.refuse_to_overwrite(folder)
    best, machine = [], look_at_machine()
    for number, (variant, one) in enumerate(zip(variants, runs, strict=True), 1):
        title = ", ".join(f"{name} {value}" for name, value in variant.items()).capitalize()
        err.print(Text(f"\n{title}, run {number} of {len(runs)}", style="bold"))
        best.append((_finished(one) if resume else None) or _train(one, resume, offline, machine, shown))
    summary = summarise_runs(variants, best)
    path = _summary_path(settings, varied)
    with disk_faults_of(path), replacing(path) as file:
        file.write(json.dumps(summary, indent=2).encode())
    if shown.results == "json":
        print_json({"file": str(path), **summary})
    else:
        print_runs(out, summary, path, [folder.best for folder in folders])


def _values_of_runs(settings: Settings, seeds: int | None) -> dict[str, list[int]]:
    """The values of what the runs differ in, by its name."""
    data, first = settings.config.data, settings.config.train.seed
    varied = {} if seeds is None else {"seed": list(range(first, first + seeds))}
    return varied if data.folds == 1 or data.fold else {**varied, "fold": list(range(1, data.folds + 1))}


def _with(settings: Settings, variant: Mapping[str, int]) -> Settings:
    values: dict[str, Any] = {_VARIED[name]: value for name, value in variant.items()}
    return replace(settings, config=settings.config.with_values({**values, "run.name": _name(settings, variant)}))


def _name(settings: Settings, varied: Mapping[str, object]) -> str:
    """The template of the folders' names: that of the run, with seed and fold behind it unless they stand in it."""
    name = settings.config.run.name
    absent = [word for word in varied if not re.search(_placeholder(word), name)]
    return name + "".join(f"-{word}{{{word}}}" for word in absent)


def _placeholder(word: str) -> str:
    section = _VARIED[word].split(".", maxsplit=1)[0]
    return rf"\{{({section}\.)?{word}\}}"


def _summary_path(settings: Settings, varied: Mapping[str, list[int]]) -> Path:
    """Beside the folders, and named like them."""
    template = _name(settings, varied)
    for word, values in varied.items():
        numbers = f"-{word}s{values[0]}-{values[-1]}"
        template = re.sub(rf"[-_ ]?({word})?{_placeholder(word)}", numbers, template, count=1)
    config = settings.config.with_values({"run.name": template})
    return config.run.directory / f"{run_name(config)}.json"


def _finished(settings: Settings) -> dict[str, float] | None:
    """The best epoch of a run that has ended and is not to continue; None where there is something to train."""
    path = find_checkpoint("auto", settings.config)
    if path is None:
        return None
    checkpoint = load_resumable(path)
    now, then = continue_config(settings, checkpoint, path).values(), checkpoint.config.values()
    assert checkpoint.training is not None
    finished = checkpoint.training.run.finished
    if not finished or any(now[key] != then[key] for key in _LENGTH):
        return None
    say(f"'{path.parent}' is finished: {finished}")
    return checkpoint.metrics


def _train(
    settings: Settings, resume: str | None, offline: bool, machine: Machine, shown: train.Shown
) -> dict[str, float]:
    one = replace(shown, results="nothing" if shown.results == "json" else shown.results)
    try:
        return train.run(settings, resume=resume, offline=offline, machine=machine, shown=one).best
    except Interrupted as stop:
        raise Interrupted(stop.message, "continue with the same command and --resume auto") from None
    finally:
        free_gpu_memory()  # the model and its recordings are freed before the next run is planned
