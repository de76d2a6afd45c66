"""Where a run stands: its steps and epochs, the sums of its losses, and a step that is under way.

Which epoch was the best, and when waiting for a better one ends.

The random generators of a process, captured and put back, in a form that a checkpoint may hold.

How fast a run is and how long it will still take.
"""

import math
import random
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from timellm_cli.data.batch import Batch
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


@dataclass
class EarlyStopping:
    """Watches the validation loss; with a `patience` of 0 it only remembers the best.

    `figures` are those of the best epoch, as they were handed in.
    """

    patience: int
    best_loss: float = math.inf
    waited: int = 0
    figures: dict[str, float] = field(default_factory=dict)

    def update(self, loss: float, figures: dict[str, float]) -> bool:
        """Take in the next epoch; whether it is the best so far."""
        improved = loss < self.best_loss
        if improved:
            self.best_loss, self.waited, self.figures = loss, 0, figures
        else:
            self.waited += 1
        return improved

    @property
    def exhausted(self) -> bool:
        """Whether `patience` epochs have passed without a lower loss."""
        return 0 < self.patience <= self.waited

    def state(self) -> dict[str, Any]:
        """All but the patience, which a resumed run may change."""
        state = asdict(self)
        del state["patience"]
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from `state()`."""
        self.best_loss, self.waited, self.figures = state["best_loss"], state["waited"], dict(state["figures"])


def capture_random_state() -> dict[str, Any]:
    """The states of python's, numpy's and torch's global generators, on CPU and GPU."""
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": {
            "kind": str(kind),
            "keys": torch.from_numpy(np.asarray(keys, dtype=np.int64)),
            "position": int(position),
            "has_gauss": int(has_gauss),
            "gauss": float(gauss),
        },
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Put back what `capture_random_state` gave; the GPU's only where there is one and there was one."""
    random.setstate(state["python"])
    generator = state["numpy"]
    keys = generator["keys"].numpy().astype(np.uint32)
    np.random.set_state((generator["kind"], keys, generator["position"], generator["has_gauss"], generator["gauss"]))
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


@dataclass
class Pace:
    """Seconds a step (a mean that forgets slowly), seconds to score an epoch (the latest), seconds trained in all.

    `steps` are those timed so far.

    `scored_batches`, as large as a step's, make up one scoring. Until one has been timed, each counts as two thirds of
    a step: its prompts are read as well, and a backward pass is of the patches alone.
    """

    scored_batches: float = 0.0
    per_step: float = 0.0
    per_scoring: float = 0.0
    seconds: float = 0.0
    steps: int = 0
    _stepping: float = 0.0

    def step(self, seconds: float) -> None:
        """Take in one more step, the wait for its batch included."""
        self.steps += 1
        self.per_step += (seconds - self.per_step) * max(1 / self.steps, 0.05)
        self.seconds += seconds
        self._stepping += seconds

    def share_of(self, seconds: float) -> float:
        """What share these seconds are of those that went into steps since the last call; at most 1."""
        share = min(seconds / self._stepping, 1.0) if self._stepping else 0.0
        self._stepping = 0.0
        return share

    def scored(self, seconds: float) -> None:
        """Take in the scoring of an epoch."""
        self.per_scoring = seconds
        self.seconds += seconds

    def left(self, steps: int, scorings: int) -> float:
        """Seconds that so many steps and scorings will take."""
        per_scoring = self.per_scoring or self.scored_batches * self.per_step * 2 / 3
        return steps * self.per_step + scorings * per_scoring
