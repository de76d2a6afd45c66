"""What to save and to say where one of the processes that share a run is gone."""

import faulthandler
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from timellm_cli.errors import ModelError, SaidElsewhere
from timellm_cli.processes.group import Group, ProcessLostError
from timellm_cli.training.run_directory import RunDirectory

_SECONDS_TO_END = 45
"""Less than what the launcher grants."""


class SavingStream:
    """Reads what a GPU holds while it waits, perhaps for ever, for the sum with a process that is gone.

    What was launched after that sum has not run, so the weights are those of the last whole update.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    @contextmanager
    def beside_a_waiting_gpu(self) -> Iterator[None]:
        """Inside, nothing waits for what was launched before. The process ends soon, even if the GPU hinders it."""
        if self._stream is None:
            yield
            return
        nowhere = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  open until the end
        faulthandler.dump_traceback_later(_SECONDS_TO_END, exit=True, file=nowhere)
        with torch.cuda.stream(self._stream):
            yield


def process_lost(
    error: ProcessLostError, group: Group, directory: RunDirectory, step: int
) -> ModelError | SaidElsewhere:
    """The error that ends the run in the first process, which says what is saved, or in another one.

    `step` is that of the state that was saved because of this, 0 for none.
    """
    if not group.place.is_first:
        return SaidElsewhere()
    newest = directory.newest_checkpoint()
    saved = f"the newest checkpoint is '{newest}'" if newest else "nothing had been saved yet"
    if step:
        saved = f"everything up to step {step:,} is saved in '{directory.last}'"
    return ModelError(
        f"one of the {group.size} processes has ended or does not answer ({error}); {saved}",
        f"continue, with any number of processes: timellm train --resume {newest}" if newest else "start again",
    )
