"""Recorded steps do what launched ones do: the same losses, weights and forecasts, in every setting."""

from pathlib import Path

import pytest
import torch

from tests.gpu import needs_gpu
from tests.training.conftest import Fail, MakeConfig, Run, train
from timellm_cli.config import Config
from timellm_cli.model.cuda_graphs import Captured
from timellm_cli.training.records import BatchHalved, EpochFinished, RunInterrupted, StepFinished, StepLogged

pytestmark = needs_gpu

SETTINGS = {
    "plain": {},
    "accumulated and clipped": {"train__accumulate": 3, "train__clip": 0.5},
    "bf16, NF4": {"train__precision": "bf16", "llm__quantization": "nf4"},
    "fp16 with its scaler": {"train__precision": "fp16"},
    "8-bit Adam, int8": {"train__optimizer": "adamw8bit", "train__precision": "bf16", "llm__quantization": "int8"},
    "shortcut, window units": {
        "model__shortcut": "linear",
        "model__shortcut_period": 5,
        "train__loss_units": "window",
    },
    "averaged": {"train__average": True},
    "recomputed": {"hardware__recompute": "on"},
}


def configure(make_config: MakeConfig, llm: Path, capture: str, **changes: object) -> Config:
    settings = {"train__precision": "fp32", "hardware__recompute": "off", "llm__quantization": "none"} | changes
    return make_config(
        llm__name=str(llm),
        llm__layers=2,
        hardware__device="cuda",
        hardware__capture=capture,
        run__log_steps=1,
        **settings,
    )


def losses(run: Run) -> list[float]:
    return [record.loss for record in run.of(StepLogged)] + [record.val_mse for record in run.of(EpochFinished)]


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_recorded_run_is_the_launched_one(make_config: MakeConfig, tiny_llm: Path, setting: str) -> None:
    launched = train(configure(make_config, tiny_llm, "off", **SETTINGS[setting]), "launched")
    recorded = train(configure(make_config, tiny_llm, "on", **SETTINGS[setting]), "recorded")
    assert len(losses(launched)) > 10
    tolerance = 1e-4 if SETTINGS[setting].get("train__precision", "fp32") == "fp32" else 1e-2
    assert losses(recorded) == pytest.approx(losses(launched), rel=tolerance)


@pytest.mark.parametrize("capture", ["on", "off"])
def test_a_resumed_run_continues_as_the_undisturbed_one(make_config: MakeConfig, tiny_llm: Path, capture: str) -> None:
    config = configure(make_config, tiny_llm, capture)
    whole = train(config, "whole")
    first = train(config, "parts", stop_at=6)  # one more is under way by then: inside an update of three steps
    rest = train(config, "parts", resume=first.directory.last)
    parts = {record.step: record.loss for record in first.of(StepFinished) + rest.of(StepFinished)}
    assert first.records[-1] == RunInterrupted(7, first.directory.last)
    assert parts == pytest.approx({record.step: record.loss for record in whole.of(StepFinished)}, rel=1e-3)


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("batch_size", [8, 7])  # the halves of 7 are recorded apart
def test_a_recording_that_runs_out_of_memory_is_made_of_halves(
    make_config: MakeConfig, tiny_llm: Path, shrink: Fail, accumulate: int, batch_size: int
) -> None:
    changes = {"model__dropout": 0.0, "train__accumulate": accumulate, "train__batch_size": batch_size}
    undisturbed = train(configure(make_config, tiny_llm, "on", **changes), "undisturbed")
    shrink(4, after=1)  # the first call is the warm-up on one sample, the second one is recorded
    disturbed = train(configure(make_config, tiny_llm, "on", **changes), "disturbed")
    assert [(record.during, record.samples) for record in disturbed.of(BatchHalved)] == [("step", 4)]
    assert losses(disturbed) == pytest.approx(losses(undisturbed), rel=1e-3)


def test_scoring_records_smaller_batches_when_out_of_memory(
    make_config: MakeConfig, tiny_llm: Path, shrink: Fail
) -> None:
    undisturbed = train(configure(make_config, tiny_llm, "on"), "undisturbed")
    shrink(20, in_scoring=True)
    disturbed = train(configure(make_config, tiny_llm, "on"), "disturbed")
    assert [(record.during, record.samples) for record in disturbed.of(BatchHalved)] == [("scoring", 16)]
    assert losses(disturbed) == pytest.approx(losses(undisturbed), rel=1e-3)


def test_every_shape_has_a_recording_and_every_call_its_own_output() -> None:
    calls: list[int] = []

    def double(values: torch.Tensor) -> torch.Tensor:
        calls.append(len(values))
        return 2 * values

    captured = Captured(double)
    for length in (3, 5, 3, 5):
        values = torch.randn(length)
        assert torch.equal(captured("key", [values]).cpu(), 2 * values)
    captured("another key", [values])
    assert calls == [1, 3, 1, 5, 1, 5]  # warmed up on one sample and recorded, once for each shape and key


@pytest.mark.parametrize("loss_units", ["standardised", "window"])
def test_a_recorded_run_on_a_table_with_holes_is_the_launched_one(
    make_config: MakeConfig, tiny_llm: Path, small_csv: Path, loss_units: str
) -> None:
    lines = small_csv.read_text(encoding="utf-8").splitlines()
    for row in (20, 21, 50, 90, 91, 92, 300):
        lines[row] = lines[row].rsplit(",", 1)[0] + ","
    small_csv.write_text("\n".join(lines) + "\n", encoding="utf-8")
    changes = {"data__fill": "linear", "train__loss_units": loss_units}
    launched = train(configure(make_config, tiny_llm, "off", **changes), "launched")
    recorded = train(configure(make_config, tiny_llm, "on", **changes), "recorded")
    assert losses(recorded) == pytest.approx(losses(launched), rel=1e-4)
