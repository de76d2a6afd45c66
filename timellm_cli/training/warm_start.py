"""How `train --from` begins: with the weights of a checkpoint, and settings, data and a schedule of its own."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from timellm_cli.config import Config
from timellm_cli.data.open_csv import open_csv
from timellm_cli.datasets import data_files, data_path
from timellm_cli.errors import ConfigError
from timellm_cli.settings import Settings, explain, faulty
from timellm_cli.splits import RowsIdentity
from timellm_cli.training.checkpoint import Checkpoint
from timellm_cli.units import split_names

_KEPT_SECTIONS = ("model", "window")
_KEPT = ("llm.layers", "llm.weights")
"""What weights depend on. The LLM itself is compared by its fingerprint, so that it may have moved."""
_FREE_IN_MODEL = ("model.dropout",)
_OF_DAY_MAP = ("data.future_columns", "ahead.reader", "ahead.rank")
_OF_TEXT = ("ahead.events", "ahead.holiday_text", "ahead.weekday_text")
_OF_A_RUN = ("hardware.capture", "hardware.recompute")


def warm_config(settings: Settings, checkpoint: Checkpoint, path: Path) -> Config:
    """The checkpoint's configuration with whatever the user states, except for what its weights depend on.

    Without a name of its own, the run's has `_from_` and the name of the checkpoint's folder behind it. Raises
    ConfigError naming every setting that the weights cannot have.
    """
    saved, now = checkpoint.config.values(), settings.config.values()
    # A plain file stands for the profile `custom`, whose other settings are not the user's.
    stated = {key: now[key] for key, origin in settings.origins.items() if origin not in ("default", "profile custom")}
    kept = _kept(checkpoint, stated)
    faults = [
        f"  - {key}: {saved[key]!r} in the checkpoint, {stated[key]!r} now"
        for key in stated
        if key in kept and stated[key] != saved[key]
    ]
    if faults:
        raise ConfigError(
            f"the weights of '{path}' cannot have other sizes:\n" + "\n".join(faults),
            "leave these out; data, epochs, rates and the like may change",
        )
    values = {key: value for key, value in stated.items() if key not in kept}
    values |= {key: now[key] for key in _OF_A_RUN}
    if "data.dataset" in stated or "data.path" in stated:
        values = _of_other_data(checkpoint.config, settings) | values
    if "run.name" not in stated:
        values["run.name"] = f"{saved['run.name']}_from_{path.resolve().parent.name}"
    if "run.directory" not in stated:
        values["run.directory"] = now["run.directory"]
    try:
        return checkpoint.config.with_values(values)
    except ValidationError as error:
        raise faulty(explain(error, settings.origins)) from None


def _kept(checkpoint: Checkpoint, stated: Mapping[str, object]) -> set[str]:
    """The settings that the weights depend on.

    A day map knows its columns by their places, and its facts by their reader. Made without text, it has no place for
    any; made with text, it may read another one, but not none.
    """
    kept = {key for key in checkpoint.config.values() if key.split(".")[0] in _KEPT_SECTIONS} - {*_FREE_IN_MODEL}
    kept.update(_KEPT)
    if checkpoint.days is not None:
        kept.update(_OF_DAY_MAP)
        now = {**checkpoint.config.values(), **stated}
        if not checkpoint.config.ahead.has_text or all(now[key] in (None, "none") for key in _OF_TEXT):
            kept.update(_OF_TEXT)
    return kept


def _of_other_data(saved: Config, settings: Settings) -> dict[str, object]:
    """What is about the trained file alone is set anew for one of other columns, or for another dataset."""
    now = settings.config.values()
    about: tuple[str, ...] = (
        "data.path",
        "data.columns",
        "data.exclude",
        "data.target",
        "data.date_column",
        "prompt.description",
    )
    if now["data.dataset"] == saved.data.dataset:
        header = open_csv(data_files(data_path(settings.config.data))[0], None, settings.config.data).header
        if {*split_names(saved.data.date_column), saved.data.target} <= set(header):
            about = ("data.path",)
    return {key: now[key] for key in about}


def seen_before(trained: RowsIdentity, scored: RowsIdentity, split: str) -> str | None:
    """A sentence where rows to score now may have been trained on before, by their timestamps."""
    if not trained.rows or not scored.rows or len(trained.last) != len(scored.first) or scored.first > trained.last:
        return None
    return (
        f"the checkpoint was trained on rows up to {trained.last}, and the {split} rows begin at {scored.first}: where "
        "these are the same series, their scores are too good"
    )
