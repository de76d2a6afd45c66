"""The picture of the losses."""

import math
import statistics
from pathlib import Path

import pytest

from timellm_cli.report.training_log import MetricsLog, draw_curves, smooth
from timellm_cli.training.records import EpochFinished, StepLogged

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
