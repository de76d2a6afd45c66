"""Replaces every 'auto' of a configuration by a value for a machine, and chooses the batch for scoring. Light.

`train`, `eval` and `predict` resolve for the machine they run on; `inspect` for the machine that is planned for.
"""

from dataclasses import replace
from typing import Literal

from timellm_cli.config import SAMPLES_PER_UPDATE, Config, TrainConfig
from timellm_cli.errors import ConfigError, ModelError
from timellm_cli.planning.case import Case
from timellm_cli.planning.code_path import why_not_decoder
from timellm_cli.planning.hardware import Machine
from timellm_cli.planning.llm_shape import LLMShape, look_up_llm
from timellm_cli.planning.memory_bill import SAFE_SHARE, find_budget, is_sized, largest_scoring_batch, our_bill
from timellm_cli.planning.prompt_tokens import read_prompt
from timellm_cli.units import GIB, parse_memory

LARGE_SHARE = 1 / 3
"""An LLM is large for a card when its weights in 16 bits take more than this share of the card's memory."""

SMALLEST_CARD = 4 * GIB
"""What an LLM is compared with when no card and no budget is known."""


def resolve_auto(config: Config, machine: Machine, shape: LLMShape | None) -> Config:
    """The same configuration without 'auto' in device, precision, quantization, capture, batch size and recompute.

    An explicit choice is kept, even one that is impossible on this machine: readiness says so.
    `shape` is None where there is no LLM, or none whose size is known; then nothing is quantized. Raises ModelError
    where the LLM's config.json cannot be read.
    """
    device = config.hardware.device
    if device == "auto":
        device = "cuda" if machine.can_use_gpu else "cpu"
    precision = config.train.precision
    if precision == "auto":
        # bf16 came with CUDA capability 8.0; older cards have fp16. A card that is not here counts as a new one.
        is_old = machine.gpu is not None and machine.gpu.capability < (8, 0)
        precision = "fp32" if device == "cpu" else "fp16" if is_old else "bf16"
    quantization = config.llm.quantization
    if quantization == "auto":
        quantization = _resolve_quantization(config, device, machine, shape)
    resolved = config.with_values(
        {"hardware.device": device, "train.precision": precision, "llm.quantization": quantization}
    )
    if config.hardware.capture == "auto":
        captures = device == "cuda" and why_not_decoder(resolved.llm) is None
        resolved = resolved.with_values({"hardware.capture": "on" if captures else "off"})
    if config.train.batch_size == "auto":
        batch = _resolve_batch(resolved, machine, shape)
        resolved = resolved.with_values({"train.batch_size": batch, "train.accumulate": SAMPLES_PER_UPDATE // batch})
    if config.hardware.recompute == "auto":
        resolved = resolved.with_values({"hardware.recompute": _resolve_recompute(resolved, machine, shape)})
    return resolved


def _resolve_batch(config: Config, machine: Machine, shape: LLMShape | None) -> int:
    """The largest divisor of an update's samples that fits with some memory to spare; 1 where none does.

    Layers are recomputed only where not even one sample fits without. An unknown card counts as the smallest; without
    a bill, the usual batch is used.
    """
    if not is_sized(config, shape):
        return TrainConfig().batch
    one = config.with_values({"train.batch_size": 1})
    case = _case(one, machine, shape)
    if case is None:
        return 1
    budget, _ = find_budget(one, machine)
    capacity = SAFE_SHARE * (budget or SMALLEST_CARD)
    may_recompute = one.hardware.recompute == "auto" and case.decoder and case.on_gpu
    kept = [case, replace(case, recompute=True)] if may_recompute else [case]
    divisors = [batch for batch in range(SAMPLES_PER_UPDATE, 0, -1) if SAMPLES_PER_UPDATE % batch == 0]
    cases = (replace(way, batch=b, accumulate=SAMPLES_PER_UPDATE // b) for way in kept for b in divisors)
    return next((case.batch for case in cases if our_bill(case).without_reading <= capacity), 1)


def _resolve_recompute(config: Config, machine: Machine, shape: LLMShape | None) -> Literal["on", "off"]:
    """On where a step that keeps its layers would not fit into the card: recomputing takes time."""
    budget, _ = find_budget(config, machine)
    if config.hardware.device == "cpu" or budget is None or shape is None or why_not_decoder(config.llm):
        return "off"
    case = _case(config, machine, shape)
    return "off" if case is None or our_bill(replace(case, recompute=False)).without_reading <= budget else "on"


def _case(config: Config, machine: Machine, shape: LLMShape | None) -> Case | None:
    """None where the prompt has a fault: readiness and the encoding of the first batch say what it is."""
    try:
        return Case.of(config, shape, read_prompt(config, shape).tokens, machine.gpu)
    except (ConfigError, ModelError):
        return None


def _resolve_quantization(
    config: Config, device: str, machine: Machine, shape: LLMShape | None
) -> Literal["nf4", "none"]:
    if device == "cpu" or shape is None:
        return "none"
    weights = 2 * shape.parameters(shape.used_layers(config.llm.layers))
    card = machine.gpu.total_bytes if machine.gpu else SMALLEST_CARD
    vram = config.hardware.vram
    return "nf4" if weights > LARGE_SHARE * (parse_memory(vram) if vram else card) else "none"


_USUAL = 32
"""The fastest batch on a CPU: 16 to 64 are equally fast, 8 and 256 take 6 % longer."""

_OF_TRAINING = ("gradients", "optimizer_states", "average")
_OF_RECORDED_STEPS = ("reprogramming_activations", "patch_activations", "keys_values", "workspace", "allocator")


def scoring_batch(config: Config, machine: Machine, in_training: bool = False) -> int:
    """The batch for forecasts by the model of a resolved configuration; `machine` is as it was before that was loaded.

    On a GPU as many samples as fit, 256 at most. `in_training` leaves memory for gradients, optimizer states, averaged
    weights, and what a recorded step holds between its replays. On a CPU 32; where the LLM's size is not known the
    training batch, which has to fit, and 32 at least.
    """
    if config.hardware.device == "cpu":
        return _USUAL
    usual = max(config.train.batch, _USUAL)
    shape = look_up_llm(config.llm.name)
    budget, _ = find_budget(config, machine)
    if budget is None or not is_sized(config, shape):
        return usual
    case = _case(config, machine, shape)
    if case is None:
        return usual
    if machine.gpu:  # hardware.vram may be of a larger card
        budget = min(budget, machine.gpu.free_bytes)
    capacity = int(SAFE_SHARE * budget)
    if in_training:
        stays = _OF_TRAINING + (_OF_RECORDED_STEPS if config.hardware.capture == "on" else ())
        capacity -= sum(part.bytes for part in our_bill(case).parts if part.key in stays)
    return max(largest_scoring_batch(case, capacity), 1)
