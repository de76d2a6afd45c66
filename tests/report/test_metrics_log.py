"""metrics.jsonl: each step and each epoch once, whatever happened in between."""

import json
from pathlib import Path

import pytest

from timellm_cli.errors import ModelError
from timellm_cli.report.training_log import MetricsLog, read_metrics
from timellm_cli.training.records import CheckpointSaved, EpochFinished, MemoryMeasured, StepFinished, StepLogged


def step(number: int, epoch: int = 1) -> StepLogged:
    """A logged step."""
    return StepLogged(
        number, epoch, loss=0.5, learning_rate=1e-3, samples_per_second=9.0, seconds_left=1.0, seconds=2.0
    )


def epoch(number: int, last_step: int) -> EpochFinished:
    """A finished epoch."""
    return EpochFinished(number, last_step, 1.0, 2.0, 2.0, 1.5, 3.0, 3.0, 2.5, seconds=4.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    log.start_after(0, scored=False)
    for record in (step(5), step(10), epoch(1, 10), step(15, 2), step(20, 2), epoch(2, 20)):
        log.write(record)
    return path


def places(path: Path) -> list[tuple[str, int]]:
    return [(line["event"], line["step"]) for line in read_metrics(path)]


def test_every_line_is_one_object_with_all_figures(path: Path) -> None:
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert lines[0] == {
        "event": "step", "step": 5, "epoch": 1, "loss": 0.5, "learning_rate": 1e-3, "samples_per_second": 9.0,
        "seconds_left": 1.0, "seconds": 2.0, "gpu_busy": None,
    }  # fmt: skip
    assert (lines[2]["event"], lines[2]["train_loss"], lines[2]["test_mae"]) == ("epoch", 1.0, 2.5)


def test_live_records_are_not_written(path: Path) -> None:
    before = path.read_bytes()
    MetricsLog(path).write(StepFinished(21, 3, 1, 0.5, 1e-3, 9.0, 1.0))
    MetricsLog(path).write(CheckpointSaved(Path("last.pt"), 21))
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("steps", "scored", "kept"),
    [
        (0, False, []),
        (7, False, [("step", 5)]),
        (10, False, [("step", 5), ("step", 10)]),  # stopped between the last step of an epoch and its score
        (10, True, [("step", 5), ("step", 10), ("epoch", 10)]),
        (17, False, [("step", 5), ("step", 10), ("epoch", 10), ("step", 15)]),
    ],
)
def test_a_resumed_run_keeps_what_led_to_its_checkpoint(
    path: Path, steps: int, scored: bool, kept: list[tuple[str, int]]
) -> None:
    MetricsLog(path).start_after(steps, scored)
    assert places(path) == kept


def test_measured_memory_stays_with_the_steps_it_was_measured_over(path: Path) -> None:
    log = MetricsLog(path)
    log.write(MemoryMeasured(20, "NVIDIA T4", 3, {"norms": 2, "cuda_context": 1}, 4, 5))
    for scored in (True, False):  # it is told before the epoch is scored
        log.start_after(20, scored)
        line = next(line for line in read_metrics(path) if line["event"] == "memory")
        assert (line["predicted"], line["allocated"], line["reserved"]) == (3, 4, 5)
    log.start_after(15, scored=True)
    assert places(path)[-1] == ("step", 15)


def test_a_line_cut_off_by_a_kill_is_dropped_and_the_next_one_is_whole(path: Path) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write('{"event": "step", "st')
    log = MetricsLog(path)
    log.start_after(20, scored=True)
    log.write(step(25, 3))
    assert places(path)[-2:] == [("epoch", 20), ("step", 25)]
    assert all(json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())


def test_a_disk_that_refuses_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"metrics\.jsonl' cannot be written: No such file") as caught:
        MetricsLog(tmp_path / "gone" / "metrics.jsonl").write(step(1))
    assert "--resume auto" in caught.value.hint
