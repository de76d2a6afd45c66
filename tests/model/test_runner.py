"""Running the model on windows: pieces when out of memory, short batches, recordings, switches, rolling forward."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor
from transformers import AutoModel

from tests.conftest import write_byte_tokenizer
from tests.model.llm.test_transformers_llm import FAMILIES
from tests.untrained import CPU, histories, make_config, small_runner
from timellm_cli.data.batch import Batch, PromptTokens
from timellm_cli.data.scale import Scaler
from timellm_cli.errors import ModelError
from timellm_cli.model.cuda_graphs import Captured, Function, Recording
from timellm_cli.model.load import load_model
from timellm_cli.model.runner import ModelCall, Runner, gpu_memory_errors, is_out_of_memory


def batch_of(count: int) -> Batch:
    history_BT = histories(count)
    return Batch(history_BT, torch.zeros(count, 12), torch.zeros(count), torch.zeros(count))


def too_large_above(rows: int, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A function on a GPU that has memory for so many rows."""

    def run(prompt: PromptTokens, values: Tensor, *rest: Tensor) -> Tensor:
        if len(values) > rows:
            raise torch.OutOfMemoryError(f"out of memory with {len(values)} rows")
        return function(prompt, values, *rest)

    return run


@pytest.fixture
def runner() -> Runner:
    return load_model(make_config(Path("unread.csv")), CPU)


@pytest.fixture
def recorded(runner: Runner) -> Runner:
    """A runner that records, with `replays` as a stand-in for CUDA graphs."""
    runner.captures = True
    return runner


