"""One window walks through the model; what the model must and must not depend on; its linear shortcut."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.untrained import CPU, histories, make_config, small_runner
from timellm_cli.config import Config
from timellm_cli.errors import ModelError
from timellm_cli.model.load import load_model
from timellm_cli.model.prompt_tokens import top_autocorrelation_lags, window_statistics
from timellm_cli.model.runner import Runner
from timellm_cli.model.time_llm import (
    PeriodicMap,
    Shortcut,
    VocabularyPrototypes,
    compact_mapping,
    cut_patches,
    normalise,
    vocabulary_factor,
)


@pytest.fixture(scope="module")
def runner(tiny_llm: Path) -> Runner:
    runner = small_runner(tiny_llm)
    runner.model.eval()
    return runner


def test_one_window_walks_through_every_stage(runner: Runner) -> None:
    history_BT = histories(1)
    prompt = runner.encoder.encode(history_BT)
    assert prompt.ids_BK.shape == prompt.mask_BK.shape and prompt.ids_BK.shape[0] == 1
    scaled_BT, moments = normalise(history_BT)
    assert scaled_BT.shape == (1, 48) and moments.mean_B1.shape == moments.std_B1.shape == (1, 1)
    patches_BPL = cut_patches(scaled_BT, 8, 4)
    assert patches_BPL.shape == (1, 12, 8) == (1, runner.model.patch_nums, 8)
    embedded_BPD = runner.model.patch_embedding(patches_BPL)
    assert embedded_BPD.shape == (1, 12, 8)
    prototypes_UE = runner.model.prototypes()
    assert prototypes_UE.shape == (20, 32)
    tokens_BPE = runner.model.reprogramming(embedded_BPD, prototypes_UE)
    assert tokens_BPE.shape == (1, 12, 32)
    hidden_BPE = runner.model.llm(prompt, tokens_BPE)
    assert hidden_BPE.shape == (1, 12, 32)
    future_scaled_BH = runner.model.head(hidden_BPE)
    assert future_scaled_BH.shape == (1, 12)
    future_BH = moments.restore(future_scaled_BH)
    torch.testing.assert_close(future_BH, runner.model(history_BT, prompt))


def test_the_window_is_padded_with_its_last_value() -> None:
    patches = cut_patches(torch.arange(10.0).view(1, 10), patch_len=4, patch_stride=3)
    assert patches.tolist() == [[[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9], [9, 9, 9, 9]]]


@settings(max_examples=25, deadline=None)
@given(scale=st.floats(0.5, 1000), shift=st.floats(-10, 10))
def test_scaling_and_shifting_a_history_scales_and_shifts_its_forecast(
    runner: Runner, scale: float, shift: float
) -> None:
    history = histories(2)
    # The last decimal of a statistic may round the other way, so both forecasts read the same prompt.
    prompt = runner.encoder.encode(history)
    with torch.no_grad():
        plain = runner.model(history, prompt)
        moved = runner.model((history + shift) * scale, prompt)
    torch.testing.assert_close(moved / scale, plain + shift, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("value", [0.0, 1e12, -1e-12])
def test_constant_windows_of_any_size_forecast_finite_values(runner: Runner, value: float) -> None:
    history = torch.full((2, 48), value)
    with torch.no_grad():
        assert runner.model(history, runner.encoder.encode(history)).isfinite().all()


def test_only_trainable_weights_are_in_the_state_and_they_come_back(tiny_llm: Path) -> None:
    model = small_runner(tiny_llm).model
    state = model.own_state()
    assert not any(name.startswith("llm") for name in state)
    assert sum(weight.numel() for weight in state.values()) == sum(
        parameter.numel() for parameter in model.parameters() if parameter.requires_grad
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(1)
    model.load_own_state(state)
    assert all(torch.equal(weight, state[name]) for name, weight in model.own_state().items())


def test_weights_that_do_not_fit_are_all_named(tiny_llm: Path) -> None:
    model = small_runner(tiny_llm).model
    state = model.own_state()
    del state["head.projection.bias"]
    state["head.extra"] = torch.zeros(1)
    state["reprogramming.out.bias"] = torch.zeros(7)
    with pytest.raises(ModelError) as raised:
        model.load_own_state(state)
    for part in ("missing head.projection.bias", "unknown head.extra", r"(7,) instead of (32,)"):
        assert part in raised.value.message


@pytest.mark.parametrize("llm", ["tiny", "none"])
def test_a_shortcut_adds_the_last_value_and_a_linear_map_of_what_leads_to_it(tiny_llm: Path, llm: str) -> None:
    models = []
    for shortcut in ("none", "linear"):
        torch.manual_seed(0)
        config = make_config(Path("unread.csv"), tiny_llm if llm == "tiny" else llm, model__shortcut=shortcut)
        models.append(load_model(config, CPU))
    runner = models[0]
    plain, shortened = (one.model.eval() for one in models)
    assert plain.shortcut is None and shortened.shortcut is not None
    history_BT = histories(3)
    prompt = runner.encoder.encode(history_BT)
    last_B1 = history_BT[:, -1:]
    moments = normalise(history_BT)[1]
    with torch.no_grad():
        # Both were drawn under one seed: a shortcut takes no random number.
        expected = plain(history_BT, prompt) + last_B1 - moments.mean_B1
        torch.testing.assert_close(shortened(history_BT, prompt), expected)
        shortened.shortcut.weight_HT[2, 5], shortened.shortcut.bias_H[2] = 3.0, 0.5
        expected[:, 2] += 3 * (history_BT[:, 5] - history_BT[:, -1]) + 0.5 * moments.std_B1[:, 0]
        torch.testing.assert_close(shortened(history_BT, prompt), expected)


@pytest.mark.parametrize("period", [0, 7])
@pytest.mark.parametrize("llm", ["tiny", "none"])
def test_a_fitted_shortcut_starts_from_the_linear_map_to_rounding(tiny_llm: Path, llm: str, period: int) -> None:
    torch.manual_seed(0)
    name = tiny_llm if llm == "tiny" else llm
    config = make_config(Path("unread.csv"), name, model__shortcut="fitted", model__shortcut_period=period)
    runner = load_model(config, CPU)
    history_BT, weights_TH = histories(3), torch.randn(48, 12, dtype=torch.float64)
    before = runner.model.own_state()
    runner.model.start_from(weights_TH)
    prompt = runner.encoder.encode(history_BT)
    mean_B1 = history_BT.double().mean(dim=1, keepdim=True)
    expected_BH = (mean_B1 + (history_BT - mean_B1) @ weights_TH).float()
    forecast_BH = runner.model.eval()(history_BT, prompt)
    torch.testing.assert_close(forecast_BH, expected_BH, rtol=1e-4, atol=1e-4)
    # Trained are the same weights as without a fit; the map goes into checkpoints beside them.
    assert runner.model.own_state().keys() - runner.model.trainable_weights().keys() == {"shortcut.fitted_HT"}
    changed = [name for name, weight in runner.model.own_state().items() if not torch.equal(weight, before[name])]
    assert sorted(changed) == ["head.projection.bias", "head.projection.weight", "shortcut.fitted_HT"]
    forecast_BH.sum().backward()
    shortcut = runner.model.shortcut
    assert shortcut is not None and shortcut.weight_HT.grad is not None and shortcut.weight_HT.grad.abs().sum() > 0


def test_without_an_llm_the_rest_is_the_same_and_reads_no_prompt() -> None:
    config = Config.model_validate({"llm": {"name": "none"}, "window": {"seq_len": 48, "pred_len": 12}})
    runner = load_model(config, CPU)
    model, history = runner.model, histories(3)
    prompt = runner.encoder.encode(history)
    assert prompt.ids_BK.shape == (3, 0)
    forecast = model(history, prompt)
    assert forecast.shape == (3, 12)
    forecast.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert runner.llm_fingerprint == "none"


def test_a_prompt_that_would_be_cut_is_refused_with_both_numbers(tiny_llm: Path) -> None:
    runner = small_runner(tiny_llm)
    runner.encoder.max_tokens = 100
    with pytest.raises(ModelError, match=r"a prompt has \d+ tokens, but the LLM has 100 positions"):
        runner.encoder.encode(histories(1))


def test_an_absent_llm_names_the_command_that_fetches_it() -> None:
    with pytest.raises(ModelError) as raised:
        small_runner(Path("no/such-llm"))
    assert "timellm fetch" in raised.value.hint


class TestCompactMapping:
    """The exact saving of the vocabulary mapping, on shared weights."""

    def test_its_factor_spans_what_the_vocabulary_spans(self) -> None:
        embedding = torch.randn(300, 16)
        factor = vocabulary_factor(embedding, chunk=7)
        assert torch.equal(factor, factor.triu())
        torch.testing.assert_close(factor.T @ factor, embedding.T @ embedding, rtol=1e-4, atol=1e-3)

    def test_it_gives_the_prototypes_of_the_full_mapping(self) -> None:
        embedding, full, bias = torch.randn(300, 16), torch.randn(20, 300), torch.randn(20)
        mapping = VocabularyPrototypes(vocabulary_factor(embedding), 20, 300)
        with torch.no_grad():
            mapping.weight_UE.copy_(compact_mapping(full, embedding, mapping.factor_EE))
            mapping.bias_U.copy_(bias)
        torch.testing.assert_close(mapping(), full @ embedding + bias[:, None], rtol=1e-4, atol=1e-3)

    def test_gradient_descent_takes_the_same_steps_in_the_prototypes(self) -> None:
        torch.manual_seed(0)
        embedding, target = torch.randn(300, 16) / 4, torch.randn(20, 16)
        full = (torch.randn(20, 300) / 300).requires_grad_()
        mapping = VocabularyPrototypes(vocabulary_factor(embedding), 20, 300)
        with torch.no_grad():
            mapping.weight_UE.copy_(compact_mapping(full, embedding, mapping.factor_EE))
            mapping.bias_U.zero_()
        for _ in range(5):
            wide, narrow = full @ embedding, mapping()
            torch.testing.assert_close(narrow, wide, rtol=1e-4, atol=1e-4)
            for prototypes, weight in ((wide, full), (narrow, mapping.weight_UE)):
                (gradient,) = torch.autograd.grad((prototypes - target).square().sum(), weight)
                with torch.no_grad():
                    weight.sub_(0.01 * gradient)

    @pytest.mark.parametrize("vocabulary", [5, 16])
    def test_a_vocabulary_that_does_not_span_the_space_still_has_a_factor(self, vocabulary: int) -> None:
        embedding = torch.randn(vocabulary, 16)
        embedding[1] = embedding[0]
        factor = vocabulary_factor(embedding)
        full = torch.randn(20, vocabulary)
        compact = compact_mapping(full, embedding, factor)
        torch.testing.assert_close(compact @ factor, full @ embedding, rtol=1e-3, atol=1e-2)

    def test_its_start_is_distributed_as_the_full_mappings(self) -> None:
        embedding = torch.randn(3000, 16)
        compact = VocabularyPrototypes(vocabulary_factor(embedding), 1000, 3000)
        with torch.no_grad():
            full = (torch.rand(1000, 3000) * 2 - 1) * 3000**-0.5 @ embedding
            assert float((compact.weight_UE @ compact.factor_EE).std()) == pytest.approx(float(full.std()), rel=0.03)


class TestStatistics:
    """What the prompt says of a window."""

    def test_equal_lags_are_ordered_by_size_whatever_the_batch(self) -> None:
        periodic = torch.sin(torch.arange(96.0) * 2 * torch.pi / 24)
        assert top_autocorrelation_lags(periodic.view(1, -1), 5).tolist() == [[0, 24, 48, 72, 1]]
        assert top_autocorrelation_lags(torch.zeros(1, 96), 5).tolist() == [[0, 1, 2, 3, 4]]

    @settings(max_examples=30, deadline=None)
    @given(seed=st.integers(0, 10**6), seq_len=st.integers(8, 130))
    def test_lags_are_those_of_the_plain_sum_and_mirror_pairs_rise(self, seed: int, seq_len: int) -> None:
        torch.manual_seed(seed)
        window = torch.randn(seq_len).double()
        sums = [float((window * window.roll(lag)).sum()) for lag in range(seq_len)]
        found = top_autocorrelation_lags(torch.stack([window, torch.randn(seq_len).double()]), 5)[0].tolist()
        expected = sorted(range(seq_len), key=lambda lag: (-round(sums[lag] / sums[0], 8), lag))[:5]
        assert found == expected

    def test_the_median_is_the_lower_middle_value(self) -> None:
        assert window_statistics(torch.tensor([[4.0, 1.0, 3.0, 2.0]]), 1)[0].median == 2.0

    def test_a_flat_window_trends_downward(self) -> None:
        assert not window_statistics(torch.ones(1, 8), 1)[0].upward


@pytest.mark.parametrize(("seq_len", "pred_len", "period"), [(50, 12, 7), (48, 24, 8), (9, 4, 9), (5, 3, 1)])
def test_a_periodic_shortcut_maps_every_phase_with_the_same_weights(seq_len: int, pred_len: int, period: int) -> None:
    torch.manual_seed(0)
    plain, both = Shortcut(seq_len, pred_len), Shortcut(seq_len, pred_len, period)
    assert both.periodic is not None
    scaled_BT = torch.randn(3, seq_len)
    with torch.no_grad():
        for weight in both.parameters():
            weight.normal_()
        plain.load_state_dict({name: both.state_dict()[name] for name in plain.state_dict()})
        added_BH = plain_loop(both.periodic, scaled_BT - scaled_BT[:, -1:])
        torch.testing.assert_close(both(scaled_BT), plain(scaled_BT) + added_BH, rtol=1e-4, atol=1e-4)


def plain_loop(periodic: PeriodicMap, change_BT: Tensor) -> Tensor:
    """SparseTSF by its definition."""
    smoothing, reach = periodic.smoothing.flatten(), len(periodic.smoothing.flatten()) // 2
    rows = change_BT.shape[1]
    smooth_BT = change_BT.clone()
    for row in range(rows):
        for other in range(max(row - reach, 0), min(row + reach + 1, rows)):
            smooth_BT[:, row] += smoothing[other - row + reach] * change_BT[:, other]
    added_BH = torch.zeros(len(change_BT), periodic.pred_len)
    first = rows - periodic.periods * periodic.period
    for step in range(periodic.pred_len):
        for n in range(periodic.periods):
            row = first + n * periodic.period + step % periodic.period
            added_BH[:, step] += periodic.weight_NM[n, step // periodic.period] * smooth_BT[:, row]
    return added_BH


def test_a_period_longer_than_the_window_is_refused_with_both_numbers() -> None:
    model, window = {"shortcut": "linear", "shortcut_period": 49}, {"seq_len": 48}
    with pytest.raises(ValueError, match="shortcut_period 49 is longer than the window of 48 rows"):
        Config.model_validate({"model": model, "window": window})
    with pytest.raises(ValueError, match=r"shortcut_period 49 is of a shortcut, but model\.shortcut is none"):
        Config.model_validate({"model": model | {"shortcut": "none"}, "window": window})
