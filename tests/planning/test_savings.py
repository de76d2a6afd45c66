"""What needs less memory is weighed as the run itself is, and shown with what it costs."""

from typing import Any

import pytest

from tests.planning.cases import known_shape
from timellm_cli.config import Config
from timellm_cli.planning.automatic import resolve_auto
from timellm_cli.planning.hardware import Gpu, Machine, find_card
from timellm_cli.planning.memory_bill import Saving, find_savings, weigh
from timellm_cli.planning.prompt_tokens import read_prompt
from timellm_cli.units import GIB

NAME = "Qwen/Qwen2.5-3B"
OTHER_CARD = Machine(Gpu("no card of the table", 8 * GIB, 8 * GIB, (8, 6)), ram_free=12 * GIB, torch_has_cuda=True)


def savings(machine: Machine = OTHER_CARD, /, **sections: dict[str, Any]) -> dict[str, Saving]:
    """By their flags, of the first 6 layers of Qwen2.5-3B."""
    config = Config.model_validate({"llm": {"name": NAME, "quantization": "nf4"}, **sections})
    shape = known_shape(NAME)
    return {saving.flags: saving for saving in find_savings(resolve_auto(config, machine, shape), machine, shape, 1000)}


def test_each_change_is_what_its_flags_would_give() -> None:
    shape = known_shape(NAME)
    for flags, saving in savings().items():
        words = flags.split()
        keys = {"batch_size": "train", "accumulate": "train", "recompute": "hardware", "optimizer": "train"}
        keys |= {"layers": "llm", "seq_len": "window", "patch_stride": "model"}
        names = [word.removeprefix("--").replace("-", "_") for word in words[::2]]
        values = {f"{keys[name]}.{name}": value for name, value in zip(names, words[1::2], strict=True)}
        config = Config.model_validate({"llm": {"name": NAME, "quantization": "nf4"}}).with_values(
            {"hardware.recompute": "off", **values}
        )
        resolved = resolve_auto(config, OTHER_CARD, shape)
        memory = weigh(resolved, OTHER_CARD, shape, read_prompt(resolved, shape), 1000)
        assert (saving.total, saving.fits, saving.largest_batch) == (
            memory.bill.total, memory.fits, memory.largest_batch,
        )  # fmt: skip


def test_every_change_needs_less_and_has_its_price_or_makes_another_model() -> None:
    found = savings()
    assert list(found) == [
        "--batch-size 4 --accumulate 2", "--recompute on", "--optimizer adam8bit", "--layers 3", "--seq-len 256",
        "--patch-stride 16",
    ]  # fmt: skip
    assert all(saving.total < saving.before for saving in found.values())
    assert [saving.same_model for saving in found.values()] == [True, True, True, False, False, False]
    assert found["--recompute on"].time > 1.1
    assert found["--optimizer adam8bit"].time == pytest.approx(1, abs=0.01)
    assert 0.4 < found["--layers 3"].time < 0.6


def test_a_cards_own_speed_tells_what_a_small_batch_costs() -> None:
    card = find_card("RTX 4060")
    known = savings(Machine(card.gpu, ram_free=12 * GIB, torch_has_cuda=True))
    assert known["--batch-size 4 --accumulate 2"].time > 1.05
    assert savings()["--batch-size 4 --accumulate 2"].time == pytest.approx(1, abs=0.05)  # operations are the same


def test_what_there_is_already_or_cannot_be_is_not_offered() -> None:
    used = {"train": {"batch_size": 1, "optimizer": "adamw8bit"}, "hardware": {"recompute": "on"}}
    found = savings(**used, llm={"name": NAME, "layers": 1, "quantization": "nf4"}, window={"seq_len": 20})
    assert list(found) == []
    on_cpu = savings(Machine(None, 12 * GIB, torch_has_cuda=False), llm={"name": NAME, "quantization": "none"})
    assert list(on_cpu) == ["--batch-size 4 --accumulate 2", "--layers 3", "--seq-len 256", "--patch-stride 16"]
    assert "--quantization nf4" in savings(llm={"name": NAME, "quantization": "none"})