class StandIn:
    """Records as a CUDA graph does: inputs are read and the output is written at fixed addresses."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.replays = 0

    def __call__(self, function: Function, inputs: Sequence[Tensor], warm_up: Callable[..., object]) -> Recording:
        static = tuple(tensor.clone() for tensor in inputs)
        warm_up(lambda: function(*(tensor[:1] if tensor.ndim else tensor for tensor in static)))
        output = function(*static)
        self.shapes.append(tuple(static[-1].shape) if static[-1].ndim else tuple(static[-2].shape))

        def replay() -> None:
            self.replays += 1
            output.copy_(function(*static))

        return Recording(replay, static, output)


@pytest.mark.parametrize(("fits", "at_once"), [(10, None), (9, 5), (4, 3), (2, 2), (1, 1)])
def test_a_batch_that_does_not_fit_is_halved_until_it_does_and_stays_so(
    runner: Runner, fits: int, at_once: int | None
) -> None:
    retries: list[int] = []
    call = ModelCall(
        runner, too_large_above(fits, lambda _, values: values * 2), before_retry=lambda: retries.append(1)
    )
    batch = runner.encode(batch_of(10))
    for _ in range(2):
        pieces = call(batch, (batch.history_BT,))
        torch.testing.assert_close(torch.cat(pieces), batch.history_BT * 2)
        assert call.samples_at_once == at_once
    assert len(retries) == {10: 0, 9: 1, 4: 2, 2: 3, 1: 4}[fits]


def test_each_piece_gets_its_part_of_the_share(runner: Runner) -> None:
    call = ModelCall(runner, too_large_above(4, lambda _, values, share: share * torch.ones(len(values))))
    batch = runner.encode(batch_of(10))
    pieces = call(batch, (batch.history_BT,), share=0.5)
    assert [float(piece[0]) for piece in pieces] == pytest.approx([0.5 * rows / 10 for rows in (3, 3, 3, 1)])


def test_one_sample_that_does_not_fit_is_the_users_to_know(runner: Runner) -> None:
    call = ModelCall(runner, too_large_above(0, lambda _, values: values))
    batch = runner.encode(batch_of(3))
    with pytest.raises(ModelError, match="the GPU is out of memory: out of memory with 1 rows"), gpu_memory_errors():
        call(batch, (batch.history_BT,))


def test_any_other_error_passes_through_unchanged(runner: Runner) -> None:
    def broken(_: PromptTokens, values: Tensor) -> Tensor:
        raise RuntimeError("shape mismatch")

    batch = runner.encode(batch_of(3))
    with pytest.raises(RuntimeError, match="shape mismatch"), gpu_memory_errors():
        ModelCall(runner, broken)(batch, (batch.history_BT,))


def test_an_error_raised_while_handling_out_of_memory_counts_as_that() -> None:
    try:
        try:
            raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED")
        except RuntimeError:
            raise RuntimeError("capture failed")  # noqa: B904
    except RuntimeError as error:
        assert is_out_of_memory(error)
    assert not is_out_of_memory(RuntimeError("capture failed"))


class TestRecordings:
    """The bookkeeping of `Captured`, with a stand-in for the CUDA graph."""

    def test_a_shape_is_recorded_once_and_replayed_with_new_values(self) -> None:
        graph = StandIn()
        doubled = Captured(lambda values: values * 2, record=graph)
        for value in (1.0, 2.0, 3.0):
            assert doubled("key", [torch.full((4,), value)]).tolist() == [2 * value] * 4
        assert (graph.shapes, graph.replays) == ([(4,)], 3)

    def test_another_key_shape_or_dtype_is_another_recording(self) -> None:
        graph = StandIn()
        doubled = Captured(lambda values: values * 2, record=graph)
        for key, values in (
            ("a", torch.ones(4)),
            ("b", torch.ones(4)),
            ("a", torch.ones(5)),
            ("a", torch.ones(4).int()),
        ):
            doubled(key, [values])
        assert len(graph.shapes) == 4

    def test_what_is_forgotten_is_recorded_again(self) -> None:
        graph = StandIn()
        doubled = Captured(lambda values: values * 2, record=graph)
        doubled("a", [torch.ones(4)])
        doubled.forget()
        assert doubled("a", [torch.ones(4)]).tolist() == [2.0] * 4
        assert len(graph.shapes) == 2

    def test_the_warm_up_runs_on_one_sample_before_the_recording(self) -> None:
        rows: list[int] = []

        def function(values: Tensor) -> Tensor:
            rows.append(len(values))
            return values

        Captured(function, record=StandIn())("a", [torch.ones(4)])
        assert rows == [1, 4, 4]

    def test_a_short_batch_is_filled_up_so_that_one_recording_serves_all(self, recorded: Runner) -> None:
        graph = StandIn()
        call = ModelCall(recorded, lambda _, values: values * 2, fill_short_batches=True, record=graph)
        for rows in (4, 2, 4, 3):
            batch = recorded.encode(batch_of(rows))
            (output,) = call(batch, (batch.history_BT,))
            torch.testing.assert_close(output, batch.history_BT * 2)
        assert graph.shapes == [(4, 48)]

    def test_pieces_of_a_halved_batch_do_not_overwrite_each_other(self, recorded: Runner) -> None:
        graph = StandIn()
        call = ModelCall(
            recorded, too_large_above(3, lambda _, values: values * 2), fill_short_batches=True, record=graph
        )
        batch = recorded.encode(batch_of(10))
        torch.testing.assert_close(torch.cat(call(batch, (batch.history_BT,))), batch.history_BT * 2)
        assert set(graph.shapes) == {(3, 48)}

    def test_one_sample_that_cannot_be_recorded_is_launched(self, recorded: Runner) -> None:
        def no_memory_to_record(*_: object) -> Recording:
            raise torch.OutOfMemoryError("out of memory")

        call = ModelCall(recorded, lambda _, values: values * 2, record=no_memory_to_record)
        batch = recorded.encode(batch_of(2))
        torch.testing.assert_close(torch.cat(call(batch, (batch.history_BT,))), batch.history_BT * 2)


def test_rolling_forward_reads_its_own_forecasts(tiny_llm: Path) -> None:
    runner = small_runner(tiny_llm)
    history_TC = histories(2).T.double().numpy()
    long_HC = runner.roll_forward(history_TC, 30)
    first_HC = runner.roll_forward(history_TC, 12)
    second_HC = runner.roll_forward(np.concatenate([history_TC, first_HC]), 12)
    np.testing.assert_allclose(long_HC[:24], np.concatenate([first_HC, second_HC]), atol=1e-6)
    assert long_HC.shape == (30, 2)
    np.testing.assert_allclose(runner.roll_forward(history_TC, 12, batch_size=1), first_HC, atol=1e-6)


@pytest.fixture(scope="module")
def llama64(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama whose rows are whole blocks of NF4."""
    folder = tmp_path_factory.mktemp("llama64")
    torch.manual_seed(3)
    AutoModel.from_config(FAMILIES["llama"]).save_pretrained(folder)
    write_byte_tokenizer(folder)
    return folder


SWITCHES = {
    "hardware.capture": "off",
    "hardware.kernels": "torch",
    "hardware.keep_prefix": False,
    "hardware.prepared": False,
    "llm.implementation": "transformers",
}


@pytest.mark.parametrize("off", [*SWITCHES, "all of them (--plain)"])
@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_forecasts_and_gradients_are_the_same_with_each_switch_off(llama64: Path, off: str, quantization: str) -> None:
    """So a bug report can be bisected. Scales stay unquantised, as these are grouped by matrix, and ours are fused."""
    config = make_config(Path("unread.csv"), llama64, llm__quantization=quantization, llm__double_quant=False)
    switched = config.with_values(SWITCHES if off not in SWITCHES else {off: SWITCHES[off]})
    results = []
    for one in (config, config, switched):  # the second reads what the first has prepared
        torch.manual_seed(0)
        runner = load_model(one, CPU)
        batch = runner.encode(batch_of(5))
        forecast_BH = runner.model.eval()(batch.history_BT, batch.prompt)
        forecast_BH.square().mean().backward()
        results.append((forecast_BH.detach(), runner.model.reprogramming.query.weight.grad))
    assert torch.equal(results[0][0], results[1][0])
    torch.testing.assert_close(results[2], results[0], rtol=1e-4, atol=2e-5)


