"""The figures of M4: Naive2, sMAPE, MASE and OWA, by hand and through the commands; the SMAPE loss in raw units."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import Cli, last_json
from timellm_cli.errors import DataError
from timellm_cli.evaluation.m4 import naive2, read_series, score_m4
from timellm_cli.training.optimizer import smape_loss


def seasonal(rows: int, season: int = 4, start: float = 100.0) -> np.ndarray:
    """A multiplicative season on a level that stays."""
    index = np.array([0.5, 1.0, 1.5, 1.0])[:season]
    return start * np.resize(index, rows)


def test_naive2_continues_a_season_and_repeats_the_last_value_without_one() -> None:
    assert naive2(seasonal(40), 6, 4) == pytest.approx(seasonal(46)[40:])
    assert naive2(seasonal(39), 6, 4) == pytest.approx(seasonal(45)[39:]), "from the middle of a season on"
    assert naive2(np.arange(1.0, 21.0), 3, 1).tolist() == [20, 20, 20]
    assert naive2(seasonal(11), 2, 4).tolist() == [seasonal(11)[-1]] * 2, "fewer than three seasons"
    noise = np.random.default_rng(3).normal(100, 1, 60)
    assert naive2(noise, 2, 12).tolist() == [noise[-1]] * 2


def test_figures_are_those_of_a_hand_computation() -> None:
    past, actual = np.array([1.0, 3.0, 2.0, 4.0]), np.array([4.0, 8.0])
    found = score_m4({"a": past}, {"a": actual}, {"a": np.array([2.0, 8.0])}, 1)
    assert found.smape == pytest.approx(200 * (2 / 6 + 0) / 2)
    assert found.mase == pytest.approx(1.0 / (5 / 3))
    assert found.naive2_smape == pytest.approx(200 * (0 + 4 / 12) / 2)
    assert found.naive2_mase == pytest.approx(2.0 / (5 / 3))
    assert found.owa == pytest.approx((1 + 0.5) / 2)
    assert score_m4({"a": past}, {"a": actual}, {"a": naive2(past, 2, 1)}, 1).owa == pytest.approx(1.0)


def test_a_missing_series_and_a_short_forecast_are_named() -> None:
    row = np.arange(1.0, 9.0)
    with pytest.raises(DataError, match="the forecast lacks 1 series, such as 'b'"):
        score_m4({"a": row, "b": row}, {"a": row[:2], "b": row[:2]}, {"a": row[:2]}, 1)
    with pytest.raises(DataError, match="'a' has 1 forecasts, but 2 values"):
        score_m4({"a": row}, {"a": row[:2]}, {"a": row[:1]}, 1)


def test_the_loss_is_that_of_the_competition_and_has_a_gradient_at_zero() -> None:
    forecast = torch.tensor([[2.0, 8.0, 0.0]], requires_grad=True)
    loss = smape_loss(forecast, torch.tensor([[4.0, 8.0, 0.0]]))
    assert float(loss.detach()) == pytest.approx((2 * 2 / 6) / 3)
    loss.backward()
    assert forecast.grad is not None and bool(forecast.grad.isfinite().all())


def write_part(folder: Path) -> None:
    """Six monthly series of different lengths, as M4 writes them."""
    random = np.random.default_rng(5)
    train, test = (
        ['"id",' + ",".join(f'"V{column}"' for column in range(2, 130))],
        ['"id",' + ",".join(f'"V{c}"' for c in range(2, 20))],
    )
    for number in range(6):
        rows = 100 + 4 * number
        wave = 1 + 0.3 * np.sin(2 * np.pi * np.arange(rows + 18) / 12)
        values = (200 + 50 * number) * wave * random.normal(1, 0.02, rows + 18)
        cells = [f'"{value:.1f}"' for value in values]
        train.append(",".join([f'"M{number}"', *cells[:rows], *[""] * (128 - rows)]))
        test.append(",".join([f'"M{number}"', *cells[rows:]]))
    (folder / "Monthly-train.csv").write_text("\n".join(train) + "\n", encoding="utf-8")
    (folder / "Monthly-test.csv").write_text("\n".join(test) + "\n", encoding="utf-8")


def test_a_part_of_m4_is_trained_forecast_and_scored(cli: Cli, tmp_path: Path) -> None:
    write_part(tmp_path)
    profile = (
        "-p",
        "m4-monthly",
        "--llm",
        "none",
        "--device",
        "cpu",
        "--run-name",
        "m4",
        "--epochs",
        1,
        "--batch-size",
        16,
    )
    trained = cli("train", *profile)
    assert trained.returncode == 0, trained.stderr
    forecast = cli("predict", "checkpoints/m4/best.pt", "Monthly-train.csv", "-o", "f.csv")
    assert forecast.returncode == 0, forecast.stderr
    files = ("--train", "Monthly-train.csv", "--test", "Monthly-test.csv")
    found = last_json(cli("m4", "f.csv", *files, "--json"))
    assert (found["part"], found["series"], found["naive2"]["owa"]) == ("Monthly", 6, 1.0)
    actual, past = read_series(tmp_path / "Monthly-test.csv"), read_series(tmp_path / "Monthly-train.csv")
    mine = score_m4(past, actual, read_series(tmp_path / "f.csv"), 12)
    assert found["forecast"]["owa"] == pytest.approx(mine.owa) and 0 < mine.smape < 200
    assert "Naive2" in cli("m4", "f.csv", *files).stdout
    assert cli("m4", "f.csv", *files, "--part", "monthly").returncode == 2
    assert cli("m4", "gone.csv", *files).returncode == 3


def test_smape_takes_no_window_units(cli: Cli) -> None:
    finished = cli("inspect", "--loss", "smape", "--loss-units", "window")
    assert finished.returncode == 2 and "relative already" in finished.stderr
