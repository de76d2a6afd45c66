"""The memory bill of a training step: its parts, whether it fits, the largest batch, and what would need less. Light.

Its total estimates what the driver shows for the process after some steps (`tests/planning/test_measured_grid.py`).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from timellm_cli.config import Config, flag_of
from timellm_cli.counts import count_patches
from timellm_cli.llm_files import NO_LLM
from timellm_cli.planning import activation_bytes, day_map_bytes, shared_bytes, weight_bytes
from timellm_cli.planning.case import Case, Part
from timellm_cli.planning.code_path import why_not_decoder
from timellm_cli.planning.days_case import DaysCase
from timellm_cli.planning.duration import Speed, step_seconds, step_work
from timellm_cli.planning.hardware import Machine, recognise
from timellm_cli.planning.llm_shape import LLMShape, look_up_llm
from timellm_cli.planning.prompt_tokens import Prompt, read_prompt
from timellm_cli.units import parse_memory


@dataclass(frozen=True)
class Bill:
    """The parts of the memory that a run needs at the worst moment of a step, or of loading the LLM."""

    parts: tuple[Part, ...]

    @property
    def total(self) -> int:
        """Bytes in all."""
        return sum(part.bytes for part in self.parts)

    @property
    def without_reading(self) -> int:
        """Bytes of a step alone. The lines of the days are read before it, whatever the batch size is."""
        return self.total - self["reading"]

    def __getitem__(self, key: str) -> int:
        return next((part.bytes for part in self.parts if part.key == key), 0)


def our_bill(case: Case) -> Bill:
    """What a step takes here: compact mapping, prompt read without gradients."""
    trained = weight_bytes.trainable_parts(weight_bytes.trainable_tensors(case), case.optimizer)
    if case.average:
        trained.append(Part("average", "average of the weights", trained[0].bytes, trained[0].how))
    if case.accumulate > 1:
        gradients = next(part for part in trained if part.key == "gradients")
        # A step that runs out of memory restores them and starts again in halves.
        trained.append(Part("gathered", "gradients gathered before", gradients.bytes, gradients.how))
    if not case.keeps_gradients:
        trained = [part for part in trained if part.key != "gradients"]
    frozen = [*weight_bytes.frozen_parts(case), weight_bytes.fitted_shortcut(case), day_map_bytes.fixed(case)]
    passing = [*activation_bytes.step_parts(case), day_map_bytes.activations(case)]
    parts = [*frozen, *trained, shared_bytes.gradient_row(case), *passing]
    step, most = sum(part.bytes for part in parts), weight_bytes.loading_bytes(case)
    how = f"{most:,} bytes, more than the {step:,} of a step"
    parts.append(Part("loading", "loading the LLM", max(most - step, 0), how))
    most, reading = max(most, step), day_map_bytes.reading_bytes(case)
    how = f"once, with its LLM: {reading:,} bytes, more than the {most:,} of the rest"
    return _add_up(case, [*parts, Part("reading", "reading the lines", max(reading - most, 0), how)])


def _add_up(case: Case, parts: list[Part]) -> Bill:
    """The bill of these parts, with what the allocator and CUDA itself take beside them."""
    every = (*parts, weight_bytes.allocator(case, parts), weight_bytes.context(case), shared_bytes.connections(case))
    return Bill(tuple(part for part in every if part.bytes))


def scoring_bill(case: Case) -> Bill:
    """The bill of forecasts without training: nothing is kept for a backward pass."""
    weights = sum(weight_bytes.trainable_tensors(case).values())
    trained = Part("trainable_weights", "trainable weights", 4 * weights, f"{weights:,} weights x 4 bytes")
    frozen = [*weight_bytes.frozen_parts(case), weight_bytes.fitted_shortcut(case), day_map_bytes.fixed(case)]
    passing = [*activation_bytes.scoring_parts(case), day_map_bytes.activations(case)]
    return _add_up(case, [*frozen, trained, *passing])


def plain_bill(case: Case, prompt: int) -> Bill | None:
    """The least that the same step needs in the published implementation; None without an LLM, which it cannot do.

    Its mapping reads the whole vocabulary: U x V weights in float32 with gradient and Adam states, and a 16-bit copy
    that mixed precision makes. Its prompt has `prompt` tokens, because it prints every digit; they keep activations as
    patches do. Attention is computed step by step because its weights are returned (`output_attentions=True`).
    """
    if case.shape is None:
        return None
    shape, tokens, mapping = case.shape, prompt + case.patches, case.model.num_prototypes * case.shape.vocab
    # It keeps fp16 numbers between its products, where ours are float32: as many bytes as in bf16.
    precision = "bf16" if case.precision == "fp16" else case.precision
    case = replace(case, decoder=False, captured=False, precision=precision, days=None, others=0)
    layer = activation_bytes.layer_token_bytes(case, shape, tokens, eager=True)
    copied = mapping * case.number_bytes if case.number_bytes < 4 else 0
    parts = [
        *(part for part in weight_bytes.frozen_parts(case) if part.key != "prototype_factor"),
        *weight_bytes.trainable_parts(weight_bytes.trainable_tensors(case) | {"mapping": mapping}, "adam"),
        Part("mapping_copy", "mapping in 16 bits", copied, f"{mapping:,} weights x {case.number_bytes} bytes"),
        activation_bytes.reprogramming_activations(case),
        Part(
            "token_activations", "activations of all tokens", case.batch * tokens * case.layers * layer,
            f"{case.batch} samples x {tokens} tokens x {case.layers} layers x {layer:,} bytes",
        ),
        activation_bytes.workspace(case),
        weight_bytes.matrix_products(case),
    ]  # fmt: skip
    return _add_up(case, parts)


def largest_batch(case: Case, budget: int, limit: int) -> int:
    """The most samples of a step that fit into `budget` bytes, `limit` at most; 0 if not even one fits."""
    return _largest(lambda batch: our_bill(replace(case, batch=batch)).without_reading <= budget, limit)


def largest_scoring_batch(case: Case, budget: int, limit: int = 256) -> int:
    """The most samples that can be forecast at a time in `budget` bytes, `limit` at most; 0 if none fits."""
    return _largest(lambda batch: scoring_bill(replace(case, batch=batch)).total <= budget, limit)


def _largest(fits: Callable[[int], bool], limit: int) -> int:
    low, high = 0, 1
    while high < limit and fits(high):
        low, high = high, 2 * high
    high = min(high, limit)
    if fits(high):
        return high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


SAFE_SHARE = 0.9
"""Share of the memory to plan with; the rest is for fragmentation and for what the bill leaves out."""


@dataclass(frozen=True)
class Memory:
    """The bill and the memory there is. `budget` is in bytes, None where no card is known; then there is no verdict.

    `source` says whose it is: 'hardware.vram', or what is free on the card of that name or of the 'RAM'. `plain` is the
    published implementation's bill. Where recompute is 'auto', `largest_batch` may recompute layers, and
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
    days: DaysCase | None = None,
) -> Memory:
    """The bill of a resolved configuration and the memory there is; no batch can be larger than `most`.

    `may_recompute`: a larger batch may have its layers computed again, whatever this one has. `days` is the day map
    where its data are known.
    """
    case = Case.of(config, shape, prompt.tokens, machine.gpu, days)
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


