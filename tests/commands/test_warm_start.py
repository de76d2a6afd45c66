"""`timellm train --from`: a training begins with a checkpoint's weights, and rows, rates and a scaler of its own."""

import json
import re
from pathlib import Path

import torch

from tests.commands.conftest import Arguments, arguments  # noqa: F401  a fixture
from tests.conftest import Cli
from timellm_cli.training.checkpoint import load_checkpoint


def longer(csv: Path, target: Path) -> Path:
    """The same table with 200 rows more, whose values are higher and spread wider."""
    from datetime import datetime, timedelta

    lines = csv.read_text(encoding="utf-8").splitlines()
    first = datetime(2024, 1, 1)
    lines += [f"{first + timedelta(hours=row)},{30 + (row % 24):.3f},{90 - (row % 12):.3f}" for row in range(400, 600)]
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return target


def test_a_training_begins_with_weights_and_scores_both_scalers(
    cli: Cli,
    arguments: Arguments,  # noqa: F811
    small_csv: Path,
    tmp_path: Path,
) -> None:
    assert cli(*arguments()).returncode == 0
    newer = longer(small_csv, tmp_path / "newer.csv")
    warm = (
        "train",
        "--from",
        "checkpoints/run/best.pt",
        newer,
        "--epochs",
        1,
        "--learning-rate",
        1e-4,
        "--device",
        "cpu",
    )
    finished = cli(*warm, "--max-steps", 2)
    assert finished.returncode == 0, finished.stderr
    errors = dict(re.findall(r"(old|new) scaler\s+([\d.]+)", finished.stderr))
    assert errors.keys() == {"old", "new"}
    chosen = re.findall(r"(old|new) scaler.*trains with it", finished.stderr)
    assert chosen == [min(errors, key=lambda name: float(errors[name]))]
    assert "the checkpoint was trained on rows up to" not in finished.stderr, "later rows are scored"
    folder = tmp_path / "checkpoints" / "run_from_run"
    epochs = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["epoch"] for line in epochs if line["event"] == "epoch"] == [0, 1], "the start is scored as well"
    source, result = (
        load_checkpoint(tmp_path / "checkpoints" / name) for name in ("run/best.pt", "run_from_run/last.pt")
    )
    assert result.config.model == source.config.model
    assert result.config.train.learning_rate == 1e-4
    assert result.training_id != source.training_id


def test_the_old_scaler_stays_and_a_resume_keeps_it(
    cli: Cli,
    arguments: Arguments,  # noqa: F811
    small_csv: Path,
    tmp_path: Path,
) -> None:
    assert cli(*arguments()).returncode == 0
    newer = longer(small_csv, tmp_path / "newer.csv")
    warm = ("train", "--from", "checkpoints/run/best.pt", newer, "--device", "cpu", "--schedule", "constant")
    assert cli(*warm, "--scaler", "old", "--run-name", "kept", "--max-steps", 2).returncode == 0
    source = load_checkpoint(tmp_path / "checkpoints/run/best.pt")
    assert load_checkpoint(tmp_path / "checkpoints/kept/last.pt").scaler.equals(source.scaler)
    resumed = cli("train", "--resume", "checkpoints/kept", "--max-steps", 4)
    assert resumed.returncode == 0, resumed.stderr
    after = load_checkpoint(tmp_path / "checkpoints/kept/last.pt")
    assert after.scaler.equals(source.scaler)
    assert after.training is not None and after.training.run.step == 4
    assert cli(*warm, "--scaler", "new", "--run-name", "fresh", "--max-steps", 2).returncode == 0
    fresh = load_checkpoint(tmp_path / "checkpoints/fresh/last.pt")
    assert not fresh.scaler.equals(source.scaler)
    assert not torch.equal(fresh.weights["head.projection.bias"], source.weights["head.projection.bias"])


def test_what_cannot_begin_is_one_clear_error(
    cli: Cli,
    arguments: Arguments,  # noqa: F811
    small_csv: Path,
    tmp_path: Path,
) -> None:
    assert cli(*arguments("--max-steps", 2)).returncode == 0
    start = ("train", "--from", "checkpoints/run/best.pt")
    other = cli(*start, "--pred-len", 6, "--d-model", 4)
    assert other.returncode == 2
    assert "window.pred_len: 12 in the checkpoint, 6 now" in other.stderr and "model.d_model" in other.stderr
    both = cli(*start, "--resume", "auto")
    assert both.returncode == 2 and "give one of them" in both.stderr
    absent = cli("train", "--from", "no.pt")
    assert absent.returncode == 4 and "'no.pt' not found" in absent.stderr
    again = cli(*start, "--run-name", "run", "--device", "cpu")
    assert again.returncode == 2 and "already holds a run" in again.stderr
    overlapping = cli(*start, "--device", "cpu", "--max-steps", 1, "--train-ratio", 0.4, "--run-name", "early")
    assert "the checkpoint was trained on rows up to" in overlapping.stderr
