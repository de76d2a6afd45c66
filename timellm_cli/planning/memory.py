"""The memory bill of a run against the memory there is, or is planned for. Light."""

from dataclasses import dataclass, replace
from typing import Literal

from timellm_cli.config import Config
from timellm_cli.llm_files import NO_LLM
from timellm_cli.planning.bill import Bill, largest_batch, our_bill, plain_bill
from timellm_cli.planning.case import Case
from timellm_cli.planning.llm_shape import LLMShape, look_up_llm
from timellm_cli.planning.machine import Machine
from timellm_cli.planning.prompt_size import Prompt, read_prompt
from timellm_cli.units import parse_memory

SAFE_SHARE = 0.9
"""Of the memory there is; the rest is for what the allocator cannot join and for what the bill leaves out."""


@dataclass(frozen=True)
class Memory:
    """The bill against what there is. `budget` is in bytes, None where no card is known; then there is no verdict.

    `source` says whose it is: 'hardware.vram', or what is free on the card of that name or of the 'RAM'. `plain` is the
    published implementation's bill. Where recomputing layers is left to us, `largest_batch` may do so, and
    `largest_keeping` is the largest that does not; else that is None.
    """

    kind: Literal["GPU", "RAM"]
    bill: Bill
    plain: Bill | None
    budget: int | None
    source: str | None
    largest_batch: int | None
    largest_keeping: int | None = None

    @property
    def fits(self) -> bool | None:
        """Whether the bill is within the budget."""
        return None if self.budget is None else self.bill.total <= self.budget


def weigh(
    config: Config,
    machine: Machine,
    shape: LLMShape | None,
    prompt: Prompt,
    most: int,
    may_recompute: bool = False,
) -> Memory:
    """The bill of a settled configuration against the memory there is; no batch can be larger than `most`.

    `may_recompute`: a larger batch may have its layers computed again, whatever this one has.
    """
    case = Case.of(config, shape, prompt.tokens, machine.gpu)
    budget, source = find_budget(config, machine)
    largest = keeping = None
    if budget is not None:
        largest = largest_batch(case, budget, most)
        if may_recompute and case.decoder and case.on_gpu:
            keeping = largest_batch(replace(case, recompute=False), budget, most)
            largest = max(keeping, largest_batch(replace(case, recompute=True), budget, most))
    return Memory(
        kind="GPU" if case.on_gpu else "RAM",
        bill=our_bill(case),
        plain=plain_bill(case, prompt.published_tokens.total),
        budget=budget,
        source=source,
        largest_batch=largest,
        largest_keeping=keeping,
    )


def predict(config: Config, machine: Machine) -> Bill | None:
    """The bill of a step of a settled configuration whose prompt can be read; None for an LLM of unknown size."""
    shape = look_up_llm(config.llm.name)
    if not is_sized(config, shape):
        return None
    return our_bill(Case.of(config, shape, read_prompt(config, shape).tokens, machine.gpu))


def find_budget(config: Config, machine: Machine) -> tuple[int | None, str | None]:
    """Bytes that a settled run may take, and whose they are; None where no card is known."""
    if config.hardware.device == "cpu":
        return machine.ram_free, "RAM"
    if config.hardware.vram is not None:
        return parse_memory(config.hardware.vram), "hardware.vram"
    if machine.gpu:
        return machine.gpu.free_bytes, machine.gpu.name
    return None, None


def is_sized(config: Config, shape: LLMShape | None) -> bool:
    """Whether a bill can be made: the LLM's size is known, or there is no LLM."""
    return shape is not None or config.llm.name == NO_LLM


def how_to_need_less(config: Config, largest: int | None) -> str:
    """What to change where a run does not fit and `largest` samples would."""
    if largest:
        return f"use --batch-size {largest} or less, or auto"
    if config.llm.name == NO_LLM:
        return "use a smaller --d-model, --d-ff or --seq-len"
    smaller = "" if config.llm.quantization == "nf4" or config.hardware.device == "cpu" else ", --quantization nf4"
    return f"use fewer --layers{smaller} or a smaller --llm"
