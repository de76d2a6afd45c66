"""How fast a run is and how long it will still take."""

from dataclasses import dataclass


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
