"""Stop a training at random moments, resume it, and compare it with one that was never stopped.

    python -m tests.faults.kills [--by kill terminate interrupt full-disk small-disk] [--moments 25] [--seed 0]

Each way is tried at so many moments: while the command starts, after any step, while an epoch is scored, and while a
file is being written. After each, every checkpoint must load and `--resume auto` must continue; each run that reaches
its end must have the weights of the undisturbed one, bit for bit, and each step in its metrics once.
"""

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from tests.faults.full_disk import fill, free_disk, refuse_writes, small_disk
from tests.faults.victim import STEPS_AN_EPOCH, Lost, Victim, Workshop

Stop = Callable[[Victim, "subprocess.Popen[str]", random.Random], None]
MOMENTS = ("start", "step", "write", "step", "write")
_STARTS_WITHIN = 6.0

_SAVED = (
    r"stopped after step \d+; everything up to it is saved in '.*'\n.*continue with: timellm train --resume .*last\.pt"
    r"|stopped before training began|^interrupted$"
)
_FULL = (
    r"cannot be written: (File too large|No space left on device)\n.*free some disk space.*--resume auto.*intact"
    r"|disk: .* needed, .* free in"
)


@dataclass(frozen=True)
class Way:
    """A way to stop a process, how to undo it, and how the process must end: exit codes, and what it says unless it
    dies at once.
    """

    stop: Stop
    codes: tuple[int, ...]
    says: str = ""
    recover: Callable[[Victim], None] = lambda victim: None


def _signalled(number: int) -> Stop:
    return lambda victim, process, chance: process.send_signal(number)


WAYS = {"kill": Way(lambda victim, process, chance: process.kill(), (-9, 1))}
if os.name == "posix":
    WAYS["terminate"] = Way(_signalled(signal.SIGTERM), (130, -signal.SIGTERM), _SAVED)
    # CPython ends itself by SIGINT where that came while it imports; shells show 130 as well.
    WAYS["interrupt"] = Way(_signalled(signal.SIGINT), (130, -signal.SIGINT), _SAVED)
if sys.platform == "linux":
    WAYS["full-disk"] = Way(refuse_writes, (4,), _FULL)
    if os.geteuid() == 0:
        WAYS["small-disk"] = Way(fill, (4,), _FULL, free_disk)


@dataclass
class Tally:
    """What happened: stops in all, before a step was taken, and while a file was being written; checkpoints that were
    loaded after a stop; runs that ended as the undisturbed one.
    """

    stops: int = 0
    at_start: int = 0
    in_write: int = 0
    files: int = 0
    runs: int = 0


def disturb(name: str, undisturbed: Victim, stops: Sequence[tuple[str, str]], chance: random.Random) -> Tally:
    """Stop runs in these ways at these kinds of moments, one after the other. Raises Lost where anything was."""
    tally = Tally()
    victim = undisturbed.workshop.run(f"{name}-1")
    for number, (way, moment) in enumerate(stops):
        while not _stop_once(victim, WAYS[way], moment, len(stops) - number, chance, tally):
            _end(victim, undisturbed, tally)
            victim = undisturbed.workshop.run(f"{name}-{tally.runs + 1}")
    victim.finish()
    _end(victim, undisturbed, tally)
    return tally


def _end(victim: Victim, undisturbed: Victim, tally: Tally) -> None:
    victim.require_same_end(undisturbed)
    tally.runs += 1


def _stop_once(victim: Victim, way: Way, moment: str, left: int, chance: random.Random, tally: Tally) -> bool:
    """Continue a run and stop it; False if it ended before that."""
    logged = victim.logged_steps()
    reached = logged[-1] if logged else 0
    process = victim.start(slow_disk=moment == "write")
    if moment == "start":
        time.sleep(chance.uniform(0, _STARTS_WITHIN))
    else:
        ahead = max(2 * (victim.workshop.epochs * STEPS_AN_EPOCH - reached) // (left + 1), 1)
        victim.wait_for_step(reached + chance.randint(1, ahead), process)
        if moment == "write":
            victim.wait_for_write(process)
        time.sleep(chance.uniform(0, 0.01 if moment == "write" else 0.2))
    writing = bool(victim.half_written())
    way.stop(victim, process, chance)
    said = process.communicate(timeout=300)[1]
    way.recover(victim)
    if process.returncode == 0:
        return False
    if process.returncode not in way.codes:
        raise Lost(f"{way} ended with exit code {process.returncode}:\n{said}")
    if process.returncode > 1 and (not re.search(way.says, said, re.MULTILINE) or "Traceback" in said):
        raise Lost(f"{way} was answered with:\n{said}")
    tally.stops += 1
    tally.at_start += victim.logged_steps() == logged
    tally.in_write += writing
    tally.files += victim.require_whole_files()
    return True


def main() -> None:
    """Print a line for each way."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--by", nargs="+", choices=sorted(WAYS), default=list(WAYS))
    parser.add_argument("--moments", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(f"{'by':12}{'stops':>8}{'at start':>10}{'in write':>10}{'loaded':>8}{'runs':>6}{'seconds':>9}")
    for way in arguments.by:
        chance, started = random.Random(arguments.seed), time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            workshop = Workshop(Path(folder) / "workshop", epochs=6)
            workshop.furnish()
            with small_disk(workshop.path / "checkpoints") if way == "small-disk" else nullcontext():
                undisturbed = workshop.run("undisturbed").finish()
                stops = [(way, moment) for moment, _ in zip(cycle(MOMENTS), range(arguments.moments), strict=False)]
                chance.shuffle(stops)
                t = disturb(way, undisturbed, stops, chance)
        seconds = time.perf_counter() - started
        print(f"{way:12}{t.stops:8}{t.at_start:10}{t.in_write:10}{t.files:8}{t.runs:6}{seconds:9.0f}", flush=True)


if __name__ == "__main__":
    main()
