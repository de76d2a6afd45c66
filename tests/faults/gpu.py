"""On a GPU: a stopped and resumed training has the losses of an undisturbed one, and memory stays where it is.

    python -m tests.faults.gpu [--steps 2000] [--device cuda]

Random weights of the tiny LLM of the tests; with captured steps and without. GPU kernels sum in no fixed order, so the
differences of two undisturbed runs stand beside those of the resumed one. One failing case does not stop the rest.
"""

import argparse
import os
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch

from tests.faults.leaks import COLUMNS, make_workshop, read_memory
from tests.training.conftest import Run, train
from timellm_cli.config import Config
from timellm_cli.training.records import EpochFinished, RunInterrupted, StepFinished

_SETTINGS: dict[str, dict[str, str]] = {
    "fp32": {},
    "bf16, NF4": {"train.precision": "bf16", "llm.quantization": "nf4"},
    "fp16": {"train.precision": "fp16"},
}
_OF_RESUMED = {
    "train.epochs": 3, "train.batch_size": 8, "train.accumulate": 3, "train.learning_rate": 0.01,
    "data.window_stride": 4, "model.dropout": 0.2,
}  # fmt: skip
_STOP_AT = 16


def losses(*runs: Run) -> dict[tuple[str, int], float]:
    """Of each step, and of the validation and test sets after each epoch."""
    found: dict[tuple[str, int], float] = {}
    for run in runs:
        found |= {("step", record.step): record.loss for record in run.of(StepFinished)}
        for record in run.of(EpochFinished):
            found |= {("val", record.epoch): record.val_loss, ("test", record.epoch): record.test_loss}
    return found


def largest_difference(left: dict[tuple[str, int], float], right: dict[tuple[str, int], float]) -> float:
    """The largest relative difference of two curves. Raises ValueError where their points differ."""
    if left.keys() != right.keys():
        raise ValueError(f"points {sorted(left.keys() ^ right.keys())} are in one curve alone")
    return max(abs(left[key] - right[key]) / abs(right[key]) for key in right)


def compare_resumed(config: Config) -> str:
    """A row: points compared, the largest difference of a second undisturbed run and of a resumed one."""
    config = config.with_values(_OF_RESUMED)
    whole, again = losses(train(config, "whole")), losses(train(config, "again"))
    first = train(config, "parts", stop_at=_STOP_AT)
    if not isinstance(first.records[-1], RunInterrupted):
        raise ValueError(f"the run was to stop at step {_STOP_AT}, and ended with {first.records[-1]}")
    rest = train(config, "parts", resume=first.directory.last)
    resumed = losses(first, rest)
    return f"{len(whole):8}{largest_difference(again, whole):14.1e}{largest_difference(resumed, whole):14.1e}"


def attempt(name: str, case: Callable[[], None]) -> None:
    """Run a case. Print what it raises, so that the next case can run."""
    try:
        case()
    except Exception as error:
        traceback.print_exc()
        print(f"{name}: FAILED: {type(error).__name__}: {error}", flush=True)


def main() -> None:
    """Print the resumed runs first, then the memory."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--device", default="cuda")
    arguments = parser.parse_args()
    started = time.perf_counter()
    captures = ("on", "off") if arguments.device == "cuda" else ("off",)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TIMELLM_CACHE"] = f"{folder}/cache"
        config = make_workshop(Path(folder), arguments.device)
        print(f"{torch.cuda.get_device_name() if torch.cuda.is_available() else 'CPU'}, torch {torch.__version__}")
        print(f"{'losses':12}{'capture':>8}{'points':>8}{'undisturbed':>14}{'resumed':>14}")
        for setting, values in _SETTINGS.items():
            for capture in captures:
                case = config.with_values({**values, "hardware.capture": capture})

                def compare(setting: str = setting, capture: str = capture, case: Config = case) -> None:
                    row = compare_resumed(case.with_values({"run.directory": Path(folder) / setting / capture}))
                    print(f"{setting:12}{capture:>8}{row}", flush=True)

                attempt(f"{setting}, {capture}", compare)
        for capture in captures:
            print(
                f"memory in MiB, bf16 and NF4, capture {capture}\n{COLUMNS}   at {time.perf_counter() - started:.0f} s"
            )

            def read(capture: str = capture) -> None:
                values = _SETTINGS["bf16, NF4"] | {"hardware.capture": capture}
                for reading in read_memory(config.with_values(values), arguments.steps):
                    print(reading, flush=True)

            attempt(f"memory, {capture}", read)
    print(f"done in {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
