"""Several processes learn what one does: gradients of every step, weights, losses, scores and bands."""

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from tests.processes.together import together
from tests.training.conftest import MakeConfig, train
from timellm_cli.config import Config
from timellm_cli.errors import ModelError
from timellm_cli.model.time_llm import PatchEmbedding
from timellm_cli.processes.group import Group, ProcessLostError
from timellm_cli.training.checkpoint import load_checkpoint
from timellm_cli.training.records import BatchHalved, EpochFinished, StepFinished
from timellm_cli.training.step import StepResult, TrainingStep

NOISE = "reprogramming.key.bias"
"""Its gradient is zero but for rounding, and Adam turns any gradient into a step."""

SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {"train__accumulate": 1, "train__batch_size": 7},
    "accumulated, clipped and averaged": {"train__accumulate": 3, "train__clip": 0.1, "train__average": True},
    "holes": {"train__accumulate": 2, "data__fill": "linear"},
}


def configure(make_config: MakeConfig, csv: Path, setting: str) -> Config:
    changes = SETTINGS[setting]
    if setting == "holes":
        lines = csv.read_text(encoding="utf-8").splitlines()
        for row in (20, 21, 50, 90, 91, 92, 300):
            lines[row] = lines[row].rsplit(",", 1)[0] + ","
        csv.write_text("\n".join(lines) + "\n", encoding="utf-8")
    steps = 20 * changes["train__accumulate"]
    return make_config(
        model__dropout=0.1, train__learning_rate=0.001, train__epochs=10, train__max_steps=steps, train__patience=0,
        llm__layers=1, **changes,
    )  # fmt: skip


def learn(group: Group | None, config: Config, folder: str, **named: Any) -> dict[str, Any]:
    """Train, and return what was learned, with the gradient of every update."""
    gradients: list[dict[str, torch.Tensor]] = []
    update = TrainingStep.update_weights

    def spy(self: TrainingStep, number: int) -> None:
        gradients.append({name: weight.grad.clone() for name, weight in self.weights.items()})
        update(self, number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingStep, "update_weights", spy)
        run = train(config, folder, group=group, **named)
    return {
        "gradients": [{name: value.numpy() for name, value in one.items()} for one in gradients],
        "weights": {name: value.numpy() for name, value in run.weights.items()},
        "losses": {record.step: record.loss for record in run.of(StepFinished)},
        "scores": [(record.val_mse, record.val_mae, record.test_mse) for record in run.of(EpochFinished)],
        "halved": [(record.during, record.samples) for record in run.of(BatchHalved)],
    }


def assert_alike(one: dict[str, Any], several: dict[str, Any]) -> None:
    assert len(one["gradients"]) == len(several["gradients"]) >= 20
    for left, right in zip(one["gradients"], several["gradients"], strict=True):
        largest = max(abs(value).max() for value in left.values())
        assert max(abs(left[name] - right[name]).max() for name in left) < 1e-6 * largest
    for name in one["weights"].keys() - {NOISE}:
        assert abs(one["weights"][name] - several["weights"][name]).max() < 1e-5, name
    assert several["losses"] == pytest.approx(one["losses"], rel=1e-5)
    assert several["scores"] == [pytest.approx(score, rel=1e-5) for score in one["scores"]]


@pytest.mark.parametrize(("size", "setting"), [(2, "plain"), (3, "accumulated, clipped and averaged"), (2, "holes")])
def test_several_processes_learn_what_one_does(
    make_config: MakeConfig, small_csv: Path, size: int, setting: str
) -> None:
    config = configure(make_config, small_csv, setting)
    one = learn(None, config, "one")
    several = together(size, learn, config, "several")
    for result in several:
        assert_alike(one, result)
    folder = config.run.directory
    alone, shared = (load_checkpoint(folder / name / "last.pt") for name in ("one", "several"))
    assert shared.training.run.step == alone.training.run.step
    if setting == "holes":
        return  # of 17 windows: which scale the bands have is a tie that rounding decides
    torch.testing.assert_close(
        torch.from_numpy(shared.intervals.halves_LCH), torch.from_numpy(alone.intervals.halves_LCH), rtol=1e-4, atol=0
    )


def test_a_run_stopped_within_an_update_by_two_processes_is_continued_by_three_and_by_one(
    make_config: MakeConfig, small_csv: Path
) -> None:
    config = configure(make_config, small_csv, "accumulated, clipped and averaged")
    whole = learn(None, config, "whole")
    first = together(2, learn, config, "parts", stop_at=4)
    assert list(first[0]["losses"]) == list(first[1]["losses"])
    stopped = len(first[0]["losses"])
    assert stopped % 3  # inside of an update
    last = config.run.directory / "parts" / "last.pt"
    for size in (3, 1):
        rest = together(size, learn, config, f"rest-{size}", resume=last)
        losses = first[0]["losses"] | rest[0]["losses"]
        assert len(rest[0]["losses"]) == 60 - stopped
        assert losses == pytest.approx(whole["losses"], rel=1e-5)