def predict(config: Config, machine: Machine, days: DaysCase | None = None) -> Bill | None:
    """The bill of a step of a resolved configuration whose prompt can be read; None for an LLM of unknown size.

    `days` is the day map that the run has.
    """
    shape = look_up_llm(config.llm.name)
    if not is_sized(config, shape):
        return None
    return our_bill(Case.of(config, shape, read_prompt(config, shape).tokens, machine.gpu, days))


def find_budget(config: Config, machine: Machine) -> tuple[int | None, str | None]:
    """Bytes that a resolved run may use, and the name of that memory; None where no card is known."""
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


def how_to_need_less(config: Config, memory: Memory) -> str:
    """What to change where a run does not fit."""
    largest = memory.largest_batch
    if memory.budget is not None and memory.bill.without_reading <= memory.budget:
        return "use --text-reader columns, a smaller --text-llm or fewer --text-layers: reading the text takes most"
    if largest:
        return f"use --batch-size {largest} or less, or auto"
    if config.llm.name == NO_LLM:
        return "use a smaller --d-model, --d-ff or --seq-len"
    smaller = "" if config.llm.quantization == "nf4" or config.hardware.device == "cpu" else ", --quantization nf4"
    return f"use fewer --layers{smaller} or a smaller --llm"


_MODEL_KEYS = {"llm.layers", "window.seq_len", "model.patch_stride"}


@dataclass(frozen=True)
class Saving:
    """A change as flags of the command line. `same_model`: what is learned stays the same, up to rounding.

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


def find_savings(
    config: Config, machine: Machine, shape: LLMShape | None, most: int, days: DaysCase | None = None
) -> list[Saving]:
    """Changes to a resolved configuration whose prompt can be read, each by itself; a batch has `most` samples at most.

    First those that leave the model as it is. `days` is the day map where its data are known.
    """
    prompt = read_prompt(config, shape)
    before = weigh(config, machine, shape, prompt, most, days=days).bill.total
    usual = _sample_cost(Case.of(config, shape, prompt.tokens, machine.gpu, days), machine)
    savings = []
    for change in _changes(config, shape):
        changed = config.with_values(change)
        prompt = read_prompt(changed, shape)
        memory = weigh(changed, machine, shape, prompt, most, days=days)
        cost = _sample_cost(Case.of(changed, shape, prompt.tokens, machine.gpu, days), machine)
        same = not change.keys() & _MODEL_KEYS
        flags = " ".join(f"{flag_of(key)} {value}" for key, value in change.items())
        savings.append(Saving(flags, before, memory.bill.total, memory.fits, memory.largest_batch, cost / usual, same))
    return savings


def _changes(config: Config, shape: LLMShape | None) -> Iterator[Mapping[str, Any]]:
    window, model, llm, train = config.window, config.model, config.llm, config.train
    on_gpu = config.hardware.device == "cuda"
    if train.batch > 1:
        yield {"train.batch_size": train.batch // 2, "train.accumulate": 2 * train.accumulate}
    if on_gpu and config.hardware.recompute == "off" and why_not_decoder(llm) is None:
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
