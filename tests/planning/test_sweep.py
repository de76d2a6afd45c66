"""A sweep names its key as people do, and plans each value."""

from dataclasses import replace

import pytest

from timellm_cli.config import Config
from timellm_cli.errors import ConfigError
from timellm_cli.planning.hardware import Machine
from timellm_cli.planning.plan import Plan, make_plan, parse_sweep, plan_swept
from timellm_cli.units import GIB

CPU_ONLY = Machine(gpu=None, ram_free=12 * GIB, torch_has_cuda=False)


def plan(config: Config) -> Plan:
    return make_plan(config, CPU_ONLY, from_file=False)


@pytest.mark.parametrize("name", ["batch_size", "train.batch_size", "batch-size", "--batch-size"])
def test_a_key_is_found_by_its_own_name(name: str) -> None:
    assert parse_sweep(f"{name}=4, 8,16") == ("train.batch_size", ["4", "8", "16"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batch_size", "no values"),
        ("batch_size=", "no values"),
        ("name=a,b", "several sections"),
        ("batchsize=4", "did you mean 'batch_size'"),
    ],
)
def test_what_is_no_sweep_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_sweep(text)


def test_each_value_has_the_plan_it_has_alone() -> None:
    config = Config.model_validate({"hardware": {"vram": "6GiB"}})
    for value in ("4", "16"):
        line = plan_swept(config, "train.batch_size", value, plan)
        alone = plan(config.with_values({"train.batch_size": int(value)}))
        assert line.plan is not None
        # the free disk may have changed meanwhile
        assert replace(line.plan, checks=()) == replace(alone, checks=())


def test_a_value_that_no_data_are_enough_for_is_a_line_and_a_wrong_one_an_error() -> None:
    fits, too_long = (plan_swept(Config(), "window.seq_len", value, plan) for value in ("96", "100000"))
    assert fits.plan is not None and not fits.fault
    assert too_long.plan is None and "too few rows" in too_long.fault
    with pytest.raises(ConfigError, match="batch_size=0: input should be greater"):
        plan_swept(Config(), "train.batch_size", "0", plan)
