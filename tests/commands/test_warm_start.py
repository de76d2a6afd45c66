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


def test_what_a_run_knows_of_the_days_ahead_stays(cli: Cli, small_csv: Path, tmp_path: Path) -> None:
    lines = small_csv.read_text(encoding="utf-8").splitlines()
    known = [lines[0] + ",promo,sale", *(f"{line},{row % 3},{row % 2}" for row, line in enumerate(lines[1:]))]
    csv, events = tmp_path / "known.csv", tmp_path / "events.csv"
    csv.write_text("\n".join(known) + "\n", encoding="utf-8")
    day = lines[40].split(",")[0][:10]
    events.write_text(f"start,text\n{day},fair\n", encoding="utf-8")
    small = ("--seq-len", 48, "--pred-len", 12, "--llm", "none", "--shortcut", "fitted", "--max-steps", 1)
    train = ("train", csv, "--device", "cpu")
    with_columns = (*train, *small, "--exclude", "sale", "--future-columns", "promo")
    assert cli(*with_columns, "--run-name", "columns").returncode == 0
    with_text = (*train, *small, "--exclude", "promo,sale", "--weekday-text", "weekday", "--text-reader", "columns")
    assert cli(*with_text, "--run-name", "text").returncode == 0

    def refused(source: str, *more: object) -> str:
        start = ("--from", f"checkpoints/{source}/best.pt", "--run-name", "next")
        finished = cli(*train, *start, *more)
        assert finished.returncode == 2, finished.stderr
        assert not (tmp_path / "checkpoints" / "next").exists()
        return finished.stderr

    assert "ahead.events: None in the checkpoint" in refused("columns", "--events", events, "--text-reader", "columns")
    assert "('promo',) in the checkpoint, ('promo', 'sale') now" in refused("columns", "--future-columns", "promo,sale")
    assert "('promo',) in the checkpoint, ('sale',) now" in refused("columns", "--future-columns", "sale")
    assert "ahead.rank: 8 in the checkpoint, 3 now" in refused("columns", "--text-rank", 3)
    assert "ahead.reader: 'columns' in the checkpoint, 'llm' now" in refused("text", "--text-reader", "llm")
    assert "'weekday' in the checkpoint, 'none' now" in refused("text", "--weekday-text", "none")
    with_date = cli(*train, "--from", "checkpoints/text/best.pt", "--weekday-text", "date", "--run-name", "date")
    assert with_date.returncode == 0, with_date.stderr


def test_settings_that_do_not_fit_the_checkpoints_are_one_error(cli: Cli, tmp_path: Path) -> None:
    rows = [f"{name},2024-01-{1 + row // 24:02} {row % 24:02}:00,{row % 7}" for name in "ab" for row in range(400)]
    csv = tmp_path / "panel.csv"
    csv.write_text("\n".join(["id,date,y", *rows]) + "\n", encoding="utf-8")
    train = ("train", csv, "--device", "cpu", "--llm", "none", "--max-steps", 1)
    first = cli(*train, "--id-column", "id", "--seq-len", 48, "--pred-len", 12, "--run-name", "panel")
    assert first.returncode == 0, first.stderr
    finished = cli("train", csv, "--from", "checkpoints/panel/best.pt", "--bands", "each", "--run-name", "next")
    assert finished.returncode == 2, finished.stderr
    assert "with an id column use 'pooled'" in finished.stderr
