"""A forecast depends on its own history alone: not on its batch-mates, nor on the units of its channel."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import AutoModel

from tests.conftest import write_byte_tokenizer
from tests.model.llm.test_transformers_llm import FAMILIES
from tests.untrained import make_config, small_runner
from timellm_cli.config import Config
from timellm_cli.data.scale import Floats, Scaler
from timellm_cli.data.windows import load_data
from timellm_cli.evaluation.score import score
from timellm_cli.model.llm.decoder import Decoder
from timellm_cli.model.llm.transformers_llm import TransformersLLM
from timellm_cli.model.load import load_model
from timellm_cli.model.runner import Runner
from timellm_cli.model.time_llm import NoLLM, normalise

CPU = torch.device("cpu")
BATCH = 64
BACKBONES = {
    "llama": Decoder, "qwen2": Decoder, "gpt2": TransformersLLM, "opt": TransformersLLM,
    "bloom": TransformersLLM, "bert": TransformersLLM, "none": NoLLM,
}  # fmt: skip
PERIODS = (2.0, 3.7, 12.0, 24.0, 100.0)


@pytest.fixture(scope="module", params=sorted(BACKBONES))
def runner(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """A model around every kind of LLM: our decoder, transformers' causal ones with and without learnt positions, one
    that looks ahead, and none.
    """
    if request.param == "none":
        window = {"seq_len": 48, "pred_len": 12}
        built = load_model(Config.model_validate({"llm": {"name": "none"}, "window": window}), CPU)
    else:
        folder = tmp_path_factory.mktemp(request.param)
        torch.manual_seed(3)
        AutoModel.from_config(FAMILIES[request.param]).save_pretrained(folder)
        write_byte_tokenizer(folder)
        built = small_runner(folder)
    assert isinstance(built.model.llm, BACKBONES[request.param])
    built.model.eval()
    return built


@st.composite
def batches(draw: st.DrawFn) -> Tensor:
    """`BATCH` histories: waves, noise, ramps, spikes and constants of many sizes, so prompts differ in length."""
    chance = np.random.default_rng(draw(st.integers(0, 2**32)))
    time_T = np.arange(48.0)
    rows = []
    for row in range(BATCH):
        history_T = chance.normal(size=48) * chance.choice([0, 0.1, 1])
        history_T += np.sin(2 * np.pi * time_T / chance.choice(PERIODS)) * chance.choice([0, 1, 3])
        history_T += time_T * chance.choice([0, 0, -0.2, 0.5])
        history_T[chance.integers(48)] += chance.choice([0, 0, 40])
        rows.append((history_T + chance.choice([0, 5])) * 10.0 ** chance.integers(-2, 4) * (row > 0))
    return torch.from_numpy(np.stack(rows)).float()


def forecast(runner: Runner, history_BT: Tensor) -> Tensor:
    with torch.inference_mode():
        return runner.model(history_BT, runner.encoder.encode(history_BT))


@settings(max_examples=3, deadline=None)
@given(history_BT=batches())
def test_a_batch_of_one_forecasts_what_a_batch_of_64_does(runner: Runner, history_BT: Tensor) -> None:
    prompt = runner.encoder.encode(history_BT)
    lengths = prompt.mask_BK.sum(dim=1).unique()
    assert len(lengths) > 3 or isinstance(runner.model.llm, NoLLM), "the prompts should differ in length"
    together_BH = forecast(runner, history_BT)
    alone_BH = torch.cat([forecast(runner, history_1T) for history_1T in history_BT.split(1)])
    std_B1 = normalise(history_BT)[1].std_B1
    torch.testing.assert_close(together_BH / std_B1, alone_BH / std_B1, rtol=1e-4, atol=2e-5)


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    scale=st.floats(-6, 6).map(lambda exponent: 10**exponent),
    shift=st.floats(-100, 100),
)
def test_a_channel_in_other_units_has_the_same_forecast_in_those(
    runner: Runner, seed: int, scale: float, shift: float
) -> None:
    """From raw rows to raw rows: the scaler is fitted on the channel, the forecast is put back into its units."""
    chance = np.random.default_rng(seed)
    raw_NC = np.sin(np.arange(200)[:, None] / [2.0, 5.0]) + chance.normal(size=(200, 2)) / 5
    scales_C, shifts_C = np.array([scale, 1.0]), np.array([shift, 0.0])
    moved_NC = (raw_NC + shifts_C) * scales_C
    plain_TC, other_TC = (
        Scaler.fit(pl.DataFrame(values_NC)).standardise(values_NC)[-48:] for values_NC in (raw_NC, moved_NC)
    )
    prompts = [runner.encoder.encode(torch.from_numpy(values_TC.T).float()) for values_TC in (plain_TC, other_TC)]
    # The last decimal of a statistic may round the other way: that window reads another prompt.
    assume(torch.equal(prompts[0].ids_BK, prompts[1].ids_BK))
    plain_HC, moved_HC = (forecast_rows(runner, values_NC) for values_NC in (raw_NC, moved_NC))
    back_HC = moved_HC / scales_C - shifts_C
    np.testing.assert_allclose(back_HC, plain_HC, rtol=1e-3, atol=1e-4)


def forecast_rows(runner: Runner, values_NC: Floats) -> Floats:
    scaler = Scaler.fit(pl.DataFrame(values_NC))
    return scaler.restore(runner.roll_forward(scaler.standardise(values_NC), 12))


@pytest.mark.parametrize("factor", [0.0, 1e-12, 1e12, -1e12])
def test_windows_of_any_size_forecast_finite_values(runner: Runner, factor: float) -> None:
    wave_T = torch.sin(torch.arange(48) / 3)
    history_BT = torch.stack([wave_T * factor, torch.full((48,), factor), wave_T + factor])
    assert forecast(runner, history_BT).isfinite().all()


def test_a_score_is_the_same_at_every_batch_size(runner: Runner, small_csv: Path) -> None:
    data = load_data(make_config(small_csv))
    means = []
    for batch_size in (1, 7, BATCH):
        scores = score(runner, data, "test", batch_size, limit=35)
        means.append((scores.mse, scores.mae))
    assert means[1] == pytest.approx(means[0], abs=1e-6)
    assert means[2] == pytest.approx(means[0], abs=1e-6)
