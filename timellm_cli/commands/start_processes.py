"""`--processes N`: starts one command in several processes on this machine. Light."""

import os
import sys
from typing import Any

import typer

from timellm_cli.console import print_note, say, silence
from timellm_cli.errors import ConfigError
from timellm_cli.planning.hardware import count_cards, look_at_machine
from timellm_cli.processes.launch import is_launched, launch
from timellm_cli.processes.place import find_place


def start_processes(processes: int | None, device: str, batch: int | None = None) -> None:
    """Run this command line in so many processes and exit as they do; return where this is one of them, or all.

    `batch` are the samples of a step that they would share, where it is known. Raises ConfigError where there are fewer
    cards or samples than processes, or they were started already.
    """
    if not find_place().is_first:
        silence()
    if _is_alone_under_a_launcher():
        print_note(
            "a launcher started 1 process, and nothing is shared out: torchrun --nproc-per-node 2 and "
            "accelerate launch --multi_gpu --num_processes 2 start two, also on a CPU"
        )
    if processes is None or is_launched():
        return
    if (started := os.environ.get("WORLD_SIZE", "1")) != "1":
        raise ConfigError(
            f"--processes {processes} starts processes, but {started} were started already (WORLD_SIZE)",
            "leave --processes out under torchrun or accelerate launch",
        )
    if processes == 1:
        return
    if batch is not None and batch < processes:
        raise ConfigError(
            f"a batch of {batch} samples cannot be shared by {processes} processes",
            f"--batch-size {processes} or more, which is the whole batch, or --processes {batch} or fewer",
        )
    on_gpu = device == "cuda" or (device == "auto" and look_at_machine().can_use_gpu)
    if on_gpu and processes > (cards := count_cards()):
        raise ConfigError(
            f"--processes {processes}, but there {'is 1 card' if cards == 1 else f'are {cards} cards'} here, and each "
            "process needs one of its own",
            f"--processes {cards}, or --device cpu",
        )
    threads = max((os.cpu_count() or 1) // processes, 1)
    raise typer.Exit(launch(processes, sys.argv[1:], lambda sentence: say(sentence, style="bold red"), threads))


def _is_alone_under_a_launcher() -> bool:
    """torchrun with one process, or `accelerate launch`, which starts one without more words where it sees no GPU."""
    size = os.environ.get("WORLD_SIZE")
    return (size == "1" and "RANK" in os.environ) or (size is None and "ACCELERATE_MIXED_PRECISION" in os.environ)


def share_evaluation(arguments: dict[str, Any]) -> None:
    """`timellm eval --processes N`, before anything heavy is imported. Removes `processes` from the arguments."""
    processes = arguments.pop("processes")
    if processes and arguments["against"] is not None:
        raise ConfigError(
            "--processes shares out a model's forecasts, and --against scores a file", "leave --processes out"
        )
    if arguments["against"] is None:
        start_processes(processes, arguments["device"])
