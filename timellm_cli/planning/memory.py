"""The memory bill of a run against the memory there is, or is planned for. Light."""

from dataclasses import dataclass
from typing import Literal

from timellm_cli.config import Config
from timellm_cli.llm_files import NO_LLM
from timellm_cli.planning.bill import Bill, largest_batch, our_bill, plain_bill
from timellm_cli.planning.case import Case
from timellm_cli.planning.llm_shape import LLMShape
from timellm_cli.planning.machine import Machine
from timellm_cli.planning.prompt_size import Prompt
from timellm_cli.units import parse_memory


@dataclass(frozen=True)
class Memory:
    """The bill against what there is. `budget` is in bytes, None where no card is known; then there is no verdict.

    `source` says whose it is: 'hardware.vram', or what is free on the card of that name or of the 'RAM'. `plain` is the
    published implementation's bill.
    """

    kind: Literal["GPU", "RAM"]
    bill: Bill
    plain: Bill | None
    budget: int | None
    source: str | None
    largest_batch: int | None

    @property
    def fits(self) -> bool | None:
        """Whether the bill is within the budget."""
        return None if self.budget is None else self.bill.total <= self.budget


def weigh(config: Config, machine: Machine, shape: LLMShape | None, prompt: Prompt, most: int) -> Memory:
    """The bill of a settled configuration against the memory there is; no batch can be larger than `most`."""
    case = Case.of(config, shape, prompt.tokens, machine.gpu)
    budget, source = _find_budget(config, machine)
    return Memory(
        kind="GPU" if case.on_gpu else "RAM",
        bill=our_bill(case),
        plain=plain_bill(case, prompt.published_tokens.total),
        budget=budget,
        source=source,
        largest_batch=None if budget is None else largest_batch(case, budget, most),
    )


def is_sized(config: Config, shape: LLMShape | None) -> bool:
    """Whether a bill can be made: the LLM's size is known, or there is no LLM."""
    return shape is not None or config.llm.name == NO_LLM


def how_to_need_less(config: Config, largest: int | None) -> str:
    """What to change where a run does not fit and `largest` samples would."""
    if largest:
        return f"use --batch-size {largest} or less"
    if config.llm.name == NO_LLM:
        return "use a smaller --d-model, --d-ff or --seq-len"
    smaller = "" if config.llm.quantization == "nf4" or config.hardware.device == "cpu" else ", --quantization nf4"
    return f"use fewer --layers{smaller} or a smaller --llm"


def _find_budget(config: Config, machine: Machine) -> tuple[int | None, str | None]:
    if config.hardware.device == "cpu":
        return machine.ram_free, "RAM"
    if config.hardware.vram is not None:
        return parse_memory(config.hardware.vram), "hardware.vram"
    if machine.gpu:
        return machine.gpu.free_bytes, machine.gpu.name
    return None, None
