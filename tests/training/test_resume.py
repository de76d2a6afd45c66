"""What may change when a run continues, and from which file it continues."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.training.conftest import MakeConfig, train
from timellm_cli.errors import ConfigError, ModelError
from timellm_cli.settings import resolve, to_toml_values
from timellm_cli.training.checkpoint import Checkpoint, load_checkpoint
from timellm_cli.training.resume import continue_config, find_checkpoint, load_resumable


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
