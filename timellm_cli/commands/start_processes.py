"""`--processes N`: starts one command in several processes on this machine. Light."""

import os
import sys

import typer

from timellm_cli.config import Config
from timellm_cli.console import say, silence
from timellm_cli.errors import ConfigError
from timellm_cli.planning.hardware import count_cards, look_at_machine
from timellm_cli.processes.launch import is_launched, launch
from timellm_cli.processes.place import find_place


def start_processes(processes: int | None, config: Config) -> None:
    """Run this command line in so many processes and exit as they do; return where this is one of them, or all.

    Raises ConfigError where there are fewer cards or samples than processes, or they were started already.
    """
    if not find_place().is_first:
        silence()
    if processes is None or is_launched():
        return
    if (started := os.environ.get("WORLD_SIZE", "1")) != "1":
        raise ConfigError(
            f"--processes {processes} starts processes, but {started} were started already (WORLD_SIZE)",
            "leave --processes out under torchrun or accelerate launch",
        )
    if processes == 1:
        return
    batch = config.train.batch_size
    if batch != "auto" and batch < processes:
        raise ConfigError(
            f"a batch of {batch} samples cannot be shared by {processes} processes",
            f"--batch-size {processes} or more, which is the whole batch, or --processes {batch} or fewer",
        )
    on_gpu = config.hardware.device == "cuda" or (config.hardware.device == "auto" and look_at_machine().can_use_gpu)
    if on_gpu and processes > (cards := count_cards()):
        raise ConfigError(
            f"--processes {processes}, but there {'is 1 card' if cards == 1 else f'are {cards} cards'} here, and each "
            "process needs one of its own",
            f"--processes {cards}, or --device cpu",
        )
    threads = max((os.cpu_count() or 1) // processes, 1)
    raise typer.Exit(launch(processes, sys.argv[1:], lambda sentence: say(sentence, style="bold red"), threads))
