"""`timellm import`: a checkpoint of the original implementation, or of a fork, becomes one of ours."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from timellm_cli.commands.fetch import console_reporter
from timellm_cli.config import Config, flag_of
from timellm_cli.console import err, out, print_note
from timellm_cli.counts import count_total_steps, count_updates, steps_per_epoch
from timellm_cli.data.windows import ForecastData, load_data
from timellm_cli.errors import ConfigError
from timellm_cli.importing.commands import Argument, OldCommand
from timellm_cli.importing.translate import translate
from timellm_cli.model.load import load_model
from timellm_cli.model.original import llm_size_of, moments_of, read_original, require_original, sizes_of
from timellm_cli.model.original_file import OriginalFile, open_original
from timellm_cli.model.runner import Runner
from timellm_cli.planning.hardware import look_at_machine
from timellm_cli.planning.llm_shape import known_llms, look_up_llm
from timellm_cli.planning.readiness import require_ready, resolve_here
from timellm_cli.report.train_summary import quote
from timellm_cli.settings import Settings
from timellm_cli.training.checkpoint import Checkpoint, save_checkpoint
from timellm_cli.training.optimizer import Schedule
from timellm_cli.training.run_directory import RunDirectory
from timellm_cli.training.state import RunState, TrainingState, capture_random_state, seed_everything
from timellm_cli.training.step import TrainingStep


def run(settings: Settings, original: Path, output: Path | None, *, offline: bool) -> None:
    """Read `original` and write `output`: by default imported.pt, or last.pt of the run where a step is known.

    Settings that the user states count; the others are read off the file. The data file is read for its scaler, columns
    and cadence, which the original does not store. Raises ConfigError where `output` exists, ModelError where the file
    cannot be read safely or its weights do not fit the settings.
    """
    if output:
        _require_absent(output)
    found = open_original(original)
    require_original(found)
    settings = _with_settings_of(found, settings)
    target = output or (RunDirectory.of(settings.config).last if found.step else Path("imported.pt"))
    _require_absent(target)
    config, checks = resolve_here(settings.config, look_at_machine(), offline, console_reporter())
    require_ready(checks)
    data = load_data(config)
    seed_everything(config.train.seed)
    runner = load_model(config, torch.device(config.hardware.device))
    runner.model.load_own_state(read_original(found, runner.model))
    training = _training_state(found, runner, data, config)
    target.parent.mkdir(parents=True, exist_ok=True)
    identity = training.run.training_id if training else ""
    save_checkpoint(target, Checkpoint.of(runner, data, config, {}, training, training_id=identity))
    err.print(f"wrote {target}; score it with: timellm eval {quote(target)}", soft_wrap=True)
    if training:
        err.print(f"it continues at step {found.step:,} with: timellm train --resume {quote(target)}", soft_wrap=True)


def _require_absent(target: Path) -> None:
    if target.exists():
        raise ConfigError(f"'{target}' exists already", "name another file with -o, or move this one away")


def _with_settings_of(found: OriginalFile, settings: Settings) -> Settings:
    """The settings with what the file says wherever the user says nothing. Prints what was read off it."""
    stated = {key for key, origin in settings.origins.items() if origin != "default"}
    of_arguments = _translated(found)
    given = {**of_arguments, **{key: settings.config.values()[key] for key in stated}}
    heads, stride = (given.get(f"model.{name}") for name in ("n_heads", "patch_stride"))
    sizes = sizes_of(found.state, heads, stride, given.get("window.seq_len"))
    values = {**of_arguments, **sizes}
    if "llm.name" not in stated and (name := _find_llm(found, str(values.get("llm.name", "")))):
        values["llm.name"] = name
    values = {key: value for key, value in values.items() if key not in stated}
    read = ", ".join(f"{flag_of(key)} {values[key]}" for key in (*sizes, "llm.name") if key in values)
    if read:
        out.print(f"read off '{found.path}': {read}", soft_wrap=True)
    if "model.n_heads" not in given:
        print_note("the number of heads leaves no trace: 8 is the original's default; --n-heads states another")
    return replace(settings, config=settings.config.with_values(values))


def _translated(found: OriginalFile) -> dict[str, Any]:
    """Configuration values of the arguments that lie in the file or beside it."""
    simple = {name: value for name, value in found.arguments.items() if isinstance(value, str | int | float)}
    words = []
    for name, value in simple.items():
        if isinstance(value, bool):
            words += [Argument(name, None)] if value and name in ("load_in_4bit", "load_in_8bit") else []
        elif value != "":
            words.append(Argument(name, str(value)))
    values = translate(OldCommand("run_main.py", (), tuple(words), ()), keeps_defaults=False).values
    llm = Path(str(values.get("llm.name", "")))
    if (beside := found.path.parent / llm / "config.json").is_file():
        values["llm.name"] = str(beside.parent)
    return values


def _find_llm(found: OriginalFile, named: str) -> str | None:
    """A well-known LLM with the file's vocabulary and width, unless the one named has them; None if there is none."""
    vocabulary, width = llm_size_of(found.state)
    shapes = ((name, look_up_llm(name)) for name in filter(None, (named, *known_llms())))
    fits = (name for name, shape in shapes if shape and (shape.vocab, shape.hidden) == (vocabulary, width))
    return next(fits, None)


def _training_state(found: OriginalFile, runner: Runner, data: ForecastData, config: Config) -> TrainingState | None:
    """Where the training stands, in our order of samples; None where no step is known or it is past the end."""
    if not found.step:
        return None
    train = config.train
    steps = steps_per_epoch(len(data.training_windows()), train)
    total = count_total_steps(steps, train)
    if found.step >= total:
        print_note(
            f"step {found.step:,} is past the end of {train.epochs} epochs of {steps:,} steps: the weights alone are "
            "taken; to continue, state --epochs and --batch-size as they were"
        )
        return None
    epoch, position = divmod(found.step, steps)
    begun = position - position % train.accumulate
    state = RunState(step=found.step, epoch=epoch, position=position, update_start=begun)
    schedule = Schedule(
        train.schedule, train.learning_rate, count_updates(steps, total, train), count_updates(steps, steps, train)
    )
    step = TrainingStep(train, schedule, runner)
    saved = step.state_dict()
    moments = moments_of(found)
    places = {name: place for place, name in enumerate(step.weights)}
    saved["optimizer"]["state"] = {places[name]: one for name, one in moments.items() if name in places}
    kept = "Adam's moments go on, but for the mapping's, which begin anew" if moments else "Adam's moments begin anew"
    print_note(f"the training continues in epoch {epoch + 1} after step {found.step:,}: {kept}; the order is our own")
    return TrainingState(state, saved, capture_random_state())
