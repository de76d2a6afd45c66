"""What each of several processes does in a step, and how long they take together: an estimate. Light.

A step takes as long as one process needs for its own part of the batch, and then for the sum of all gradients: a ring
sends 2 (N - 1) / N of them through every link. Nothing overlaps. Waiting for the slowest process and the start of the
processes are left out.
"""

import re
from dataclasses import dataclass, replace

from timellm_cli.config import SAMPLES_PER_UPDATE, Config
from timellm_cli.errors import ConfigError
from timellm_cli.planning.case import Case
from timellm_cli.planning.duration import EpochTime
from timellm_cli.planning.weight_bytes import trainable_tensors

USUAL_NETWORK = "80Gbit"
"""Between cards of one machine without NVLink: what one of them copies through PCI Express, about 10 GB/s. Assumed."""
_LATENCY = 2e-5
"""Seconds from one process to the next in a ring: assumed, about that of a fast network."""
_BYTES = 4
"""Gradients are summed in float32."""


@dataclass(frozen=True)
class Shared:
    """Several processes that share each batch. `each` is the largest part, in samples; `exchange` is in seconds.

    `alone` is the same run on one card with `each` samples a step, `together` that of all; None for an unknown speed.
    """

    processes: int
    each: int
    network: str
    exchanged_bytes: int
    exchange: float
    alone: EpochTime | None = None
    together: EpochTime | None = None

    @property
    def times(self) -> float | None:
        """Samples a second, compared with one process whose steps are of `each` samples."""
        if self.alone is None or self.together is None:
            return None
        return self.together.samples_per_second / self.alone.samples_per_second


def parse_network(text: str) -> float:
    """Bytes a second in '25Gbit', '100 Gbit/s' or '12GB/s'. Raises ConfigError for anything else."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([mgt])(bit|b|B)(?:/s|ps)?\s*", text, re.IGNORECASE)
    if not match or float(match[1]) == 0:
        raise ConfigError(f"--network {text} is no bandwidth", "write it like 25Gbit or 12GB/s")
    factor = {"m": 1e6, "g": 1e9, "t": 1e12}[match[2].lower()]
    return float(match[1]) * factor / (1 if match[3] == "B" else 8)


def part_of_batch(config: Config, processes: int) -> Config:
    """The configuration of one process's own part of the batch. Raises ConfigError for fewer samples than processes."""
    batch = config.train.batch_size
    if processes == 1 or batch == "auto":
        return config
    if batch < processes:
        raise ConfigError(
            f"a batch of {batch} samples cannot be shared by {processes} processes",
            f"--batch-size {processes} or more, which is the whole batch, or start at most {batch} processes",
        )
    return config.with_values({"train.batch_size": -(-batch // processes)})


def whole_batch(resolved: Config, wanted: Config, processes: int) -> Config:
    """A resolved part with the whole batch: the wanted one, or as many samples as all processes can hold.

    An automatic batch keeps the samples of an update.
    """
    if processes == 1:
        return resolved
    if wanted.train.batch_size != "auto":
        return resolved.with_values({"train.batch_size": wanted.train.batch_size})
    batch = max(min(resolved.train.batch * processes, SAMPLES_PER_UPDATE), processes)
    return resolved.with_values({"train.batch_size": batch, "train.accumulate": max(SAMPLES_PER_UPDATE // batch, 1)})


def share(case: Case, processes: int, network: str, alone: EpochTime | None, steps: int) -> Shared:
    """What so many processes do. `case` is one's own part, `alone` its time for an epoch of `steps` steps.

    Raises ConfigError for a network that is no bandwidth.
    """
    size = _BYTES * sum(trainable_tensors(case).values())
    hops = 2 * (processes - 1)
    exchange = hops * (size / processes / parse_network(network) + _LATENCY)
    shared = Shared(processes, case.batch, network, size, exchange, alone)
    if alone is None:
        return shared
    step, scoring = alone.step + exchange / case.accumulate, alone.scoring / processes
    together = replace(
        alone,
        step=step,
        scoring=scoring,
        epoch=steps * step + scoring,
        samples_per_second=processes * case.batch / step,
    )
    return replace(shared, together=together)
