"""Every 'auto' becomes what it means on a machine; what was chosen explicitly stays. The batch of scoring."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.planning.cases import TINY, known_shape, step
from timellm_cli.config import SAMPLES_PER_UPDATE, Config
from timellm_cli.planning.automatic import resolve_auto, scoring_batch
from timellm_cli.planning.case import Case
from timellm_cli.planning.hardware import Gpu, Machine
from timellm_cli.planning.llm_shape import look_up_llm
from timellm_cli.planning.memory_bill import SAFE_SHARE, largest_scoring_batch, our_bill, scoring_bill
from timellm_cli.planning.prompt_tokens import read_prompt
from timellm_cli.units import GIB

CPU_ONLY = Machine(gpu=None, ram_free=12 * GIB, torch_has_cuda=False)


def with_card(gib: int, capability: tuple[int, int] = (8, 6), torch_has_cuda: bool = True) -> Machine:
    card = Gpu(f"a {gib} GiB card", gib * GIB, gib * GIB, capability)
    return Machine(gpu=card, ram_free=12 * GIB, torch_has_cuda=torch_has_cuda)


def resolved(machine: Machine, name: str = "Qwen/Qwen2.5-3B", /, **sections: dict[str, Any]) -> tuple[str, str, str]:
    values = {"llm": {"name": name, "layers": "all"}, **sections}
    config = resolve_auto(Config.model_validate(values), machine, known_shape(name) if name != "none" else None)
    return config.hardware.device, config.train.precision, config.llm.quantization


def test_a_cpu_computes_in_float32_without_quantization() -> None:
    assert resolved(CPU_ONLY) == ("cpu", "fp32", "none")


def test_a_card_that_torch_cannot_use_is_not_used() -> None:
    assert resolved(with_card(24, torch_has_cuda=False)) == ("cpu", "fp32", "none")


@pytest.mark.parametrize(
    ("card", "quantization"),
    # Qwen2.5-3B takes 5.75 GiB in 16 bits: more than a third of 16 GiB, less than a third of 24 GiB.
    [(6, "nf4"), (16, "nf4"), (24, "none"), (80, "none")],
)
def test_an_llm_is_quantized_where_it_is_large_for_the_card(card: int, quantization: str) -> None:
    assert resolved(with_card(card)) == ("cuda", "bf16", quantization)


def test_the_memory_to_plan_for_wins_over_the_cards_own() -> None:
    assert resolved(with_card(80), hardware={"vram": "6GiB"}) == ("cuda", "bf16", "nf4")


def test_a_small_llm_is_not_quantized_even_for_an_unknown_card() -> None:
    chosen = {"device": "cuda"}
    assert resolved(CPU_ONLY, "smollm2-135m", hardware=chosen)[2] == "none"
    assert resolved(CPU_ONLY, "Qwen/Qwen2.5-3B", hardware=chosen)[2] == "nf4"


@pytest.mark.parametrize(("capability", "precision"), [((7, 5), "fp16"), ((8, 0), "bf16"), ((9, 0), "bf16")])
def test_older_cards_compute_in_fp16(capability: tuple[int, int], precision: str) -> None:
    assert resolved(with_card(16, capability))[1] == precision


def test_explicit_choices_stay_even_where_the_machine_cannot_do_them() -> None:
    assert resolved(
        CPU_ONLY,
        hardware={"device": "cuda"},
        train={"precision": "fp16"},
        llm={"name": "Qwen/Qwen2.5-3B", "quantization": "int8"},
    ) == ("cuda", "fp16", "int8")


def test_without_an_llm_nothing_is_quantized() -> None:
    assert resolved(with_card(4), "none")[2] == "none"


def path_of(machine: Machine, name: str = "Qwen/Qwen2.5-3B", /, **sections: dict[str, Any]) -> tuple[str, str]:
    values = {"llm": {"name": name, "layers": "all", "quantization": "nf4"}, **sections}
    config = resolve_auto(Config.model_validate(values), machine, known_shape(name) if name != "none" else None)
    return config.hardware.capture, config.hardware.recompute


@pytest.mark.parametrize(
    ("machine", "name", "capture"),
    [
        (with_card(24), "Qwen/Qwen2.5-3B", "on"),
        (with_card(24), "gpt2", "off"),
        (with_card(24), "none", "off"),
        (CPU_ONLY, "Qwen/Qwen2.5-3B", "off"),
    ],
)
def test_steps_are_captured_on_a_gpu_with_our_own_decoder(machine: Machine, name: str, capture: str) -> None:
    assert path_of(machine, name)[0] == capture


def test_capture_is_settled_after_quantization(tmp_path: Path) -> None:
    """An LLM whose matrices NF4 cannot divide is our decoder's only where it is not quantized."""
    odd = {**TINY["llama"], "model_type": "llama", "num_hidden_layers": 1000, "hidden_size": 36, "head_dim": 10}
    (tmp_path / "config.json").write_text(json.dumps({**odd, "intermediate_size": 500_050}), encoding="utf-8")
    shape = look_up_llm(str(tmp_path))
    for card, quantization, capture in ((80, "nf4", "off"), (2000, "none", "on")):
        config = resolve_auto(
            Config.model_validate({"llm": {"name": str(tmp_path), "layers": "all"}}), with_card(card), shape
        )
        assert (config.llm.quantization, config.hardware.capture) == (quantization, capture)


