"""Where a run stands: everything that a checkpoint needs so that the run continues as if it had not stopped."""

import math
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import torch


@dataclass
class RunState:
    """Counts and sums of a run, saved as they are. The learning rate needs no entry: it follows from the step.

    `step` counts all steps, `epoch` whole epochs, `position` the steps of the begun epoch. The begun update started
    after `update_start` steps of the epoch. `epoch_loss` and `logged_loss` are sums of step losses, of the begun epoch
    and of the `logged_steps` since the last log line. `best_figures` are those of the epoch with the lowest validation
    loss; `epochs_waited` epochs have passed since. `seconds` leaves pauses out. `finished` says why the run ended, and
    is empty while it may continue. `training_id` is drawn when a training starts and stays when it is resumed.
    """

    step: int = 0
    epoch: int = 0
    position: int = 0
    update_start: int = 0
    epoch_loss: float = 0.0
    logged_loss: float = 0.0
    logged_steps: int = 0
    best_loss: float = math.inf
    best_figures: dict[str, float] = field(default_factory=dict)
    epochs_waited: int = 0
    seconds: float = 0.0
    finished: str = ""
    training_id: str = field(default_factory=lambda: uuid4().hex[:12])

    @property
    def scored(self) -> bool:
        """Whether the newest step was the last before a scoring, and that scoring is done."""
        return self.position == 0 or bool(self.finished)

    @property
    def scored_epoch(self) -> int:
        """The epoch that a scoring now belongs to: the one whose steps are behind; 0 before the first step."""
        return self.epoch + (self.position > 0)

    def add_loss(self, loss: float) -> None:
        """Count the loss of one more step."""
        self.epoch_loss += loss
        self.logged_loss += loss
        self.logged_steps += 1

    def mean_logged_loss(self) -> float:
        """The mean loss since the last call."""
        mean = self.logged_loss / self.logged_steps
        self.logged_loss, self.logged_steps = 0.0, 0
        return mean

    def add_score(self, loss: float, figures: dict[str, float]) -> bool:
        """Count the validation loss of one more epoch; returns whether it is the lowest so far."""
        if loss < self.best_loss:
            self.best_loss, self.best_figures, self.epochs_waited = loss, figures, 0
            return True
        self.epochs_waited += 1
        return False

    def start_epoch(self) -> None:
        """After a whole epoch: begin the next one."""
        self.epoch, self.position, self.update_start, self.epoch_loss = self.epoch + 1, 0, 0, 0.0


@dataclass(frozen=True)
class TrainingState:
    """What a resumable checkpoint holds besides the weights.

    `step` is `TrainingStep.state_dict()`, `random` the state of torch's generators.
    """

    run: RunState
    step: dict[str, Any]
    random: dict[str, Any]


def seed_everything(seed: int) -> None:
    """Seed the generators that draw initial weights and dropout, on CPU and GPU."""
    torch.manual_seed(seed)


def capture_random_state() -> dict[str, Any]:
    """The states of torch's generators, on CPU and GPU."""
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None}


def restore_random_state(state: dict[str, Any]) -> None:
    """Set the states that `capture_random_state` returned; the GPU's only where there is a GPU and a state of it."""
    torch.set_rng_state(state["cpu"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
