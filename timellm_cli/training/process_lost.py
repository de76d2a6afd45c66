"""What to say where one of the processes that share a run is gone."""

import torch

from timellm_cli.errors import ModelError, SaidElsewhere
from timellm_cli.processes.group import Group, ProcessLostError
from timellm_cli.training.run_directory import RunDirectory


def process_lost(
    error: ProcessLostError, group: Group, directory: RunDirectory, step: int, device: torch.device
) -> ModelError | SaidElsewhere:
    """The error that ends the run in the first process, which says what is saved, or in another one."""
    if not group.place.is_first:
        return SaidElsewhere()
    newest = directory.newest_checkpoint()
    saved = f"the newest checkpoint is '{newest}'" if newest else "nothing had been saved yet"
    if device.type == "cpu" and newest:
        saved = f"everything up to step {step:,} is saved in '{newest}'"
    return ModelError(
        f"one of the {group.size} processes has ended or does not answer ({error}); {saved}",
        f"continue, with any number of processes: timellm train --resume {newest}" if newest else "start again",
    )
