"""The picture of the losses."""

import json
import math
import statistics
from pathlib import Path

import pytest

from timellm_cli.report.training_log import draw_curves, smooth

PNG = b"\x89PNG\r\n\x1a\n"


def write_metrics(path: Path, steps: int, epochs: int) -> Path:
    """A metrics file with so many step and epoch lines."""
    lines = [{"event": "step", "step": number, "epoch": 1, "loss": 10 / number} for number in range(1, steps + 1)]
    lines += [
        {"event": "epoch", "epoch": number, "step": number, "val_loss": 1 / number, "test_loss": 1 / number}
        for number in range(1, epochs + 1)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.mark.parametrize(("steps", "epochs"), [(1, 0), (1, 1), (3, 1), (500, 40)])
def test_a_run_of_any_length_gives_a_picture(tmp_path: Path, steps: int, epochs: int) -> None:
    picture = tmp_path / "curves.png"
    draw_curves(write_metrics(tmp_path / "metrics.jsonl", steps, epochs), picture, "a_run", "mse")
    assert picture.read_bytes().startswith(PNG)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.png", "metrics.jsonl"]


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
