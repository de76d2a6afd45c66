"""The memory bill of a training step, part by part, here and in the published implementation; the largest batch. Light.

Its total is what the driver shows as taken by the process after some steps (`tests/planning/test_measured_grid.py`).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from timellm_cli.planning.activation_bytes import (
    layer_token_bytes,
    reprogramming_activations,
    scoring_parts,
    step_parts,
    workspace,
)
from timellm_cli.planning.case import Case, Part
from timellm_cli.planning.device_bytes import allocator, context, matrix_products
from timellm_cli.planning.weight_bytes import frozen_parts, loading_bytes, trainable_parts, trainable_tensors


@dataclass(frozen=True)
class Bill:
    """The parts of what a run takes of the memory at the worst moment of a step, or of loading the LLM."""

    parts: tuple[Part, ...]

    @property
    def total(self) -> int:
        """Bytes in all."""
        return sum(part.bytes for part in self.parts)

    def __getitem__(self, key: str) -> int:
        return next((part.bytes for part in self.parts if part.key == key), 0)


def our_bill(case: Case) -> Bill:
    """What a step takes here: compact mapping, prompt read without gradients."""
    trained = trainable_parts(trainable_tensors(case), case.optimizer)
    if case.average:
        trained.append(Part("average", "average of the weights", trained[0].bytes, trained[0].how))
    if case.accumulate > 1:
        gradients = next(part for part in trained if part.key == "gradients")
        # A step that memory does not do for goes back to them and starts again in halves.
        trained.append(Part("gathered", "gradients gathered before", gradients.bytes, gradients.how))
    if not case.keeps_gradients:
        trained = [part for part in trained if part.key != "gradients"]
    parts = [*frozen_parts(case), *trained, *step_parts(case)]
    parts = [*parts, _loading(case, parts), allocator(case, parts), context(case)]
    return Bill(tuple(part for part in parts if part.bytes))


def _loading(case: Case, parts: list[Part]) -> Part:
    """What loading takes more than a step."""
    step, most = sum(part.bytes for part in parts), loading_bytes(case)
    return Part("loading", "loading the LLM", max(most - step, 0), f"{most:,} bytes, more than the {step:,} of a step")


def scoring_bill(case: Case) -> Bill:
    """What forecasts of a batch take where no training goes on: nothing is kept for a backward pass."""
    weights = sum(trainable_tensors(case).values())
    trained = Part("trainable_weights", "trainable weights", 4 * weights, f"{weights:,} weights x 4 bytes")
    parts = [*frozen_parts(case), trained, *scoring_parts(case)]
    parts = [*parts, allocator(case, parts), context(case)]
    return Bill(tuple(part for part in parts if part.bytes))


def plain_bill(case: Case, prompt: int) -> Bill | None:
    """What the same step takes at least in the published implementation; None without an LLM, which it cannot do.

    Its mapping reads the whole vocabulary: U x V weights in float32 with gradient and Adam states, and a 16-bit copy
    that mixed precision makes. Its prompt has `prompt` tokens, for it prints every digit; they keep activations as
    patches do, and attention is computed step by step because its weights are asked for (`output_attentions=True`).
    """
    if case.shape is None:
        return None
    shape, tokens, mapping = case.shape, prompt + case.patches, case.model.num_prototypes * case.shape.vocab
    case = replace(case, decoder=False, captured=False)
    layer = layer_token_bytes(case, shape, tokens, eager=True)
    copied = mapping * case.number_bytes if case.number_bytes < 4 else 0
    parts = [
        *(part for part in frozen_parts(case) if part.key != "prototype_factor"),
        *trainable_parts(trainable_tensors(case) | {"mapping": mapping}, "adam"),
        Part("mapping_copy", "mapping in 16 bits", copied, f"{mapping:,} weights x {case.number_bytes} bytes"),
        reprogramming_activations(case),
        Part(
            "token_activations", "activations of all tokens", case.batch * tokens * case.layers * layer,
            f"{case.batch} samples x {tokens} tokens x {case.layers} layers x {layer:,} bytes",
        ),
        workspace(case),
        matrix_products(case),
    ]  # fmt: skip
    parts = [*parts, allocator(case, parts), context(case)]
    return Bill(tuple(part for part in parts if part.bytes))


def largest_batch(case: Case, budget: int, limit: int) -> int:
    """The most samples a step may hold within `budget` bytes, `limit` at most; 0 if not even one fits."""
    return _largest(lambda batch: our_bill(replace(case, batch=batch)).total <= budget, limit)


def largest_scoring_batch(case: Case, budget: int, limit: int = 256) -> int:
    """The most samples that may be forecast at a time within `budget` bytes, `limit` at most; 0 if none fits."""
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
