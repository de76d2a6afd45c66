"""The batch of evaluation and prediction: as large as fits, where nothing is kept for a backward pass."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.planning.cases import known_shape, step
from timellm_cli.config import Config
from timellm_cli.planning.automatic import resolve_auto, scoring_batch
from timellm_cli.planning.hardware import Gpu, Machine
from timellm_cli.planning.memory_bill import largest_scoring_batch, our_bill, scoring_bill
from timellm_cli.units import GIB

QWEN = known_shape("Qwen/Qwen2.5-3B")


def batch(gib: float, /, in_training: bool = False, **sections: dict[str, Any]) -> int:
    card = Gpu("a card", int(gib * GIB), int(gib * GIB), (8, 6))
    machine = Machine(card if gib else None, 12 * GIB, torch_has_cuda=bool(gib))
    config = Config.model_validate({"llm": {"layers": "all", "quantization": "nf4"}, **sections})
    return scoring_batch(resolve_auto(config, machine, QWEN), machine, in_training)


@pytest.mark.parametrize("shape", [QWEN, known_shape("gpt2"), known_shape("bert-base-uncased"), None])
@pytest.mark.parametrize("decoder", [False, True])
def test_scoring_takes_less_than_training(shape: Any, decoder: bool) -> None:
    decoder = decoder and shape is QWEN
    case = step(shape, decoder=decoder, prefix=89 if decoder else 0, batch=64)
    scoring, training = scoring_bill(case), our_bill(case)
    assert scoring.total < training.total
    assert all(part.bytes > 0 and part.how for part in scoring.parts)
    assert not {"gradients", "optimizer_states", "patch_activations"} & {part.key for part in scoring.parts}


def test_what_scoring_takes_does_not_grow_with_kept_layers() -> None:
    case = step(QWEN, decoder=True, prefix=89, batch=64)
    deep = replace(case, layers=36)
    weights = {"linear_weights", "quantization_constants", "norms", "keys_values"}
    grown = {part.key for part in scoring_bill(deep).parts if part.bytes != scoring_bill(case)[part.key]}
    assert grown == weights


@given(budget=st.integers(GIB, 24 * GIB), limit=st.integers(1, 300))
def test_the_largest_scoring_batch_fits_and_the_next_one_does_not(budget: int, limit: int) -> None:
    case = step(QWEN, decoder=True, prefix=89)
    best = largest_scoring_batch(case, budget, limit)
    assert best == 0 or scoring_bill(replace(case, batch=best)).total <= budget
    assert best == limit or scoring_bill(replace(case, batch=best + 1)).total > budget


def test_a_gpu_scores_as_many_as_fit() -> None:
    assert batch(80) == 256
    assert 8 < batch(3) < 256
    assert batch(0.1) == 1
    assert batch(80, hardware={"vram": "3GiB"}) == batch(3) == batch(3, hardware={"vram": "80GiB"})


def test_training_leaves_less_room_and_a_captured_step_the_least() -> None:
    sections = {"train": {"batch_size": 32}, "hardware": {"recompute": "off", "capture": "off"}}
    captured = {**sections, "hardware": {"recompute": "off", "capture": "on"}}
    alone = batch(6, **sections)
    beside, least = batch(6, in_training=True, **sections), batch(6, in_training=True, **captured)
    assert least < beside <= alone


def test_a_cpu_scores_32_whatever_it_trains() -> None:
    assert batch(0) == 32
    assert batch(0, train={"batch_size": 128}) == 32


def test_where_nothing_can_be_weighed_it_is_the_training_batch_and_32_at_least() -> None:
    assert batch(80, llm={"name": "Qwen/Qwen9-1T"}) == 32
    assert batch(80, llm={"name": "Qwen/Qwen9-1T"}, train={"batch_size": 128}) == 128
    assert batch(80, prompt={"template": "{no such field}"}) == 32
