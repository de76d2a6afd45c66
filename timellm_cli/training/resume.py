"""How `--resume` finds its checkpoint, which settings may change, and that the data are still the same."""

from pathlib import Path

from timellm_cli.config import Config
from timellm_cli.data.windows import ForecastData
from timellm_cli.datasets import data_path
from timellm_cli.errors import ConfigError, DataError, ModelError
from timellm_cli.settings import Settings
from timellm_cli.splits import differences
from timellm_cli.training.checkpoint import Checkpoint, load_checkpoint
from timellm_cli.training.optimizer import LENGTH_BOUND
from timellm_cli.training.run_directory import RunDirectory
from timellm_cli.training.state import RunState

FREE = (
    "data.path",
    "train.epochs",
    "train.max_steps",
    "train.patience",
    "train.workers",
    "run.save_steps",
    "run.save_total_limit",
    "run.log_steps",
    "hardware.device",
    "hardware.vram",
    "hardware.capture",
    "hardware.recompute",
    "hardware.kernels",
    "hardware.keep_prefix",
    "hardware.prepared",
    "llm.implementation",
    "llm.name",
    "ahead.events",
    "ahead.llm",
)
"""Keys that may change when a run continues. Data and LLM may have moved: rows and fingerprint are compared."""

_OF_MACHINE = ("hardware.capture", "hardware.recompute")
"""Keys that are resolved anew on every machine."""

_FOLDER = ("run.name", "run.directory")
_LENGTH = ("train.epochs", "train.max_steps")


def find_checkpoint(resume: str, config: Config) -> Path | None:
    """The file that `--resume` means: a path, the newest of a folder, or for 'auto' of the run the configuration names.

    None if 'auto' finds that the run has not saved anything yet. Raises ModelError for a folder without checkpoints.
    """
    if resume == "auto":
        return RunDirectory.of(config).newest_checkpoint()
    path = Path(resume)
    if not path.is_dir():
        return path
    newest = RunDirectory(path).newest_checkpoint()
    if newest is None:
        raise ModelError(
            f"folder '{path}' holds no checkpoint to continue from", "give a folder or a file such as RUN/last.pt"
        )
    return newest


def load_resumable(path: Path) -> Checkpoint:
    """A checkpoint with training state. Raises ModelError for one without, such as best.pt."""
    checkpoint = load_checkpoint(path)
    if checkpoint.training is None:
        newest = RunDirectory(path.parent).newest_checkpoint()
        raise ModelError(
            f"'{path}' holds weights only, no state to continue from",
            f"use --resume {newest}" if newest else "last.pt and step-N.pt hold it; best.pt is for eval and predict",
        )
    return checkpoint


def continue_config(settings: Settings, checkpoint: Checkpoint, path: Path) -> Config:
    """The checkpoint's configuration with the free settings that the user states now.

    What is not stated, or is 'auto', stays as it was, except for keys of the machine. Raises ConfigError naming
    every setting that would make it another run, and where the run would be shorter than it is, or longer than its
    schedule was made for.
    """
    saved, now = checkpoint.config.values(), settings.config.values()
    stated = {key: now[key] for key, origin in settings.origins.items() if origin != "default" and now[key] != "auto"}
    if now["train.batch_size"] == "auto":
        stated.pop("train.accumulate", None)  # it follows from the batch size
    _stay_in_folder(settings, path)
    stated |= {key: now[key] for key in _OF_MACHINE}
    changed = {key: value for key, value in stated.items() if key not in _FOLDER and value != saved[key]}
    refused = [key for key in changed if key not in FREE]
    if refused:
        faults = [f"  - {key}: {saved[key]!r} in the checkpoint, {changed[key]!r} now" for key in refused]
        raise ConfigError(
            f"'{path}' cannot continue with other settings:\n" + "\n".join(faults),
            "leave them out to continue as before, or start a run of its own with another --run-name",
        )
    config = checkpoint.config.with_values(changed)
    if checkpoint.training is not None:
        _check_length(config, checkpoint.config, checkpoint.training.run)
    return config


def require_same_data(data: ForecastData, checkpoint: Checkpoint) -> None:
    """Raise DataError where a run would continue with other columns or rows than it was started with."""
    path, columns = data_path(data.config.data), data.table.columns
    if data.table.series.ids != checkpoint.ids:
        raise DataError(
            f"the run was trained on {len(checkpoint.ids):,} series, and those of '{path}' are others",
            "put the file back that the run was started with",
        )
    if columns != checkpoint.columns:
        raise DataError(
            f"the run was trained on the columns {', '.join(checkpoint.columns)}, "
            f"but '{path}' has {', '.join(columns)}",
            "put the file back that the run was started with",
        )
    known, now = checkpoint.days, data.ahead
    if known is not None and now is not None and known.digest != now.digest:
        raise DataError(
            "the text of the days, or the columns known ahead, are not those the run was started with",
            "put the file of events and the table back, or start a new run with another --run-name",
        )
    if different := list(differences(checkpoint.rows, data.identity)):
        raise DataError(
            f"the rows of '{path}' are not those the run was started with; " + "; ".join(different),
            "put the file back, or start a new run with another --run-name",
        )


def _stay_in_folder(settings: Settings, path: Path) -> None:
    named = [key for key in _FOLDER if settings.origins[key] in ("flag", "--set")]
    folder = RunDirectory.of(settings.config).path
    if named and folder.resolve() != path.parent.resolve():
        raise ConfigError(
            f"a resumed run stays in its folder '{path.parent}', but {' and '.join(named)} say '{folder}'",
            "leave them out; to branch off, copy the folder and resume the copy",
        )


def _check_length(config: Config, before: Config, state: RunState) -> None:
    train = config.train
    changed = [key for key in _LENGTH if config.values()[key] != before.values()[key]]
    if changed and train.schedule in LENGTH_BOUND:
        raise ConfigError(
            f"{' and '.join(changed)} cannot change: the {train.schedule} schedule was made for "
            f"{before.train.epochs} epochs"
            + (f" and {before.train.max_steps} steps" if before.train.max_steps else "")
            + ", and every learning rate so far followed from that",
            "only --schedule constant and type1 can be extended; start a run of its own with another --run-name",
        )
    if changed and (train.epochs < state.epoch or (train.max_steps or state.step) < state.step):
        raise ConfigError(
            f"the checkpoint has {state.epoch} whole epochs and {state.step:,} steps already, "
            f"more than train.epochs {train.epochs} and train.max_steps {train.max_steps} allow",
            "raise them, or continue from an older step-N.pt",
        )
