"""`timellm train --seeds N`: the same training under several seeds, one after another, and how far they scatter."""

import json
import re
from dataclasses import replace
from pathlib import Path

from rich.text import Text

from timellm_cli.commands import train
from timellm_cli.console import err, out, say
from timellm_cli.errors import ConfigError, Interrupted
from timellm_cli.files import disk_faults_of, replacing
from timellm_cli.model.runner import free_gpu_memory
from timellm_cli.planning.hardware import Machine, look_at_machine
from timellm_cli.planning.run_name import run_name
from timellm_cli.report.train_summary import print_seeds, summarise_seeds
from timellm_cli.settings import Settings
from timellm_cli.training.resume import continue_config, find_checkpoint, load_resumable
from timellm_cli.training.run_directory import RunDirectory

_LENGTH = ("train.epochs", "train.max_steps", "train.patience")
"""What decides whether a run that has ended may continue."""

_SEED = r"\{(train\.)?seed\}"


def run(settings: Settings, seeds: int, *, resume: str | None, offline: bool) -> None:
    """Train under `train.seed` and the seeds after it, each in a folder of its own.

    All are planned for the machine as it is before the first, since each run frees its memory at its end.
    With `resume` 'auto', finished runs are left alone, started ones continue and missing ones are trained. Raises
    Interrupted once the current run is saved.
    """
    if resume not in (None, "auto"):
        raise ConfigError(
            f"--seeds {seeds} resumes all of its runs, not '{resume}' alone", "use --resume auto with --seeds"
        )
    first = settings.config.train.seed
    every = range(first, first + seeds)
    runs = {seed: _with_seed(settings, seed) for seed in every}
    folders = {seed: RunDirectory.of(one.config) for seed, one in runs.items()}
    if not resume:
        for folder in folders.values():
            train.refuse_to_overwrite(folder)
    best, machine = {}, look_at_machine()
    for number, (seed, one) in enumerate(runs.items(), 1):
        err.print(Text(f"\nSeed {seed}, run {number} of {seeds}", style="bold"))
        best[seed] = (_finished(one) if resume else None) or _train(one, resume, offline, machine)
    summary = summarise_seeds(best)
    path = _summary_path(settings, every)
    with disk_faults_of(path), replacing(path) as file:
        file.write(json.dumps(summary, indent=2).encode())
    print_seeds(out, summary, path, [folder.best for folder in folders.values()])


def _with_seed(settings: Settings, seed: int) -> Settings:
    return replace(settings, config=settings.config.with_values({"train.seed": seed, "run.name": _name(settings)}))


def _name(settings: Settings) -> str:
    """The template of the folders' names: that of the run, with the seed behind it unless it says where that stands."""
    name = settings.config.run.name
    return name if re.search(_SEED, name) else f"{name}-seed{{seed}}"


def _summary_path(settings: Settings, seeds: range) -> Path:
    """Beside the folders, and named like them."""
    template = re.sub(rf"[-_ ]?(seed)?{_SEED}", f"-seeds{seeds[0]}-{seeds[-1]}", _name(settings), count=1)
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


def _train(settings: Settings, resume: str | None, offline: bool, machine: Machine) -> dict[str, float]:
    try:
        return train.run(settings, resume=resume, offline=offline, machine=machine).best
    except Interrupted as stop:
        raise Interrupted(stop.message, "continue with the same command and --resume auto") from None
    finally:
        free_gpu_memory()  # the model and its recordings are freed before the next run is planned