def learn_short_of_memory(group: Group, config: Config) -> dict[str, Any]:
    """As `learn`; the second process has memory for one sample at a time."""
    forward = PatchEmbedding.forward

    def limited(self: PatchEmbedding, patches_BPL: torch.Tensor, key_B: torch.Tensor | None = None) -> torch.Tensor:
        if group.place.rank == 1 and self.training and len(patches_BPL) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(self, patches_BPL, key_B)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PatchEmbedding, "forward", limited)
        return learn(group, config, "short")


def test_a_process_short_of_memory_halves_its_own_part(make_config: MakeConfig, small_csv: Path) -> None:
    config = configure(make_config, small_csv, "plain")
    one = learn(None, config, "one")
    short = together(2, learn_short_of_memory, config)
    assert_alike(one, short[0])
    assert short[0]["halved"] == [("step", 1)]


def learn_until_one_is_lost(group: Group, config: Config, how: str) -> object:
    """As `learn`; in step 9 the second process ends, or stops and never answers again."""
    start, pids = TrainingStep.start, [int(text) for text in group.texts(str(os.getpid()))]

    def losing(self: TrainingStep, *arguments: Any, **named: Any) -> object:
        if named["step"] == 8 and group.place.rank == 1:
            if how == "ends":
                os._exit(1)
            os.kill(os.getpid(), signal.SIGSTOP)
        elif named["step"] == 8:  # from now on there is nobody to wait for
            dist.distributed_c10d._set_pg_timeout(timedelta(seconds=3), dist.group.WORLD)
        return start(self, *arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingStep, "start", losing)
        try:
            return learn(group, config, "lost")
        finally:
            with suppress(ProcessLookupError):
                os.kill(pids[1], signal.SIGKILL)


@pytest.mark.parametrize("how", ["ends", "hangs"])
def test_after_the_loss_of_a_process_the_last_update_is_saved_and_continued(
    make_config: MakeConfig, small_csv: Path, how: str
) -> None:
    config = configure(make_config, small_csv, "accumulated, clipped and averaged")
    config = config.with_values({"train.max_steps": 18})
    whole = learn(None, config, "whole")
    message, gone = together(2, learn_until_one_is_lost, config, how)
    assert gone == "gone"
    assert "one of the 2 processes has ended or does not answer" in message
    last = config.run.directory / "lost" / "last.pt"
    assert f"everything up to step 6 is saved in '{last}'" in message
    rest = learn(None, config, "rest", resume=last)
    assert rest["losses"] == pytest.approx({step: whole["losses"][step] for step in range(7, 19)}, rel=1e-5)


class Waits:
    """An event of a GPU that waits for ever."""

    def query(self) -> bool:
        return False


def learn_on_a_gpu_that_waits(config: Config, first: int) -> object:
    """As `learn`, one step ahead as on a GPU, which waits in step `first` for a process that is gone."""
    start, update = TrainingStep.start, TrainingStep.update_weights
    begun: list[int] = []

    def starting(self: TrainingStep, *arguments: Any, **named: Any) -> StepResult:
        begun.append(named["step"] + 1)
        result = start(self, *arguments, **named)
        return replace(result, done=Waits()) if begun[-1] >= first else result

    def updating(self: TrainingStep, number: int) -> None:
        if begun[-1] < first:
            update(self, number)

    def waiting(self: Group, event: Waits) -> None:
        raise ProcessLostError("process 1 was ended by SIGKILL")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingStep, "start", starting)
        patch.setattr(TrainingStep, "update_weights", updating)
        patch.setattr(Group, "wait_for", waiting)
        patch.setattr("timellm_cli.training.loader.prefetch", iter)  # which pins memory for a GPU
        patch.setattr(TrainingStep, "__init__", run_ahead(TrainingStep.__init__))
        with pytest.raises(ModelError) as raised:
            train(config, "waiting")
    return raised.value.message, begun


def run_ahead(initialise: Callable[..., None]) -> Callable[..., None]:
    def with_a_gpu(self: TrainingStep, *arguments: Any, **named: Any) -> None:
        initialise(self, *arguments, **named)
        self.runs_ahead = True

    return with_a_gpu


@pytest.mark.parametrize(("first", "saved"), [(7, 6), (8, 6), (10, 9)])
def test_while_a_gpu_waits_for_a_lost_process_the_last_update_that_it_made_is_saved(
    make_config: MakeConfig, small_csv: Path, first: int, saved: int
) -> None:
    config = configure(make_config, small_csv, "accumulated, clipped and averaged")
    config = config.with_values({"train.max_steps": 18})
    whole = learn(None, config, "whole")
    message, begun = learn_on_a_gpu_that_waits(config, first)
    assert begun[-1] == first + 1
    last = config.run.directory / "waiting" / "last.pt"
    assert f"process 1 was ended by SIGKILL); everything up to step {saved} is saved in '{last}'" in message
    state = load_checkpoint(last).training.run
    assert state.epoch_loss == pytest.approx(sum(whole["losses"][step] for step in range(1, saved + 1)), rel=1e-6)
    rest = learn(None, config, "rest", resume=last)
    assert rest["losses"] == pytest.approx({step: whole["losses"][step] for step in range(saved + 1, 19)}, rel=1e-6)
