"""metrics.jsonl, each step and each epoch once, whatever happened in between; the picture of its losses."""

import json
import math
import statistics
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from timellm_cli.report.training_log import MetricsLog, draw_curves, read_metrics, smooth
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
    for scored in (True, False):  # both come before the epoch is scored
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


def test_a_line_that_cannot_be_written_is_left_out_with_one_note_and_the_next_ones_are_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "gone" / "metrics.jsonl"
    log = MetricsLog(path)
    log.write(step(1))
    log.write(step(2))
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("the training goes on") == 1 and "No such file" in said
    path.parent.mkdir()
    path.write_text('{"event": "step", "step": 2, "ep', encoding="utf-8")  # as a full disk leaves it
    log.write(step(3))
    log.write(step(4))
    assert places(path) == [("step", 3), ("step", 4)]


@pytest.mark.parametrize(
    "line",
    [
        b"\0" * 100, b"\xff\xfe", b"[]", b"7", b"null", b'{"event": []}', b'{"event": "step"}', b"[" * 100_000,
        b'{"event": "step", "step": "5", "epoch": 1, "loss": 0.5, "learning_rate": 1e-3, "samples_per_second": 9.0}',
        b'{"event": "step", "step": -1, "epoch": 1, "loss": 0.5, "learning_rate": 1e-3, "samples_per_second": 9.0, '
        b'"seconds_left": 1.0, "seconds": 2.0}',
        b'{"event": "step", "step": ' + b"9" * 400 + b', "epoch": 1, "loss": 0.5, "learning_rate": 1e-3, '
        b'"samples_per_second": 9.0, "seconds_left": 1.0, "seconds": 2.0}',
    ],
)  # fmt: skip
def test_what_a_power_cut_left_is_passed_over(path: Path, line: bytes) -> None:
    whole = places(path)
    path.write_bytes(line + b"\n" + path.read_bytes() + line)
    assert places(path) == whole


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_no_bytes_break_the_reader(lines: list[bytes]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "metrics.jsonl"
        MetricsLog(path).write(step(5))
        path.write_bytes(b"\n".join([*lines, path.read_bytes(), *lines]))
        assert ("step", 5) in places(path)


PNG = b"\x89PNG\r\n\x1a\n"


def write_metrics(path: Path, steps: int, epochs: int, losses: tuple[float, ...] = ()) -> Path:
    """A metrics file with so many step and epoch lines; the first losses are given, the others fall."""
    log = MetricsLog(path)
    for number in range(1, steps + 1):
        loss = losses[number - 1] if number <= len(losses) else 10 / number
        log.write(StepLogged(number, 1, loss, 1e-3, 9.0, 1.0, 2.0))
    for number in range(1, epochs + 1):
        loss = losses[-1] if losses else 1 / number
        log.write(EpochFinished(number, number, loss, loss, loss, loss, loss, loss, loss, 2.0))
    return path


@pytest.mark.parametrize(("steps", "epochs"), [(1, 0), (1, 1), (3, 1), (500, 40)])
def test_a_run_of_any_length_gives_a_picture(tmp_path: Path, steps: int, epochs: int) -> None:
    picture = tmp_path / "curves.png"
    draw_curves(write_metrics(tmp_path / "metrics.jsonl", steps, epochs), picture, "a_run", "mse")
    assert picture.read_bytes().startswith(PNG)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.png", "metrics.jsonl"]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf, 0.0, 1e-320, 1.7e308])
@pytest.mark.parametrize("steps", [1, 50])
def test_a_loss_of_any_size_can_be_drawn(tmp_path: Path, loss: float, steps: int) -> None:
    picture = tmp_path / "curves.png"
    draw_curves(write_metrics(tmp_path / "metrics.jsonl", steps, 1, (loss,)), picture, "a_run", "mse")
    assert picture.read_bytes().startswith(PNG)


def test_a_picture_that_cannot_be_written_is_a_note(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = write_metrics(tmp_path / "metrics.jsonl", 3, 1)
    draw_curves(metrics, tmp_path / "no folder" / "curves.png", "a_run", "mse")
    assert "curves.png cannot be drawn" in " ".join(capsys.readouterr().err.split())


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["无法绘制_\U000f0000", "cost_$x"])
def test_a_name_that_cannot_be_drawn_does_no_harm(tmp_path: Path, name: str) -> None:
    """The first has a character that no font holds, the second half a formula."""
    picture = tmp_path / "curves.png"
    draw_curves(write_metrics(tmp_path / "metrics.jsonl", 3, 1), picture, name, "huber")
    assert picture.read_bytes().startswith(PNG)


def test_nothing_is_drawn_before_the_first_record(tmp_path: Path) -> None:
    draw_curves(tmp_path / "metrics.jsonl", tmp_path / "curves.png", "a_run", "mse")
    assert list(tmp_path.iterdir()) == []


def test_smoothing_keeps_few_points_and_the_mean_of_many() -> None:
    assert smooth([3.0, 1.0, 2.0]) == [3.0, 1.0, 2.0]
    assert smooth([2.0] * 100) == [2.0] * 100
    zigzag = smooth([0.0, 1.0] * 100)
    assert len(zigzag) == 200
    assert all(abs(loss - 0.5) < 0.1 for loss in zigzag[10:-10])


@pytest.mark.parametrize("count", [20, 39, 40, 41, 199, 1000, 1237])
@pytest.mark.parametrize("odd", [1.5, 1e12, math.inf, math.nan])
def test_smoothing_is_the_mean_of_the_points_around_each_one(count: int, odd: float) -> None:
    """One huge or undefined loss changes no mean that it is not part of."""
    losses = [1 / (1 + number % 7) for number in range(count)]
    losses[count // 3] = odd
    reach = count // 40 + 1
    expected = [statistics.fmean(losses[max(0, at - reach) : at + reach + 1]) for at in range(count)]
    assert smooth(losses) == pytest.approx(expected, rel=1e-12, nan_ok=True)
