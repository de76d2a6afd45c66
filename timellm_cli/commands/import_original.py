"""`timellm import`: a checkpoint of the original implementation becomes one of ours."""

from pathlib import Path

import torch

from timellm_cli.commands.fetch import console_reporter
from timellm_cli.console import err
from timellm_cli.data.windows import load_data
from timellm_cli.errors import ConfigError, ModelError
from timellm_cli.model.load import load_model
from timellm_cli.model.original import read_original
from timellm_cli.planning.hardware import look_at_machine
from timellm_cli.planning.readiness import require_ready, resolve_here
from timellm_cli.settings import Settings
from timellm_cli.training.checkpoint import Checkpoint, save_checkpoint


def run(settings: Settings, original: Path, output: Path, *, offline: bool) -> None:
    """Read `original` with the settings it was trained with, and write `output`.

    The data file is read for its scaler, columns and cadence, which the original does not store. Raises ConfigError
    where `output` exists, ModelError where `original` does not or its weights do not fit the settings.
    """
    if not original.is_file():
        raise ModelError(f"checkpoint '{original}' not found", "give the path of the original's 'checkpoint' file")
    if output.exists():
        raise ConfigError(f"'{output}' exists already", "name another file with -o, or move this one away")
    config, checks = resolve_here(settings.config, look_at_machine(), offline, console_reporter())
    require_ready(checks)
    data = load_data(config)
    runner = load_model(config, torch.device(config.hardware.device))
    runner.model.load_own_state(read_original(original, runner.model))
    save_checkpoint(output, Checkpoint.of(runner, data, config, metrics={}))
    err.print(f"wrote {output}; score it with: timellm eval {output}", soft_wrap=True)
