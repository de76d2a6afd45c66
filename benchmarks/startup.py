"""How fast `timellm inspect` answers, beside the least that typer allows and a peer's estimator, in alternating runs.

Usage: python benchmarks/startup.py [ROUNDS]
"""

import os
import platform
import statistics
import subprocess
import sys
import time

from rich import box
from rich.console import Console
from rich.table import Table

from timellm_cli import __version__

GOAL_SECONDS = 0.4
GOAL_SHARE = 0.1

COMMANDS = {
    "timellm inspect": [sys.executable, "-m", "timellm_cli", "inspect"],
    "timellm inspect --explain": [sys.executable, "-m", "timellm_cli", "inspect", "--explain"],
    'python -c "import typer"': [sys.executable, "-c", "import typer"],
    "accelerate estimate-memory --help": [
        sys.executable,
        "-m",
        "accelerate.commands.accelerate_cli",
        "estimate-memory",
        "--help",
    ],
}


def seconds_of(command: list[str]) -> float:
    """Wall-clock time of one run, from the start of the process to its end."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package is compiled
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - start


def measure(rounds: int) -> dict[str, list[float]]:
    """Times of every command; one run of each in turn, after one that warms the disk's cache."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for turn in range(rounds + 1):
        for name, command in COMMANDS.items():
            elapsed = seconds_of(command)
            if turn:
                times[name].append(elapsed)
    return times


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    times = measure(rounds)
    title = f"Start-up, {rounds} alternating runs, timellm {__version__}, Python {platform.python_version()}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("command", no_wrap=True)
    for name in ("median s", "fastest s", "slowest s"):
        table.add_column(name, justify="right")
    for name, elapsed in times.items():
        table.add_row(name, f"{statistics.median(elapsed):.3f}", f"{min(elapsed):.3f}", f"{max(elapsed):.3f}")
    console = Console()
    console.print(table)
    ours, _, _, peer = (statistics.median(elapsed) for elapsed in times.values())
    reached = ours <= GOAL_SECONDS and ours <= GOAL_SHARE * peer
    console.print(
        f"inspect takes {ours / peer:.1%} of the peer's time; goal: {GOAL_SECONDS} s and {GOAL_SHARE:.0%}: "
        + ("reached" if reached else "missed"),
        highlight=False,
    )


if __name__ == "__main__":
    main()
