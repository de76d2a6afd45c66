"""Which process this is of those that run one command together. Light.

torchrun, `accelerate launch` and `timellm train --processes` all say it in the same environment variables.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from timellm_cli.errors import ConfigError

_NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


@dataclass(frozen=True)
class Place:
    """Process number `rank` of `size`, and `local_rank` of the `local_size` on this machine; all counted from 0."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes and prints for all."""
        return self.rank == 0

    def part(self, count: int) -> range:
        """This process's share of `count` things in a row. Shares differ by one at most and are in order."""
        return self.parts(count)[self.rank]

    def parts(self, count: int) -> list[range]:
        """The shares of all processes."""
        borders = [count * rank // self.size for rank in range(self.size + 1)]
        return [range(*pair) for pair in pairwise(borders)]


def find_place(environment: Mapping[str, str] = os.environ) -> Place:
    """The place that the launcher gave this process. Raises ConfigError where its variables make no sense."""
    if environment.get("WORLD_SIZE", "") in ("", "1"):
        return Place()
    rank, size, local_rank, local_size = (_number(environment, name) for name in _NAMES)
    if not rank < size or not local_rank < local_size <= size:
        said = ", ".join(f"{name}={environment[name]}" for name in _NAMES)
        raise ConfigError(
            f"{said}: process numbers count from 0 and are smaller than the number of processes",
            "start all processes with one launcher: timellm train --processes N, torchrun or accelerate launch",
        )
    return Place(rank, size, local_rank, local_size)


def _number(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name, "")
    if not text.isdecimal() or (name.endswith("SIZE") and int(text) == 0):
        raise ConfigError(
            f"{environment['WORLD_SIZE']} processes were started (WORLD_SIZE), but {name} is {text!r} here",
            "start all processes with one launcher: timellm train --processes N, torchrun or accelerate launch; "
            "to train in one process, unset WORLD_SIZE",
        )
    return int(text)
