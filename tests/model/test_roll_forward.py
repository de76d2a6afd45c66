from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from tests.untrained import CPU, make_config
from timellm_cli.data.scale import Scaler
from timellm_cli.model.load import load_model
from timellm_cli.model.runner import Runner

torch.set_num_threads(1)
RNG = np.random.default_rng(5)


@pytest.fixture(scope="module", params=["none", "tiny"])
def runner(request: pytest.FixtureRequest, tiny_llm: Path) -> Runner:
    """seq_len 48, pred_len 12."""
    torch.manual_seed(3)
    return load_model(make_config(Path("unused.csv"), "none" if request.param == "none" else tiny_llm), CPU)


def history(channels: int = 3, rows: int = 60) -> np.ndarray:
    daily = np.sin(np.arange(rows) / 4)[:, None]
    return daily + 0.3 * RNG.normal(size=(rows, channels))


def test_fewer_steps_cut_the_forecast(runner: Runner) -> None:
    known = history()
    whole = runner.roll_forward(known, 12)
    assert whole.shape == (12, 3)
    assert np.array_equal(runner.roll_forward(known, 5), whole[:5])


def test_more_steps_feed_the_forecast_back(runner: Runner) -> None:
    known = history()
    expected = known
    for _ in range(3):
        expected = np.concatenate([expected, runner.roll_forward(expected, 12)])
    assert runner.roll_forward(known, 30) == pytest.approx(expected[60:90], abs=1e-6)


def test_only_the_last_seq_len_rows_count(runner: Runner) -> None:
    known = history()
    changed = known.copy()
    changed[:12] += 100
    assert np.array_equal(runner.roll_forward(known, 12), runner.roll_forward(changed, 12))


def test_a_channels_forecast_does_not_depend_on_the_others(runner: Runner) -> None:
    known = history(channels=40)
    together = runner.roll_forward(known, 12)
    for channel in (0, 17, 39):
        alone = runner.roll_forward(known[:, [channel]], 12)
        assert alone[:, 0] == pytest.approx(together[:, channel], abs=1e-5)


@pytest.mark.parametrize(("factor", "shift"), [(4.0, 0.0), (1.0, 250.0), (-2.0, 30.0), (0.5, -7.0)])
def test_scaling_and_shifting_a_series_does_the_same_to_its_forecast(factor: float, shift: float) -> None:
    """Without the LLM: there the trained part alone reads the window. A mirrored window is another window to it."""
    torch.manual_seed(3)
    runner = load_model(make_config(Path("unused.csv")), CPU)
    raw = 10 + 5 * history()
    scaler = Scaler.fit(pl.DataFrame(raw))

    def forecast(values: np.ndarray) -> np.ndarray:
        return scaler.restore(runner.roll_forward(scaler.standardise(values), 24))

    changed, plain = forecast(factor * raw + shift), factor * forecast(raw) + shift
    agree = np.abs(changed - plain).max() <= 1e-3 * abs(factor) * scaler.std_C.max()
    assert agree == (factor > 0)


def test_the_prompt_reads_the_normalised_window_so_scale_does_not_reach_it(tiny_llm: Path) -> None:
    torch.manual_seed(3)
    runner = load_model(make_config(Path("unused.csv"), tiny_llm), CPU)
    known = history()
    plain, changed = runner.roll_forward(known, 12), runner.roll_forward(4 * known + 2, 12)
    assert changed == pytest.approx(4 * plain + 2, abs=2e-2)


def test_dropout_is_off(runner: Runner) -> None:
    known = history()
    runner.model.train()
    assert np.array_equal(runner.roll_forward(known, 12), runner.roll_forward(known, 12))
    assert not runner.model.training
