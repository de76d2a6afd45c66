"""Where a run stands: its steps and epochs, the sums of its losses, and a step that is under way."""

from dataclasses import dataclass

from timellm_cli.model.batch import Batch
from timellm_cli.training.step import Outcome


@dataclass
class Place:
    """How far a run is: all steps taken, whole epochs, steps taken in the epoch begun.

    The weight update under way, or the next one, began after `gathered_from` steps of the epoch.
    """

    step: int = 0
    epoch: int = 0
    position: int = 0
    gathered_from: int = 0


@dataclass
class Losses:
    """Sums of the step losses: of the epoch begun, and since the last log record."""

    epoch: float = 0.0
    logged: float = 0.0
    logged_steps: int = 0


@dataclass(frozen=True, eq=False)
class Taken:
    """A step that was started: its number in the run and in the epoch."""

    step: int
    position: int
    learning_rate: float
    batch: Batch
    outcome: Outcome
