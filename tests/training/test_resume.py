"""What may change when a run continues, from which file it does, and that it ends as if never stopped."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import write_small_csv
from tests.training.conftest import MakeConfig, Run, assert_same_weights, config_of, train
from timellm_cli.data.batch import Batch
from timellm_cli.errors import ConfigError, ModelError
from timellm_cli.settings import resolve, to_toml_values
from timellm_cli.training.checkpoint import Checkpoint, load_checkpoint
from timellm_cli.training.records import EpochFinished, RunFinished, RunInterrupted, StepFinished, StepLogged
from timellm_cli.training.resume import continue_config, find_checkpoint, load_resumable
from timellm_cli.training.step import StepResult, TrainingStep


@pytest.fixture
def last(make_config: MakeConfig) -> Path:
    """The last checkpoint of a run of two epochs under a schedule that does not depend on the length."""
    return train(make_config(train__epochs=2, train__schedule="type1")).directory.last


def continued(path: Path, **flags: object) -> object:
    """The configuration with which a run continues under these flags."""
    settings = resolve(flags={key.replace("__", "."): value for key, value in flags.items()})
    return continue_config(settings, load_checkpoint(path), path)


def test_without_flags_everything_stays_as_it_was(last: Path) -> None:
    assert continued(last) == load_checkpoint(last).config


def test_the_same_configuration_file_changes_nothing(last: Path, tmp_path: Path) -> None:
    import tomli_w

    checkpoint = load_checkpoint(last)
    file = tmp_path / "config.toml"
    file.write_text(tomli_w.dumps(to_toml_values(checkpoint.config)), encoding="utf-8")
    assert continue_config(resolve(config_file=file), checkpoint, last) == checkpoint.config


def test_every_differing_key_is_named_with_both_values(last: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        continued(
            last, window__seq_len="96", model__d_model="8", data__features="S", train__batch_size="4", llm__layers="1"
        )
    assert caught.value.message.splitlines()[1:] == [
        "  - data.features: 'M' in the checkpoint, 'S' now",
        "  - window.seq_len: 48 in the checkpoint, 96 now",
        "  - llm.layers: 2 in the checkpoint, 1 now",
        "  - train.batch_size: 8 in the checkpoint, 4 now",
    ]


def test_what_makes_no_other_run_may_change(last: Path) -> None:
    config = continued(
        last, train__workers="2", train__patience="9", run__save_steps="7", run__log_steps="1", train__epochs="5"
    )
    assert (config.train.workers, config.train.patience, config.train.epochs) == (2, 9, 5)
    assert (config.run.save_steps, config.run.log_steps) == (7, 1)


def test_auto_means_what_it_meant_when_the_run_began(last: Path) -> None:
    config = continued(last, llm__quantization="auto", train__precision="auto")
    assert (config.llm.quantization, config.train.precision) == ("none", "fp32")


def test_what_accumulate_is_beside_an_automatic_batch_does_not_matter(last: Path) -> None:
    assert continued(last, train__batch_size="auto", train__accumulate="1") == load_checkpoint(last).config


def test_capture_and_recompute_belong_to_the_machine(last: Path) -> None:
    saved = load_checkpoint(last)
    resolved = replace(saved, config=saved.config.with_values({"hardware.capture": "on", "hardware.recompute": "on"}))
    again, off = (continue_config(resolve(flags=flags), resolved, last) for flags in ({}, {"hardware.capture": "off"}))
    assert (again.hardware.capture, again.hardware.recompute) == ("auto", "auto")
    assert (off.hardware.capture, off.hardware.recompute) == ("off", "auto")


@pytest.mark.parametrize("schedule", ["onecycle", "cosine"])
def test_a_schedule_made_for_a_length_forbids_another(make_config: MakeConfig, schedule: str) -> None:
    stopped = train(make_config(train__schedule=schedule), stop_at=3)
    assert continued(stopped.directory.last, train__epochs="3").train.epochs == 3
    with pytest.raises(ConfigError, match=f"the {schedule} schedule was made for 3 epochs"):
        continued(stopped.directory.last, train__epochs="4")
    with pytest.raises(ConfigError, match=r"train\.max_steps cannot change"):
        continued(stopped.directory.last, train__max_steps="20")


def test_a_run_cannot_become_shorter_than_it_is(last: Path) -> None:
    with pytest.raises(ConfigError, match=r"has 2 whole epochs and 22 steps already, more than train\.epochs 1"):
        continued(last, train__epochs="1")
    with pytest.raises(ConfigError, match=r"and train\.max_steps 5 allow"):
        continued(last, train__max_steps="5")


def test_a_resumed_run_stays_in_its_folder(last: Path) -> None:
    with pytest.raises(ConfigError, match=r"stays in its folder .* run\.name say"):
        continued(last, run__name="elsewhere")
    assert continued(last, run__name="run", run__directory=str(last.parent.parent)).run.name == "run"


def test_a_path_a_folder_and_auto_find_the_newest_state(last: Path, make_config: MakeConfig) -> None:
    assert find_checkpoint(str(last), make_config()) == last
    assert find_checkpoint(str(last.parent), make_config()) == last
    assert find_checkpoint("auto", make_config()) == last
    assert find_checkpoint("auto", make_config(run__name="other")) is None


def test_a_folder_without_checkpoints_is_a_clear_error(tmp_path: Path, make_config: MakeConfig) -> None:
    with pytest.raises(ModelError, match="holds no checkpoint to continue from"):
        find_checkpoint(str(tmp_path), make_config())


def test_weights_alone_cannot_be_resumed(last: Path) -> None:
    assert isinstance(load_resumable(last), Checkpoint)
    with pytest.raises(ModelError, match="holds weights only") as caught:
        load_resumable(last.with_name("best.pt"))
    assert str(last) in caught.value.hint


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

    def spy(self: TrainingStep, batch: Batch, update: int, share: float, completes: bool, **named: Any) -> StepResult:
        parts.append((share, completes))
        return launch(self, batch, update, share, completes=completes, **named)

    monkeypatch.setattr(TrainingStep, "start", spy)
    third = pytest.approx(1 / 3)
    whole = [(third, False), (third, False), (third, True)]
    ended = train(make_config(train__max_steps=4, train__schedule="constant"), "run")
    assert parts == [*whole, (1, True)]
    parts.clear()
    train(make_config(train__max_steps=10, train__schedule="constant"), "run", resume=ended.directory.last)
    assert parts == whole * 2
