"""A GPU out of memory: steps and scorings are repeated in halves, and nothing else changes."""

from collections.abc import Callable, Sequence
from functools import partial, partialmethod
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import write_small_csv
from tests.training.conftest import Fail, MakeConfig, Run, assert_same_weights, config_of, train
from timellm_cli.errors import ModelError
from timellm_cli.model.cuda_graphs import Function, Recording
from timellm_cli.model.runner import ModelCall, Runner, gpu_memory_errors
from timellm_cli.report.training_log import MetricsLog, read_metrics
from timellm_cli.training.records import BatchHalved, EpochFinished, StepFinished, StepLogged

PLAIN = {"model__dropout": 0.0, "run__log_steps": 1, "train__epochs": 2}


@pytest.fixture(scope="module")
def undisturbed(tiny_llm: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run that all disturbed ones are compared with."""
    folder = tmp_path_factory.mktemp("undisturbed")
    write_small_csv(folder / "small.csv")
    return train(config_of(tiny_llm, folder / "small.csv", folder, **PLAIN), "undisturbed")


def losses(run: Run) -> list[float]:
    return [record.loss for record in run.of(StepFinished)]


def assert_as_undisturbed(run: Run, undisturbed: Run) -> None:
    """The same steps, each reported once, and the same weights and scores but for rounding."""
    assert [record.step for record in run.of(StepFinished)] == [record.step for record in undisturbed.of(StepFinished)]
    assert losses(run) == pytest.approx(losses(undisturbed), rel=1e-4)
    figures = [record.test_mse for record in run.of(EpochFinished)]
    assert figures == pytest.approx([record.test_mse for record in undisturbed.of(EpochFinished)], rel=1e-4)
    for name, weight in undisturbed.weights.items():
        if not name.endswith("key.bias"):  # its gradient is zero but for rounding, which Adam makes large
            torch.testing.assert_close(run.weights[name], weight, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("after", [0, 4, 5, 6])  # at once, and at each position inside an update of three steps
@pytest.mark.parametrize("most", [4, 3, 1])
def test_a_run_that_is_short_of_memory_learns_what_an_undisturbed_one_learns(
    make_config: MakeConfig, undisturbed: Run, shrink: Fail, most: int, after: int
) -> None:
    shrink(most, after)
    run = train(make_config(**PLAIN), "disturbed")
    assert_as_undisturbed(run, undisturbed)
    halved = [(record.step, record.during, record.samples) for record in run.of(BatchHalved)]
    assert halved == [(after + 1, "step", {4: 4, 3: 2, 1: 1}[most])]


def test_odd_batches_are_cut_into_unequal_pieces(make_config: MakeConfig, shrink: Fail) -> None:
    config = make_config(train__batch_size=7, **PLAIN)
    undisturbed = train(config, "undisturbed")
    shrink(4, after=2)
    run = train(config, "disturbed")
    assert_as_undisturbed(run, undisturbed)
    assert [record.samples for record in run.of(BatchHalved)] == [4]


def test_what_was_short_of_memory_is_resumed_exactly(make_config: MakeConfig, shrink: Fail) -> None:
    shrink(4, after=3)
    whole = train(make_config(**PLAIN), "whole")
    shrink(4, after=3)
    first = train(make_config(**PLAIN), "parts", stop_at=8)
    shrink(4)
    rest = train(make_config(**PLAIN), "parts", resume=first.directory.last)
    assert losses(first) + losses(rest) == losses(whole)
    assert_same_weights(rest.weights, whole.weights)
    assert [record.step for record in rest.of(BatchHalved)] == [9]  # the whole batch is tried anew


def test_scoring_continues_with_fewer_windows_and_the_same_figures(
    make_config: MakeConfig, undisturbed: Run, shrink: Fail
) -> None:
    shrink(20, in_scoring=True)
    run = train(make_config(**PLAIN), "disturbed")
    halved = [(record.step, record.during, record.samples) for record in run.of(BatchHalved)]
    assert halved == [(11, "scoring", 16)]
    assert_same_weights(run.weights, undisturbed.weights)
    assert [record.val_mse for record in run.of(EpochFinished)] == pytest.approx(
        [record.val_mse for record in undisturbed.of(EpochFinished)], rel=1e-6
    )


def test_what_cannot_be_recorded_even_for_one_sample_is_launched(
    make_config: MakeConfig, undisturbed: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def no_memory_to_record(function: object, inputs: Sequence[torch.Tensor], warm_up: object) -> Recording:
        sizes.append(len(inputs[0]))
        raise torch.OutOfMemoryError("CUDA out of memory.")

    make_call = ModelCall.__init__
    monkeypatch.setattr(ModelCall, "__init__", partialmethod(make_call, record=no_memory_to_record))
    monkeypatch.setattr("timellm_cli.model.load.Runner", partial(_captured, Runner))
    run = train(make_config(**PLAIN), "disturbed")
    assert sizes == [8, 4, 2, 1, 32, 16, 8, 4, 2, 1]
    assert_as_undisturbed(run, undisturbed)
    halved = [(record.step, record.during, record.samples) for record in run.of(BatchHalved)]
    assert halved == [(1, "step", 1), (11, "scoring", 1)]


def test_a_piece_that_is_recorded_keeps_the_gradients_of_the_pieces_before_it(
    make_config: MakeConfig, shrink: Fail, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch of 7 becomes 4 and 3 samples, which are two recordings; each is warmed up with a step of its own."""
    config = make_config(train__batch_size=7, **PLAIN)
    undisturbed = train(config, "undisturbed")

    def record(function: Function, inputs: Sequence[torch.Tensor], warm_up: Callable[..., object]) -> Recording:
        static = tuple(tensor.clone() for tensor in inputs)
        warm_up(lambda: function(*(tensor[:1] if tensor.ndim else tensor for tensor in static)))
        output = torch.zeros(1 + len(static[0])) if static[-1].ndim == 0 else torch.zeros(len(static[0]), 12)
        return Recording(lambda: output.copy_(function(*static)), static, output)

    monkeypatch.setattr("torch.cuda.get_rng_state", lambda device: torch.get_rng_state())
    monkeypatch.setattr("torch.cuda.set_rng_state", lambda state, device: torch.set_rng_state(state))
    monkeypatch.setattr(ModelCall, "__init__", partialmethod(ModelCall.__init__, record=record))
    monkeypatch.setattr("timellm_cli.model.load.Runner", partial(_captured, Runner))
    shrink(4, after=1)
    run = train(config, "disturbed")
    assert_as_undisturbed(run, undisturbed)
    assert [(record.step, record.during, record.samples) for record in run.of(BatchHalved)] == [(1, "step", 4)]


def _captured(kind: type[Runner], *arguments: Any, **named: Any) -> Runner:
    return kind(*arguments, **{**named, "captures": True})


def test_a_card_too_small_for_one_sample_ends_the_run_with_a_clear_error(make_config: MakeConfig, shrink: Fail) -> None:
    shrink(0)
    with pytest.raises(ModelError, match="the GPU is out of memory: CUDA out of memory"), gpu_memory_errors():
        train(make_config(**PLAIN))


def test_the_metrics_hold_the_shortage_and_each_step_once(make_config: MakeConfig, shrink: Fail) -> None:
    shrink(4, after=3)
    run = train(make_config(train__max_steps=11, **PLAIN))
    log = MetricsLog(run.directory.metrics)
    for record in run.records:
        log.write(record)
    lines = read_metrics(run.directory.metrics)
    short = [line for line in lines if line["event"] == "memory_short"]
    assert short == [{"event": "memory_short", "step": 4, "during": "step", "samples": 4}]
    assert [line["step"] for line in lines if line["event"] == "step"] == list(range(1, 12))
    assert len(run.of(StepLogged)) == 11
