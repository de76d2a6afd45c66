"""Memory over a long training with scores and checkpoints: it must stay where it is after the first steps.

    python -m tests.faults.leaks [--steps 2000] [--device cpu] [--capture off]

Prints the memory of the process, and on a GPU what torch has allocated and reserved, in MiB at ten points of the way.
"""

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from tests.conftest import write_small_csv, write_tiny_llm
from tests.untrained import make_config
from timellm_cli.config import Config
from timellm_cli.data.windows import load_data
from timellm_cli.model.load import load_model
from timellm_cli.training.loop import Trainer
from timellm_cli.training.records import StepFinished
from timellm_cli.training.run_directory import RunDirectory
from timellm_cli.training.state import seed_everything

MIB = 2**20
POINTS = 10
COLUMNS = f"{'step':>8}{'process':>10}{'allocated':>11}{'reserved':>10}"


@dataclass(frozen=True)
class Reading:
    """Memory in MiB after a step: of the process, and what torch allocated and reserved on a GPU."""

    step: int
    process: float
    allocated: float = 0.0
    reserved: float = 0.0

    def __str__(self) -> str:
        return f"{self.step:8,}{self.process:10.1f}{self.allocated:11.2f}{self.reserved:10.2f}"


def make_workshop(folder: Path, device: str = "cpu", **changes: object) -> Config:
    """The tiny LLM, a small CSV and a configuration for both in a folder; keyword arguments as `train__epochs=1`."""
    (folder / "llm").mkdir()
    write_tiny_llm(folder / "llm")
    write_small_csv(folder / "small.csv")
    config = make_config(folder / "small.csv", folder / "llm")
    of_run = {"run.name": "run", "run.directory": folder / "checkpoints", "hardware.device": device}
    return config.with_values(of_run | {key.replace("__", "."): value for key, value in changes.items()})


def read_memory(config: Config, steps: int) -> Iterator[Reading]:
    """Train so many steps, with scores and checkpoints on the way, and read the memory at `POINTS` of them."""
    endless = {"train.epochs": steps, "train.max_steps": steps, "train.patience": 0, "train.batch_size": 8}
    config = config.with_values({**endless, "train.schedule": "constant", "run.save_steps": max(steps // 20, 1)})
    directory = RunDirectory(config.run.directory / f"{config.hardware.device}-{config.hardware.capture}")
    directory.create()
    seed_everything(config.train.seed)
    trainer = Trainer(config, load_data(config), load_model(config, torch.device(config.hardware.device)), directory)
    on_gpu = config.hardware.device == "cuda"
    for record in trainer.run():
        if isinstance(record, StepFinished) and record.step % (steps // POINTS) == 0:
            yield Reading(
                record.step,
                psutil.Process().memory_info().rss / MIB,
                torch.cuda.memory_allocated() / MIB if on_gpu else 0.0,
                torch.cuda.memory_reserved() / MIB if on_gpu else 0.0,
            )


def main() -> None:
    """Print a row at each point."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--capture", choices=("on", "off"), default="off")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        config = make_workshop(Path(folder), arguments.device, hardware__capture=arguments.capture)
        print(COLUMNS)
        for reading in read_memory(config, arguments.steps):
            print(reading, flush=True)


if __name__ == "__main__":
    main()
