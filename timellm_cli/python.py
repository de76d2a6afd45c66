"""The verbs as functions: `train`, `evaluate` and `inspect` for Python. They print nothing and return what they found.

Each runs the command's own code, so figures and files are the same. A user's mistake raises the error whose sentence
the command would print: ConfigError, DataError or ModelError, all of them TimellmError.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from timellm_cli.config import FIELDS, SECTIONS, Config
from timellm_cli.console import quiet
from timellm_cli.errors import ConfigError
from timellm_cli.settings import Settings, name_file, profile_names, resolve

if TYPE_CHECKING:
    from timellm_cli.training.records import RunFinished

Source = str | PathLike[str] | Mapping[str, Any] | Config
"""A shipped profile's name, a TOML file, a table or a dataset to train on, values by key, or a configuration.

Values are by `section.key`, as in `{"data.path": "sales.csv", "window.pred_len": 7}`, or by section.
"""


@dataclass(frozen=True)
class Trained:
    """A finished training: its folder, its best checkpoint, and how it ended."""

    folder: Path
    best: Path
    finished: "RunFinished"


def train(
    config: Source, changes: Mapping[str, Any] | None = None, *, resume: str | None = None, offline: bool = False
) -> Trained:
    """Train as `timellm train` does, and leave the same files in the run's folder.

    `changes` win over `config`. `resume` is a checkpoint to continue, or 'auto' for the run's last one. With `offline`
    nothing is downloaded. Raises ConfigError for the configuration and for a folder that holds a run, DataError for the
    data, ModelError for LLM and hardware, Interrupted after Ctrl-C, when everything is saved.
    """
    from timellm_cli.commands.train import run
    from timellm_cli.data.guess import settle
    from timellm_cli.training.resume import find_checkpoint
    from timellm_cli.training.run_directory import RunDirectory

    settings = settings_of(config, changes)
    if settings.config.data.folds > 1 and settings.config.data.fold is None and resume in (None, "auto"):
        raise ConfigError("train trains one fold, and data.folds asks for several", "call it with each data.fold")
    path = find_checkpoint(resume, settings.config) if resume else None
    with quiet():
        settings = settings if resume else settle(settings)
        finished = run(settings, resume=resume, offline=offline)
    directory = RunDirectory(path.parent) if path else RunDirectory.of(settings.config)
    return Trained(directory.path, directory.best, finished)


def evaluate(
    checkpoints: str | PathLike[str] | Sequence[str | PathLike[str]],
    *,
    data: str | PathLike[str] | None = None,
    zero_shot: str | None = None,
    split: str = "test",
    limit: int | None = None,
    batch_size: int | None = None,
    metrics: bool = False,
    device: str = "auto",
    llm: str | None = None,
    offline: bool = False,
    changes: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Score checkpoints, and baselines on the same windows; returns the object that `timellm eval --json` prints.

    `data` is a CSV in place of the one trained on, `zero_shot` another dataset, `split` 'train', 'val' or 'test',
    `limit` the number of windows. Errors are in standardised units. Raises ConfigError for checkpoints that cannot be
    compared, DataError for the data, ModelError for checkpoints, LLM and hardware.
    """
    from timellm_cli.commands.eval import distinct, score_all
    from timellm_cli.evaluation.leaderboard import to_json
    from timellm_cli.evaluation.task import Task

    if split not in ("train", "val", "test"):
        raise ConfigError(f"split '{split}' is not known", "splits are train, val and test")
    paths = [checkpoints] if isinstance(checkpoints, str | PathLike) else checkpoints
    task = Task(None if data is None else Path(data), zero_shot, split, limit)
    with quiet():
        leaderboard, _ = score_all(
            distinct([Path(path) for path in paths]),
            task,
            batch_size=batch_size,
            device=device,
            llm=llm,
            offline=offline,
            metrics=metrics,
            changes=changes or {},
        )
    return to_json(leaderboard)


def inspect(config: Source, changes: Mapping[str, Any] | None = None, *, card: str | None = None) -> dict[str, Any]:
    """Say what a run will be: samples, steps, tokens, memory in bytes, and what is missing. Loads no weights.

    `card` is the name of a GPU to plan for. Returns the object that `timellm inspect --json` prints. Raises ConfigError
    for the configuration, DataError where nothing can be counted.
    """
    from timellm_cli.data.guess import settle
    from timellm_cli.planning.hardware import find_card, look_at_machine
    from timellm_cli.planning.plan import make_plan
    from timellm_cli.report.inspect_json import plan_record

    planned_for = find_card(card) if card is not None else None
    settings = settle(settings_of(config, changes))
    return plan_record(make_plan(settings.config, look_at_machine(), False, planned_for, False, settings.notes))


def settings_of(config: Source, changes: Mapping[str, Any] | None = None) -> Settings:
    """The settings that a configuration of any form means, with `changes`. Raises ConfigError with every fault."""
    own = _flat(changes or {})
    if isinstance(config, Config):
        return resolve(None, None, {**config.values(), **own})
    if isinstance(config, Mapping):
        return resolve(None, None, {**_flat(config), **own})
    if not isinstance(config, str | PathLike):
        raise ConfigError(
            f"a configuration is a name, a path, a dict or a Config, and got {type(config).__name__}",
            'for example {"data.path": "sales.csv"}',
        )
    text = str(config)
    if text.lower().endswith(".toml"):
        return resolve(None, Path(text), own)
    if text in profile_names():
        return resolve(text, None, own)
    profile, flags = name_file(text, None, None, own, ())
    return resolve(profile, None, flags)


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by `section.key`. Raises ConfigError for one that is no key."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if name in SECTIONS and isinstance(value, Mapping):
            flat |= {f"{name}.{key}": one for key, one in value.items()}
        else:
            flat[name] = value
    if unknown := [key for key in flat if key not in FIELDS]:
        resolve(None, None, None, [f"{unknown[0]}=?"])  # raises, and names similar keys
    return flat
