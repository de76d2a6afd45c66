"""A small training as people start it, in a process of its own, for faults to strike."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tests.conftest import REPOSITORY, write_small_csv, write_tiny_llm
from timellm_cli.files import TEMPORARY
from timellm_cli.report.training_log import read_metrics
from timellm_cli.training.checkpoint import load_checkpoint
from timellm_cli.training.run_directory import RunDirectory

STEPS_AN_EPOCH = 13
_POLL = 0.002


class Lost(AssertionError):
    """Something that a fault must not cost was lost."""


@dataclass(frozen=True)
class Workshop:
    """A folder with an LLM, a CSV and the runs that are trained on them for `epochs` epochs; `llm` may be 'none'."""

    path: Path
    epochs: int
    llm: str = "llm"

    def furnish(self) -> None:
        """Write LLM and CSV."""
        self.path.mkdir(parents=True)
        if self.llm != "none":
            (self.path / self.llm).mkdir()
            write_tiny_llm(self.path / self.llm)
        write_small_csv(self.path / "small.csv")

    def run(self, name: str) -> "Victim":
        """The run of that name, begun or not."""
        return Victim(self, name)

    @property
    def environment(self) -> dict[str, str]:
        """Of its processes: an empty cache, and this repository."""
        own = {"TIMELLM_CACHE": str(self.path / "cache"), "PYTHONPATH": str(REPOSITORY)}
        return {**os.environ, **own, "NO_COLOR": "1", "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Victim:
    """One run: its processes, one after the other, and the files they leave."""

    workshop: Workshop
    name: str

    @property
    def directory(self) -> RunDirectory:
        """Where its files lie."""
        return RunDirectory(self.workshop.path / "checkpoints" / self.name)

    def start(self, slow_disk: bool = False, **popen: Any) -> "subprocess.Popen[str]":
        """A process that begins or continues the run, and saves at every step."""
        settings = {
            "dataset": "custom", "data-path": "small.csv", "train-ratio": 0.6, "window-stride": 4, "seq-len": 48,
            "pred-len": 12, "llm": self.workshop.llm, "layers": 2, "d-model": 8, "d-ff": 8, "n-heads": 2,
            "num-prototypes": 20, "batch-size": 7, "epochs": self.workshop.epochs, "patience": 0, "accumulate": 3,
            "log-steps": 1, "save-steps": 1, "run-name": self.name, "device": "cpu", "resume": "auto",
            "shortcut": "fitted",
        }  # fmt: skip
        program = "tests.faults.slow_disk" if slow_disk else "timellm_cli"
        return subprocess.Popen(
            [sys.executable, "-m", program, "train", *(f"--{name}={value}" for name, value in settings.items())],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8",
            cwd=self.workshop.path, env=self.workshop.environment, **popen,
        )  # fmt: skip

    def finish(self) -> "Victim":
        """Let a process bring the run to its end."""
        process = self.start()
        said = process.communicate(timeout=600)[1]
        if process.returncode:
            raise Lost(f"the run does not continue: exit code {process.returncode}\n{said}")
        return self

    def logged_steps(self) -> list[int]:
        """The steps of metrics.jsonl, in its order."""
        return [line["step"] for line in read_metrics(self.directory.metrics) if line["event"] == "step"]

    def wait_for_step(self, step: int, process: "subprocess.Popen[str]") -> bool:
        """Wait until a step is logged; whether the process still runs then."""
        seen = 0
        while process.poll() is None:
            size = self.directory.metrics.stat().st_size if self.directory.metrics.exists() else 0
            if size != seen and self.logged_steps()[-1:] >= [step]:
                return True
            seen = size
            time.sleep(_POLL)
        return False

    def wait_for_write(self, process: "subprocess.Popen[str]") -> bool:
        """Wait until a file is being written; whether the process still runs then."""
        while process.poll() is None:
            if self.half_written():
                return True
            time.sleep(_POLL)
        return False

    def half_written(self) -> list[Path]:
        """Files that were begun and not renamed yet."""
        return list(self.directory.path.glob(TEMPORARY))

    def require_whole_files(self) -> int:
        """How many checkpoints there are. Raises Lost where one does not load, or the run forgot that it had begun."""
        paths = list(self.directory.path.glob("*.pt"))
        for path in paths:
            load_checkpoint(path)
        if self.logged_steps()[1:] and not self.directory.last.is_file():
            raise Lost(f"steps were saved, but there is no {self.directory.last}")
        return len(paths)

    def require_same_end(self, other: "Victim") -> None:
        """Raises Lost where this run did not end bit for bit as the other one, or logged a step twice or never."""
        for path in (self.directory.last, self.directory.best):
            ours, theirs = load_checkpoint(path), load_checkpoint(other.directory.path / path.name)
            different = [name for name in theirs.weights if not torch.equal(ours.weights[name], theirs.weights[name])]
            figures = [name for name in theirs.metrics if name != "seconds"]
            different += [name for name in figures if ours.metrics[name] != theirs.metrics[name]]
            if different:
                raise Lost(f"{path} differs from the undisturbed run's: {different}")
        if _losses(self) != _losses(other):
            raise Lost(f"{self.directory.metrics} differs from the undisturbed run's")
        if debris := self.half_written():
            raise Lost(f"left behind: {debris}")


def _losses(run: Victim) -> list[tuple[str, int, float]]:
    """What metrics.jsonl says of each step and each epoch, but for the time it took."""
    key = {"step": "loss", "epoch": "val_loss"}
    lines = [line for line in read_metrics(run.directory.metrics) if line["event"] in key]
    return [(line["event"], line["step"], line[key[line["event"]]]) for line in lines]
