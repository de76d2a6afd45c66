"""A run that was stopped anywhere and resumed ends as if it had never stopped."""

from pathlib import Path

import pytest

from tests.conftest import write_small_csv
from tests.training.conftest import MakeConfig, Run, assert_same_weights, config_of, train
from timellm_cli.data.batch import Batch
from timellm_cli.training.checkpoint import load_checkpoint
from timellm_cli.training.records import EpochFinished, RunFinished, RunInterrupted, StepFinished, StepLogged
from timellm_cli.training.step import StepResult, TrainingStep


def figures(run: Run) -> dict[int, tuple[float, float, float]]:
    """The scores of each epoch of a run."""
    return {record.epoch: (record.train_loss, record.val_loss, record.test_mae) for record in run.of(EpochFinished)}


@pytest.fixture(scope="module")
def undisturbed(tiny_llm: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run that all stopped ones are compared with."""
    folder = tmp_path_factory.mktemp("undisturbed")
    write_small_csv(folder / "small.csv")
    run = train(config_of(tiny_llm, folder / "small.csv", folder), "undisturbed")
    assert [record.step for record in run.of(StepFinished)] == list(range(1, 34))
    return run


@pytest.mark.parametrize("stop", [4, 6, 11])
def test_an_average_of_the_weights_goes_on_as_if_never_stopped(make_config: MakeConfig, stop: int) -> None:
    config = make_config(train__average=True)
    whole = train(config, "whole")
    stopped = train(config, "stopped", stop_at=stop)
    resumed = train(config, "stopped", resume=stopped.directory.last)
    assert_same_weights(resumed.weights, whole.weights)
    assert figures(stopped) | figures(resumed) == figures(whole)
    best = [load_checkpoint(run.directory.best).weights for run in (whole, resumed)]
    assert_same_weights(*best)


def test_a_run_stopped_at_any_kind_of_step_ends_with_the_same_bits(make_config: MakeConfig, undisturbed: Run) -> None:
    # 4: an accumulation has begun; 6: one has just ended; 11: the end of an epoch
    for stop in (1, 4, 6, 11, 32):
        stopped = train(make_config(), f"stopped-{stop}", stop_at=stop)
        ending = stopped.records[-1]
        assert isinstance(ending, RunInterrupted)
        assert ending.step == stop
        resumed = train(make_config(), f"stopped-{stop}", resume=stopped.directory.last)
        assert isinstance(resumed.records[-1], RunFinished)
        assert_same_weights(resumed.weights, undisturbed.weights)
        losses = {record.step: record.loss for record in stopped.of(StepFinished) + resumed.of(StepFinished)}
        assert losses == {record.step: record.loss for record in undisturbed.of(StepFinished)}
        logged = {record.step: record.loss for record in stopped.of(StepLogged) + resumed.of(StepLogged)}
        assert logged == {record.step: record.loss for record in undisturbed.of(StepLogged)}
        assert figures(stopped) | figures(resumed) == figures(undisturbed)


def test_a_run_stopped_while_scoring_scores_the_epoch_again(make_config: MakeConfig, undisturbed: Run) -> None:
    stopped = train(make_config(), "stopped", stop_in_scoring=True)
    assert stopped.records[-1] == RunInterrupted(11, stopped.directory.last)
    assert not stopped.of(EpochFinished)
    resumed = train(make_config(), "stopped", resume=stopped.directory.last)
    assert [record.epoch for record in resumed.of(EpochFinished)] == [1, 2, 3]
    assert_same_weights(resumed.weights, undisturbed.weights)


@pytest.mark.parametrize(("before", "after"), [(0, 2), (2, 1)])
def test_loader_workers_and_the_save_interval_change_no_bit(
    make_config: MakeConfig, undisturbed: Run, before: int, after: int
) -> None:
    stopped = train(make_config(train__workers=before), "stopped", stop_at=14)
    resumed = train(make_config(train__workers=after, run__save_steps=5), "stopped", resume=stopped.directory.last)
    assert_same_weights(resumed.weights, undisturbed.weights)
    assert [number for number, _ in resumed.directory.step_checkpoints()] == [20, 25, 30]


def test_a_step_checkpoint_continues_to_the_same_bits(make_config: MakeConfig, undisturbed: Run) -> None:
    run = train(make_config(run__save_steps=8), "saved")
    again = train(make_config(run__save_steps=8), "again", resume=run.directory.step(16))
    assert_same_weights(again.weights, undisturbed.weights)


def test_the_same_seed_gives_the_same_weights_and_another_one_others(make_config: MakeConfig, undisturbed: Run) -> None:
    again = train(make_config(), "again")
    assert_same_weights(again.weights, undisturbed.weights)
    assert figures(again) == figures(undisturbed)
    other = train(make_config(train__seed=1), "other")
    assert figures(other) != figures(undisturbed)


def test_a_run_that_ended_amid_an_accumulation_begins_a_new_one_where_it_is_prolonged(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three steps an update: the first run takes one and, cut off by its end, one of a single step."""
    parts: list[tuple[float, bool]] = []
    launch = TrainingStep.start

    def spy(self: TrainingStep, batch: Batch, update: int, share: float, completes: bool) -> StepResult:
        parts.append((share, completes))
        return launch(self, batch, update, share, completes)

    monkeypatch.setattr(TrainingStep, "start", spy)
    third = pytest.approx(1 / 3)
    whole = [(third, False), (third, False), (third, True)]
    ended = train(make_config(train__max_steps=4, train__schedule="constant"), "run")
    assert parts == [*whole, (1, True)]
    parts.clear()
    train(make_config(train__max_steps=10, train__schedule="constant"), "run", resume=ended.directory.last)
    assert parts == whole * 2
