"""Numbers that are huge, tiny, equal or none at all, through the real command line."""

import csv
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Cli
from tests.untrained import make_config, save_untrained
from timellm_cli.training.checkpoint import load_checkpoint


def rewrite(path: Path, *columns: Callable[[float], float]) -> None:
    """Replace a CSV's columns by `a`, `b`, ..., each a function of one wave."""
    rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))[1:]
    lines = [",".join(["date", *"abcdefgh"[: len(columns)]])]
    for number, (date, *_) in enumerate(rows):
        lines.append(",".join([date, *(repr(float(column(10 + math.sin(number / 4)))) for column in columns)]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_huge_tiny_and_constant_windows_forecast_finite_values(
    cli: Cli, small_csv: Path, tiny_llm: Path, tmp_path: Path
) -> None:
    rewrite(small_csv, *[lambda value: value] * 6)
    checkpoint = save_untrained(tmp_path / "best.pt", make_config(small_csv, tiny_llm, data__target="f"))
    sizes = (lambda v: v * 1e12, lambda v: v * -1e12, lambda v: v * 1e-12, lambda v: 0, lambda v: 1e12, lambda v: 1e-12)
    rewrite(small_csv, *sizes)
    finished = cli("predict", checkpoint, small_csv)
    assert finished.returncode == 0, finished.stderr
    values_HC = np.array([row[1:] for row in csv.reader(finished.stdout.splitlines()[1:])], dtype=float)
    assert values_HC.shape == (12, 6)
    assert np.isfinite(values_HC).all()
    assert values_HC[:, 4] == pytest.approx(1e12, rel=1e-6)
    rewrite(small_csv, *sizes[:-1], lambda v: v * 1e25)
    refused = cli("predict", checkpoint, small_csv)
    assert refused.returncode == 3
    assert re.search(r"small\.csv, column 'f': a value \de\+2\d deviations from the mean", refused.stderr)


def test_a_loss_that_is_no_number_stops_the_run_with_step_rows_and_the_last_good_checkpoint(
    cli: Cli, small_csv: Path, tiny_llm: Path, tmp_path: Path
) -> None:
    sizes = {"seq-len": 48, "pred-len": 12, "d-model": 8, "d-ff": 8, "n-heads": 2, "num-prototypes": 20, "layers": 2}
    run = {"batch-size": 7, "learning-rate": 1e30, "save-steps": 1, "run-name": "run", "device": "cpu", "llm": tiny_llm}
    flags = [f"--{name}={value}" for name, value in (sizes | run).items()]
    failed = cli("train", "--dataset=custom", f"--data-path={small_csv}", *flags)
    assert failed.returncode == 4
    assert "Traceback" not in failed.stderr
    found = re.search(
        r"the loss became (nan|inf) at step (\d+) \(epoch 1\); samples: '(load|OT)' rows \d+ to \d+", failed.stderr
    )
    assert found is not None, failed.stderr
    last = Path("checkpoints") / "run" / "last.pt"
    assert f"the last good checkpoint is '{last}'" in failed.stderr
    good = load_checkpoint(tmp_path / last)
    assert good.training is not None
    assert good.training.run.step == int(found[2]) - 1
    assert all(math.isfinite(weight.abs().sum()) for weight in good.weights.values())
