from pathlib import Path

import numpy as np
import pytest
import torch

from tests.untrained import CPU, make_config
from timellm_cli.data.scale import Scaler
from timellm_cli.model.load import TimeLLM, load_forecaster
from timellm_cli.model.runner import roll_forward

torch.set_num_threads(1)
RNG = np.random.default_rng(5)


@pytest.fixture(scope="module", params=["none", "tiny"])
def model(request: pytest.FixtureRequest, tiny_llm: Path) -> TimeLLM:
    """seq_len 48, pred_len 12."""
    torch.manual_seed(3)
    return load_forecaster(make_config(Path("unused.csv"), "none" if request.param == "none" else tiny_llm), CPU)


def history(channels: int = 3, rows: int = 60) -> np.ndarray:
    daily = np.sin(np.arange(rows) / 4)[:, None]
    return daily + 0.3 * RNG.normal(size=(rows, channels))


def test_fewer_steps_cut_the_forecast(model: TimeLLM) -> None:
    known = history()
    whole = roll_forward(model, known, 12, CPU)
    assert whole.shape == (12, 3)
    assert np.array_equal(roll_forward(model, known, 5, CPU), whole[:5])


def test_more_steps_feed_the_forecast_back(model: TimeLLM) -> None:
    known = history()
    expected = known
    for _ in range(3):
        expected = np.concatenate([expected, roll_forward(model, expected, 12, CPU)])
    assert roll_forward(model, known, 30, CPU) == pytest.approx(expected[60:90], abs=1e-6)


def test_only_the_last_seq_len_rows_count(model: TimeLLM) -> None:
    known = history()
    changed = known.copy()
    changed[:12] += 100
    assert np.array_equal(roll_forward(model, known, 12, CPU), roll_forward(model, changed, 12, CPU))


def test_a_channels_forecast_does_not_depend_on_the_others(model: TimeLLM) -> None:
    known = history(channels=40)
    together = roll_forward(model, known, 12, CPU)
    for channel in (0, 17, 39):
        alone = roll_forward(model, known[:, [channel]], 12, CPU)
        assert alone[:, 0] == pytest.approx(together[:, channel], abs=1e-5)


@pytest.mark.parametrize(("factor", "shift"), [(4.0, 0.0), (1.0, 250.0), (-2.0, 30.0), (0.5, -7.0)])
def test_scaling_and_shifting_a_series_does_the_same_to_its_forecast(factor: float, shift: float) -> None:
    """Without the LLM: there the trained part alone reads the window. A mirrored window is another window to it."""
    torch.manual_seed(3)
    model = load_forecaster(make_config(Path("unused.csv")), CPU)
    raw = 10 + 5 * history()
    scaler = Scaler.fit(raw)

    def forecast(values: np.ndarray) -> np.ndarray:
        return scaler.restore(roll_forward(model, scaler.standardise(values), 24, CPU))

    changed, plain = forecast(factor * raw + shift), factor * forecast(raw) + shift
    agree = np.abs(changed - plain).max() <= 1e-3 * abs(factor) * scaler.std_C.max()
    assert agree == (factor > 0)


def test_the_prompt_reads_the_normalised_window_so_scale_does_not_reach_it(tiny_llm: Path) -> None:
    torch.manual_seed(3)
    model = load_forecaster(make_config(Path("unused.csv"), tiny_llm), CPU)
    known = history()
    plain, changed = roll_forward(model, known, 12, CPU), roll_forward(model, 4 * known + 2, 12, CPU)
    assert changed == pytest.approx(4 * plain + 2, abs=2e-2)


def test_dropout_is_off(model: TimeLLM) -> None:
    known = history()
    model.train()
    assert np.array_equal(roll_forward(model, known, 12, CPU), roll_forward(model, known, 12, CPU))
    assert not model.training
