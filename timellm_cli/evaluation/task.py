"""What an evaluation scores."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Task:
    """A split of the trained dataset, or of the CSV `given` in its place, or of another dataset, `zero_shot`.

    `limit` takes the first so many windows of each channel.
    """

    given: Path | None = None
    zero_shot: str | None = None
    split: str = "test"
    limit: int | None = None