def test_layers_are_computed_again_where_keeping_them_would_not_fit() -> None:
    assert path_of(with_card(6)) == ("on", "off")
    assert path_of(with_card(6), train={"batch_size": 64}) == ("on", "on")
    assert path_of(with_card(80), train={"batch_size": 64}) == ("on", "off")
    assert path_of(with_card(80), hardware={"vram": "6GiB"}, train={"batch_size": 64}) == ("on", "on")


def test_nothing_is_computed_again_where_it_would_not_help_or_nobody_knows() -> None:
    large = {"train": {"batch_size": 4096}}
    assert path_of(CPU_ONLY, **large)[1] == "off"
    assert path_of(CPU_ONLY, hardware={"device": "cuda"}, **large)[1] == "off"
    assert path_of(with_card(6), "gpt2", **large)[1] == "off"
    assert path_of(with_card(6), "none", **large)[1] == "off"
    assert path_of(with_card(6), prompt={"template": "{no such field}"}, **large)[1] == "off"


def test_explicit_capture_and_recompute_stay() -> None:
    assert path_of(with_card(80), hardware={"capture": "off", "recompute": "on"}) == ("off", "on")
    assert path_of(CPU_ONLY, hardware={"capture": "on"})[0] == "on"


def test_no_auto_is_left() -> None:
    for machine in (CPU_ONLY, with_card(6)):
        config = resolve_auto(Config(), machine, known_shape("Qwen/Qwen2.5-3B"))
        left = [key for key, value in config.values().items() if value == "auto"]
        assert left == ["llm.implementation", "train.bands", "hardware.kernels"]


def test_the_given_configuration_is_left_as_it_was() -> None:
    config = Config()
    resolve_auto(config, CPU_ONLY, known_shape("Qwen/Qwen2.5-3B"))
    assert (config.hardware.device, config.train.precision, config.llm.quantization) == ("auto", "auto", "auto")


def batch_of(machine: Machine, name: str = "Qwen/Qwen2.5-3B", /, **sections: dict[str, Any]) -> tuple[int, int, str]:
    sections["train"] = {"batch_size": "auto", **sections.get("train", {})}
    config = Config.model_validate({"llm": {"name": name, "layers": "all", "quantization": "nf4"}, **sections})
    resolved = resolve_auto(config, machine, known_shape(name) if name != "none" else None)
    return resolved.train.batch, resolved.train.accumulate, resolved.hardware.recompute


def test_an_automatic_batch_is_what_fits_and_an_update_always_sees_as_many_samples() -> None:
    found = [batch_of(with_card(80), hardware={"vram": vram}) for vram in ("40GiB", "5GiB", "3.7GiB")]
    assert found[0] == (SAMPLES_PER_UPDATE, 1, "off")
    assert [batch for batch, _, _ in found] == sorted((batch for batch, _, _ in found), reverse=True)
    assert found[0] != found[1] != found[2]
    assert {batch * accumulate for batch, accumulate, _ in found} == {SAMPLES_PER_UPDATE}


def test_an_automatic_batch_fits_with_room_to_spare_and_twice_as_much_does_not() -> None:
    values = {"llm": {"name": "Qwen/Qwen2.5-3B", "layers": "all"}, "train": {"batch_size": "auto"}}
    shape, machine = known_shape("Qwen/Qwen2.5-3B"), with_card(80)
    config = Config.model_validate({**values, "hardware": {"vram": "4GiB", "recompute": "off"}})
    resolved = resolve_auto(config, machine, shape)
    batch = resolved.train.batch
    assert 1 < batch < SAMPLES_PER_UPDATE
    case = Case.of(resolved, shape, read_prompt(resolved, shape).tokens, machine.gpu)
    twice = replace(case, batch=2 * batch, accumulate=case.accumulate // 2)
    assert our_bill(case).total <= SAFE_SHARE * 4 * GIB < our_bill(twice).total


def test_an_automatic_batch_recomputes_layers_only_where_one_sample_does_not_fit_otherwise() -> None:
    long = {"window": {"seq_len": 8192}, "model": {"patch_stride": 4}}
    kept = batch_of(with_card(80), hardware={"vram": "12GiB"}, **long)
    again = batch_of(with_card(80), hardware={"vram": "5GiB"}, **long)
    assert kept[2] == "off"
    assert again[2] == "on"
    assert again[0] * again[1] == SAMPLES_PER_UPDATE


def test_an_automatic_batch_stays_one_where_nothing_fits_for_readiness_to_say_so() -> None:
    assert batch_of(with_card(80), hardware={"vram": "1GiB"}) == (1, SAMPLES_PER_UPDATE, "on")


def test_an_automatic_batch_of_an_llm_nobody_knows_is_the_usual_one() -> None:
    config = Config.model_validate({"llm": {"name": "nobody/knows"}, "train": {"batch_size": "auto"}})
    resolved = resolve_auto(config, with_card(8), None)
    assert (resolved.train.batch, resolved.train.accumulate) == (8, 4)


def test_on_a_cpu_an_automatic_batch_counts_on_no_recomputation() -> None:
    values = {"llm": {"name": "Qwen/Qwen2.5-3B", "layers": "all"}, "window": {"seq_len": 2048}}
    shape = known_shape("Qwen/Qwen2.5-3B")
    config = Config.model_validate({**values, "train": {"batch_size": "auto"}})
    for gib in (13.25, 13.75, 20):
        machine = replace(CPU_ONLY, ram_free=int(gib * GIB))
        resolved = resolve_auto(config, machine, shape)
        case = Case.of(resolved, shape, read_prompt(resolved, shape).tokens, None)
        assert resolved.hardware.recompute == "off"
        assert resolved.train.batch == 1 or our_bill(case).total <= SAFE_SHARE * machine.ram_free


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
