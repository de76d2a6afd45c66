"""What buys room: changes to a run with the memory that each would take, and what it would cost in time. Light."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from timellm_cli.config import Config
from timellm_cli.geometry import count_patches
from timellm_cli.planning.cards import recognise
from timellm_cli.planning.case import Case
from timellm_cli.planning.duration import Speed, step_seconds
from timellm_cli.planning.llm_shape import LLMShape
from timellm_cli.planning.machine import Machine
from timellm_cli.planning.memory import weigh
from timellm_cli.planning.prompt_size import read_prompt
from timellm_cli.planning.run_path import why_no_decoder
from timellm_cli.planning.work import step_work

_FLAGS = {
    "train.batch_size": "--batch-size", "train.accumulate": "--accumulate", "train.optimizer": "--optimizer",
    "hardware.recompute": "--recompute", "llm.quantization": "--quantization", "llm.layers": "--layers",
    "window.seq_len": "--seq-len", "model.patch_stride": "--patch-stride",
}  # fmt: skip

_OF_MODEL = {"llm.layers", "window.seq_len", "model.patch_stride"}


@dataclass(frozen=True)
class Saving:
    """A change as flags of the command line. `same_model`: what is learned stays the same but for rounding.

    `total` are the bytes of a step with it, of `before` without. `time` is what a training sample takes with it, as a
    multiple of what it takes without: estimated for a card whose speed is known, else the ratio of the operations.
    """

    flags: str
    before: int
    total: int
    fits: bool | None
    largest_batch: int | None
    time: float
    same_model: bool


def find_savings(config: Config, machine: Machine, shape: LLMShape | None, most: int) -> list[Saving]:
    """Changes to a settled configuration whose prompt can be read, each by itself; a batch has `most` samples at most.

    First those that leave the model as it is.
    """
    prompt = read_prompt(config, shape)
    before = weigh(config, machine, shape, prompt, most).bill.total
    usual = _sample_cost(Case.of(config, shape, prompt.tokens, machine.gpu), machine)
    savings = []
    for change in _changes(config, shape):
        changed = config.with_values(change)
        prompt = read_prompt(changed, shape)
        memory = weigh(changed, machine, shape, prompt, most)
        cost = _sample_cost(Case.of(changed, shape, prompt.tokens, machine.gpu), machine)
        same = not change.keys() & _OF_MODEL
        flags = " ".join(f"{_FLAGS[key]} {value}" for key, value in change.items())
        savings.append(Saving(flags, before, memory.bill.total, memory.fits, memory.largest_batch, cost / usual, same))
    return savings


def _changes(config: Config, shape: LLMShape | None) -> Iterator[Mapping[str, Any]]:
    window, model, llm, train = config.window, config.model, config.llm, config.train
    on_gpu = config.hardware.device == "cuda"
    if train.batch > 1:
        yield {"train.batch_size": train.batch // 2, "train.accumulate": 2 * train.accumulate}
    if on_gpu and config.hardware.recompute == "off" and why_no_decoder(llm) is None:
        yield {"hardware.recompute": "on"}
    if on_gpu and "8bit" not in train.optimizer:
        yield {"train.optimizer": f"{train.optimizer}8bit"}
    if on_gpu and shape and llm.quantization != "nf4":
        yield {"llm.quantization": "nf4"}
    if shape and (layers := shape.used_layers(llm.layers)) > 1:
        yield {"llm.layers": layers // 2}
    half = window.seq_len // 2
    if half >= max(model.patch_len, config.prompt.top_lags):
        yield {"window.seq_len": half}
    patches = [count_patches(window.seq_len, model.patch_len, times * model.patch_stride) for times in (1, 2)]
    if patches[1] < patches[0]:
        yield {"model.patch_stride": 2 * model.patch_stride}


def _sample_cost(case: Case, machine: Machine) -> float:
    """Seconds of a sample where the card's speed is known and its numbers have 16 bits, else operations."""
    card = recognise(machine.gpu.name) if machine.gpu else None
    if card and case.on_gpu and case.precision != "fp32":
        return step_seconds(case, Speed.of(card)) / case.batch
    work = step_work(case)
    return (work.products + work.attention) / case.batch
