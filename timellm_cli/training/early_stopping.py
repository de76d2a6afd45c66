"""Which epoch was the best, and when waiting for a better one ends."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any


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