torch.set_num_threads(1)
RNG = np.random.default_rng(5)


@pytest.fixture(scope="module", params=["none", "tiny"])
def forecaster(request: pytest.FixtureRequest, tiny_llm: Path) -> Runner:
    """seq_len 48, pred_len 12."""
    torch.manual_seed(3)
    return load_model(make_config(Path("unused.csv"), "none" if request.param == "none" else tiny_llm), CPU)


def history(channels: int = 3, rows: int = 60) -> np.ndarray:
    daily = np.sin(np.arange(rows) / 4)[:, None]
    return daily + 0.3 * RNG.normal(size=(rows, channels))


def test_fewer_steps_cut_the_forecast(forecaster: Runner) -> None:
    known = history()
    whole = forecaster.roll_forward(known, 12)
    assert whole.shape == (12, 3)
    assert np.array_equal(forecaster.roll_forward(known, 5), whole[:5])


def test_more_steps_feed_the_forecast_back(forecaster: Runner) -> None:
    known = history()
    expected = known
    for _ in range(3):
        expected = np.concatenate([expected, forecaster.roll_forward(expected, 12)])
    assert forecaster.roll_forward(known, 30) == pytest.approx(expected[60:90], abs=1e-6)


def test_only_the_last_seq_len_rows_count(forecaster: Runner) -> None:
    known = history()
    changed = known.copy()
    changed[:12] += 100
    assert np.array_equal(forecaster.roll_forward(known, 12), forecaster.roll_forward(changed, 12))


def test_a_channels_forecast_does_not_depend_on_the_others(forecaster: Runner) -> None:
    known = history(channels=40)
    together = forecaster.roll_forward(known, 12)
    for channel in (0, 17, 39):
        alone = forecaster.roll_forward(known[:, [channel]], 12)
        assert alone[:, 0] == pytest.approx(together[:, channel], abs=1e-5)


@pytest.mark.parametrize(("factor", "shift"), [(4.0, 0.0), (1.0, 250.0), (-2.0, 30.0), (0.5, -7.0)])
def test_scaling_and_shifting_a_series_does_the_same_to_its_forecast(factor: float, shift: float) -> None:
    """Without the LLM: there the trained part alone reads the window. A mirrored window is another window to it."""
    torch.manual_seed(3)
    forecaster = load_model(make_config(Path("unused.csv")), CPU)
    raw = 10 + 5 * history()
    scaler = Scaler.fit(pl.DataFrame(raw))

    def forecast(values: np.ndarray) -> np.ndarray:
        return scaler.restore(forecaster.roll_forward(scaler.standardise(values), 24))

    changed, plain = forecast(factor * raw + shift), factor * forecast(raw) + shift
    agree = np.abs(changed - plain).max() <= 1e-3 * abs(factor) * scaler.std_C.max()
    assert agree == (factor > 0)


def test_the_prompt_reads_the_normalised_window_so_scale_does_not_reach_it(tiny_llm: Path) -> None:
    torch.manual_seed(3)
    forecaster = load_model(make_config(Path("unused.csv"), tiny_llm), CPU)
    known = history()
    plain, changed = forecaster.roll_forward(known, 12), forecaster.roll_forward(4 * known + 2, 12)
    assert changed == pytest.approx(4 * plain + 2, abs=2e-2)


def test_dropout_is_off(forecaster: Runner) -> None:
    known = history()
    forecaster.model.train()
    assert np.array_equal(forecaster.roll_forward(known, 12), forecaster.roll_forward(known, 12))
    assert not forecaster.model.training


def test_each_model_computes_in_its_own_precision_whatever_ran_before() -> None:
    """TF32 is a setting of the whole process: without this, the order of the checkpoints would change their figures."""
    coarse, exact = (load_model(make_config(Path("unread.csv")), CPU) for _ in range(2))
    coarse.matmul_precision, exact.matmul_precision = "high", "highest"
    seen: list[str] = []
    for one in (coarse, exact):
        one.model.register_forward_pre_hook(lambda *_: seen.append(torch.get_float32_matmul_precision()))
    before = torch.get_float32_matmul_precision()
    try:
        for one in (coarse, exact, coarse, exact):
            one(batch_of(2))
    finally:
        torch.set_float32_matmul_precision(before)
    assert seen == ["high", "highest", "high", "highest"]
