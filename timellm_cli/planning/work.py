"""What a GPU has to do for a step: operations, and bytes moved to and from its memory. Light.

Counted from `model/llm/decoder_layer.py`; another LLM is taken to do the same in its own passes. What elementwise
operations read and write is counted as fused ones do it.

Letters: B samples, S prompt tokens read at every step, P patches, C all tokens of a sample, E hidden size, I width of
the MLP, U prototypes.
"""

from dataclasses import dataclass

from timellm_cli.planning.case import Case
from timellm_cli.planning.llm_shape import LLMShape
from timellm_cli.planning.weight_bytes import trainable_tensors

TF32 = 2
"""Trainable parts multiply in TF32 beside an LLM in 16 bits: at half the rate of 16-bit numbers, on any card."""

UPDATE_BYTES = 28
"""What an update of one weight by Adam reads and writes: weight and two moments, twice each, and the gradient."""


@dataclass(frozen=True)
class Work:
    """`products` and `attention` are operations in 16-bit numbers, those of attention apart for they are slower."""

    products: float = 0.0
    attention: float = 0.0
    bytes: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        return Work(self.products + other.products, self.attention + other.attention, self.bytes + other.bytes)

    def __mul__(self, times: float) -> "Work":
        return Work(times * self.products, times * self.attention, times * self.bytes)


def step_work(case: Case) -> Work:
    """Forward and backward pass of a batch, and an update of the weights."""
    weights = sum(trainable_tensors(case).values())
    work = _trainable_parts(case, backward=True) + Work(bytes=weights * UPDATE_BYTES / case.accumulate)
    if case.shape is None:
        return work
    patches, all_tokens = case.patches, case.tail + case.patches
    if not case.reads_in_two_passes:
        return work + _forward(case, case.shape, all_tokens) + _backward(case, case.shape, all_tokens)
    if case.decoder:
        forward = _forward(case, case.shape, all_tokens, last=patches)
    else:
        forward = _forward(case, case.shape, case.tail) + _forward(case, case.shape, patches)
    return work + forward + _backward(case, case.shape, patches)


def scoring_work(case: Case) -> Work:
    """The forward pass of a batch."""
    work = _trainable_parts(case, backward=False)
    if case.shape is None:
        return work
    return work + _forward(case, case.shape, case.tail + case.patches, last=case.patches if case.decoder else None)


def _forward(case: Case, shape: LLMShape, tokens: int, last: int | None = None) -> Work:
    """All layers read so many tokens of each sample; after its keys and values the last one goes on with `last`."""
    layer = _layer(case, shape, tokens, tokens)
    return layer * (case.layers - 1) + _layer(case, shape, tokens, tokens if last is None else last)


def _layer(case: Case, shape: LLMShape, tokens: int, going_on: int) -> Work:
    rows, rest = case.batch * tokens, case.batch * going_on
    inside = sum(linear.weights for linear in shape.linears if linear.name in ("q", "k", "v", "qkv"))
    queries, keys = shape.heads * shape.head_dim, 2 * shape.kv_heads * shape.head_dim
    moved = rows * (3 * shape.hidden + 3 * (queries + keys))
    moved += rest * (7 * shape.hidden + 5 * queries + 2 * shape.kept_in_mlp * shape.intermediate)
    return Work(
        products=2 * (rows * inside + rest * (shape.linear_weights - inside)),
        attention=4 * rest * queries * case.context,
        bytes=case.number_bytes * moved + _weights_read(case, shape),
    )


def _backward(case: Case, shape: LLMShape, tokens: int) -> Work:
    """The gradient of so many tokens of each sample through all layers; of a frozen matrix there is none."""
    rows, queries = case.batch * tokens, shape.heads * shape.head_dim
    keys = 2 * shape.kv_heads * shape.head_dim
    down = shape.linears[-1].weights
    moved = rows * (12 * shape.hidden + 14 * queries + 8 * keys + 8 * shape.intermediate)
    layer = Work(
        products=2 * rows * shape.linear_weights,
        attention=4 * 3.5 * rows * queries * case.context,
        bytes=case.number_bytes * moved + _weights_read(case, shape),
    )
    if case.recompute:  # all but the last matrix of the MLP
        layer += Work(products=2 * rows * (shape.linear_weights - down))
    return layer * case.layers


def _weights_read(case: Case, shape: LLMShape) -> float:
    """A quantized matrix is read, written out in full and read again; another is read."""
    full = case.number_bytes * shape.linear_weights
    kept = {"nf4": 0.5, "int8": 1.0, "none": 0.0}[case.quantization] * shape.linear_weights
    return full + (kept + full if case.quantization != "none" else 0)


def _trainable_parts(case: Case, backward: bool) -> Work:
    """Reprogramming with its prototypes, and the head. A backward pass makes two gradients of each product."""
    model, rows = case.model, case.batch * case.patches
    prototypes = model.num_prototypes * case.hidden * ((case.hidden if case.shape else 0) + 2 * case.inner)
    patch = 3 * model.patch_len * model.d_model + model.d_model * case.inner + case.inner * case.hidden
    head = case.batch * model.d_ff * case.patches * case.pred_len
    products = 2 * TF32 * (prototypes + rows * patch + head)
    attention = 4 * rows * case.inner * model.num_prototypes
    moved = 4 * rows * (4 * case.inner + 2 * case.hidden)
    times = (3, 3.5, 3) if backward else (1, 1, 1)
    return Work(times[0] * products, times[1] * attention, times[2] * moved)
