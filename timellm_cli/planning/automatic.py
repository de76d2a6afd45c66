"""Replaces every 'auto' of a configuration by what it means on a machine. Light.

`train`, `eval` and `predict` settle for the machine they run on; `inspect` for the machine that is planned for.

How many samples to forecast at a time where nothing is trained. It changes no figure. Light.
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


def settle(config: Config, machine: Machine, shape: LLMShape | None) -> Config:
    """The same configuration without 'auto' in device, precision, quantization, capture, batch size and recompute.

    An explicit choice is kept, even one that this machine cannot do: readiness says so.
    `shape` is None where there is no LLM, or none whose size is known; then nothing is quantized. Raises ModelError
    where the LLM's config.json cannot be read.
    """
    device = config.hardware.device
    if device == "auto":
        device = "cuda" if machine.can_use_gpu else "cpu"
    precision = config.train.precision
    if precision == "auto":
        precision = _settle_precision(device, machine)
    quantization = config.llm.quantization
    if quantization == "auto":
        quantization = _settle_quantization(config, device, machine, shape)
    settled = config.with_values(
        {"hardware.device": device, "train.precision": precision, "llm.quantization": quantization}
    )
    if config.hardware.capture == "auto":
        captures = device == "cuda" and why_not_decoder(settled.llm) is None
        settled = settled.with_values({"hardware.capture": "on" if captures else "off"})
    if config.train.batch_size == "auto":
        batch = _settle_batch(settled, machine, shape)
        settled = settled.with_values({"train.batch_size": batch, "train.accumulate": SAMPLES_PER_UPDATE // batch})
    if config.hardware.recompute == "auto":
        settled = settled.with_values({"hardware.recompute": _settle_recompute(settled, machine, shape)})
    return settled


def _settle_batch(config: Config, machine: Machine, shape: LLMShape | None) -> int:
    """The largest divisor of an update's samples that fits with some room to spare; 1 where none does.

    Layers are computed again only where not even one sample fits without. An unknown card is taken for the smallest;
    where no bill can be made, the usual batch is taken.
    """
    if not is_sized(config, shape):
        return TrainConfig().batch
    one = config.with_values({"train.batch_size": 1})
    try:
        tokens = read_prompt(one, shape).tokens
    except (ConfigError, ModelError):  # readiness says what is wrong with the prompt
        return 1
    budget, _ = find_budget(one, machine)
    room = SAFE_SHARE * (budget or SMALLEST_CARD)
    case = Case.of(one, shape, tokens, machine.gpu)
    may_recompute = one.hardware.recompute == "auto" and case.decoder and case.on_gpu
    kept = [case, replace(case, recompute=True)] if may_recompute else [case]
    divisors = [batch for batch in range(SAMPLES_PER_UPDATE, 0, -1) if SAMPLES_PER_UPDATE % batch == 0]
    cases = (replace(way, batch=b, accumulate=SAMPLES_PER_UPDATE // b) for way in kept for b in divisors)
    return next((case.batch for case in cases if our_bill(case).total <= room), 1)


def _settle_recompute(config: Config, machine: Machine, shape: LLMShape | None) -> Literal["on", "off"]:
    """On where a step that keeps its layers would not fit into the card: recomputing takes time."""
    budget, _ = find_budget(config, machine)
    if config.hardware.device == "cpu" or budget is None or shape is None or why_not_decoder(config.llm):
        return "off"
    try:
        prompt = read_prompt(config, shape)
    except (ConfigError, ModelError):  # readiness says what is wrong with the prompt
        return "off"
    case = replace(Case.of(config, shape, prompt.tokens, machine.gpu), recompute=False)
    return "off" if our_bill(case).total <= budget else "on"


def _settle_precision(device: str, machine: Machine) -> Literal["fp32", "bf16", "fp16"]:
    """bf16 came with CUDA capability 8.0; older cards have fp16. A card that is not here is taken for a new one."""
    if device == "cpu":
        return "fp32"
    return "fp16" if machine.gpu and machine.gpu.capability < (8, 0) else "bf16"


def _settle_quantization(
    config: Config, device: str, machine: Machine, shape: LLMShape | None
) -> Literal["nf4", "none"]:
    if device == "cpu" or shape is None:
        return "none"
    weights = 2 * shape.parameters(shape.used_layers(config.llm.layers))
    return "nf4" if weights > LARGE_SHARE * _card_memory(config, machine) else "none"


def _card_memory(config: Config, machine: Machine) -> int:
    if config.hardware.vram is not None:
        return parse_memory(config.hardware.vram)
    return machine.gpu.total_bytes if machine.gpu else SMALLEST_CARD


_USUAL = 32
"""The fastest on a CPU: 16 to 64 are as fast there, 8 and 256 take 6 % longer."""

_OF_TRAINING = ("gradients", "optimizer_states", "average")
_OF_RECORDED_STEPS = ("reprogramming_activations", "patch_activations", "keys_values", "workspace", "allocator")


def scoring_batch(config: Config, machine: Machine, in_training: bool = False) -> int:
    """The batch for forecasts by the model of a settled configuration; `machine` is as it was before that was loaded.

    On a GPU as many samples as fit, 256 at most. `in_training` leaves room for gradients, optimizer states, averaged
    weights, and what a captured step holds between its replays. On a CPU 32; where the LLM's size is not known the
    training batch, which has to fit, and 32 at least.
    """
    if config.hardware.device == "cpu":
        return _USUAL
    usual = max(config.train.batch, _USUAL)
    shape = look_up_llm(config.llm.name)
    budget, _ = find_budget(config, machine)
    if budget is None or not is_sized(config, shape):
        return usual
    try:
        tokens = read_prompt(config, shape).tokens
    except (ConfigError, ModelError):  # encoding the first batch will say what is wrong with it
        return usual
    if machine.gpu:  # hardware.vram may be of a larger card
        budget = min(budget, machine.gpu.free_bytes)
    case = Case.of(config, shape, tokens, machine.gpu)
    room = int(SAFE_SHARE * budget)
    if in_training:
        stays = _OF_TRAINING + (_OF_RECORDED_STEPS if config.hardware.capture == "on" else ())
        room -= sum(part.bytes for part in our_bill(case).parts if part.key in stays)
    return max(largest_scoring_batch(case, room), 1)
