"""`timellm train --processes N` as users start it: losses against one process, a killed and a hung process.

Not a script: `processes.py` uses it.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from gpu_profiles import QWEN_3B, make_ett
from random_llm import TOY
from real_commands import TIMELLM, write_llm

PATIENCE = 15
"""Seconds that a process waits for one that hangs."""
MORE_STEPS = 12
Row = dict[str, Any]


@dataclass
class Commands:
    """Starts runs with the same options in one folder. `cards` returns the bytes used on each card."""

    folder: Path
    tokenizer: Path
    small: bool
    steps: int
    cards: Callable[[], list[int]]
    environment: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.environment = {**os.environ, "TIMELLM_CACHE": str(self.folder / "cache"), "NCCL_NVLS_ENABLE": "0"}
        if self.small:
            self.environment["OMP_NUM_THREADS"] = "1"
        keys = TOY if self.small else {**QWEN_3B, "vocab_size": 49_152}
        make_ett(self.folder / "small.csv", 1500 if self.small else 6000, 60)
        layers = 1 if self.small else 6
        write_llm(self.folder / "llm", {**keys, "num_hidden_layers": layers}, self.tokenizer)
        self.options = [
            "--dataset", "custom", "--data-path", str(self.folder / "small.csv"), "--target", "OT",
            "--llm", str(self.folder / "llm"), "--layers", str(layers), "--batch-size", "8" if self.small else "32",
            "--schedule", "constant", "--checkpoints", str(self.folder / "checkpoints"),
        ]  # fmt: skip
        if self.small:
            self.options += ["--seq-len", "96", "--pred-len", "24", "--device", "cpu", "--window-stride", "20"]

    def compare(self, processes: int) -> Row:
        """A whole run; its losses, its scores, and what it took of each card before it scored."""
        name = f"whole-{processes}"
        run, begun = self._start(name, processes, self.steps), time.perf_counter()
        before, most = self.cards(), self.cards()
        while run.poll() is None and time.perf_counter() < begun + 150:
            if not any(line["event"] == "memory" for line in self._events(name)):
                most = [max(pair) for pair in zip(most, self.cards(), strict=True)]
            time.sleep(0.05)
        end_tree(run)
        row = {"part": "command", "processes": processes, "seconds": time.perf_counter() - begun}
        row |= {"code": run.returncode, "said": self._said(name), "losses": self._losses(name)}
        events = self._events(name)
        row["memory"] = next((line for line in events if line["event"] == "memory"), None)
        row["val_mse"] = [line["val_mse"] for line in events if line["event"] == "epoch"]
        row["took_mib"] = [(now - then) / 2**20 for now, then in zip(most, before, strict=True)]
        return row

    def lose(self, processes: int, number: signal.Signals) -> Row:
        """A run in which one process gets this signal; what is said and saved, and how it goes on with one process."""
        name = f"lost-{number.name}"
        patience = {"TIMELLM_PATIENCE": str(PATIENCE)} if number == signal.SIGSTOP else {}
        run = self._start(name, processes, 100_000, **patience)
        end = time.perf_counter() + 150
        while len(self._losses(name)) < 20 and run.poll() is None and time.perf_counter() < end:
            time.sleep(0.01)
        steps, begun = max(map(int, self._losses(name)), default=0), time.perf_counter()
        for child in psutil.Process(run.pid).children():
            if child.environ().get("RANK") == str(processes - 1):
                child.send_signal(number)
        while run.poll() is None and time.perf_counter() < end:
            time.sleep(0.05)
        end_tree(run)
        row = {"part": "lost", "signal": number.name, "processes": processes, "steps_before": steps}
        row |= {"seconds": time.perf_counter() - begun, "code": run.returncode, "said": self._said(name)}
        row["steps_logged"] = max(map(int, self._losses(name)), default=0)
        last = self.folder / "checkpoints" / name / "last.pt"
        return row | (self._go_on(last, name) if last.exists() else {"saved_step": None})

    def _go_on(self, last: Path, name: str) -> Row:
        """Continue with one process; the losses of the steps after the saved one."""
        from timellm_cli.training.checkpoint import load_checkpoint

        training = load_checkpoint(last).training
        assert training is not None
        step = training.run.step
        run = self._start(name, 1, step + MORE_STEPS, "--resume", str(last), log="resumed")
        run.wait(timeout=150)
        losses = {step_: loss for step_, loss in self._losses(name).items() if int(step_) > step}
        return {"saved_step": step, "resumed_code": run.returncode, "resumed": losses}

    def _start(
        self, name: str, processes: int, steps: int, *more: str, log: str = "log", **environment: str
    ) -> subprocess.Popen[bytes]:
        if not more:
            shutil.rmtree(self.folder / "checkpoints" / name, ignore_errors=True)
        shared = ["--processes", str(processes)] if processes > 1 else []
        command = [
            *TIMELLM, "train", *self.options, "--run-name", name, "--max-steps", str(steps), "--log-steps", "1",
            "--save-steps", "0", *shared, *more,
        ]  # fmt: skip
        with (self.folder / f"{name}-{log}.txt").open("wb") as file:
            return subprocess.Popen(
                command, env={**self.environment, **environment}, cwd=self.folder, stdout=file, stderr=file,
                start_new_session=True,
            )  # fmt: skip

    def _events(self, name: str) -> list[Row]:
        path = self.folder / "checkpoints" / name / "metrics.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]

    def _losses(self, name: str) -> dict[str, float]:
        return {str(line["step"]): line["loss"] for line in self._events(name) if line["event"] == "step"}

    def _said(self, name: str) -> list[str]:
        text = (self.folder / f"{name}-log.txt").read_text(encoding="utf-8", errors="replace")
        return [line for line in text.splitlines() if line.strip()][-14:]


def end_tree(process: subprocess.Popen[bytes]) -> None:
    """End a command that is still running, and its processes."""
    if process.poll() is None:
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
        process.kill()
    process.wait()
