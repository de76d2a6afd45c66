"""What tests of `timellm train` share."""

from collections.abc import Callable
from pathlib import Path

import pytest

Arguments = Callable[..., list[str]]


@pytest.fixture
def arguments(tiny_llm: Path, small_csv: Path) -> Arguments:
    """The command line of a run of 24 steps in 2 epochs; further arguments come behind and win."""

    def make(*more: object) -> list[str]:
        settings = {
            "dataset": "custom", "data-path": small_csv, "train-ratio": 0.6, "window-stride": 4, "seq-len": 48,
            "pred-len": 12, "llm": tiny_llm, "layers": 2, "d-model": 8, "d-ff": 8, "n-heads": 2, "num-prototypes": 20,
            "batch-size": 7, "epochs": 2, "accumulate": 3, "log-steps": 1, "run-name": "run", "device": "cpu",
        }  # fmt: skip
        flags = [f"--{name}={value}" for name, value in settings.items()]
        return ["train", *flags, *map(str, more)]

    return make
