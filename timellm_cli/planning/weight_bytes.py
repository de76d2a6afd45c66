"""Memory that a run holds from start to end: the LLM, trained weights and their optimizer, the libraries. Light.

The libraries' share was measured on one H100 (`benchmarks/memory_grid.csv`).
"""

import sys

from timellm_cli.model.llm.choice import EMBEDDING_ROWS, INT8_AT_ONCE, NESTED_BLOCK, NF4_BLOCK
from timellm_cli.planning.case import Case, Part
from timellm_cli.planning.decoder_bytes import keys_values
from timellm_cli.planning.decoder_pool import pool_bytes
from timellm_cli.planning.llm_shape import Linear

OPTIMIZER_BLOCK = 256
"""States that share one scale in bitsandbytes' 8-bit optimizers."""
SMALLEST_8BIT = 4096
"""Tensors of fewer weights keep 32-bit states (bitsandbytes' `min_8bit_size`)."""


def frozen_parts(case: Case) -> list[Part]:
    """The LLM and the prototype factor."""
    if case.shape is None:
        return []
    shape, passing = case.shape, case.passing_bytes
    norms = case.layers * (shape.norm_parameters + shape.bias_parameters) + shape.other_parameters
    return [
        linear_weights(case),
        quantization_constants(case),
        embedding(case),
        Part("norms", "norms and biases", norms * passing, f"{norms:,} parameters x {passing} bytes"),
        *_experts(case),
        prototype_factor(case),
    ]  # fmt: skip


def _experts(case: Case) -> list[Part]:
    """The router and experts of a mixture, which no quantization reaches; nothing for any other LLM."""
    assert case.shape is not None
    count, size = case.layers * case.shape.expert_parameters, case.number_bytes
    how = f"{case.layers} layers x {case.shape.expert_parameters:,} parameters x {size} bytes (never quantized)"
    return [Part("experts", f"experts, {8 * size}-bit", count * size, how)] if count else []


def loading_bytes(case: Case) -> int:
    """The most that our own decoder has allocated while its last layer is loaded (`model/llm/decoder_loading.py`).

    Beside the layers, gate and up lie there as they are in the LLM's file while `down` is copied; or, for int8, some of
    their rows in float32 twice. Another LLM is loaded matrix by matrix, which takes less.
    """
    if not case.decoder or case.shape is None:
        return 0
    *_, gate_up, down = (linear.weights for linear in matrices(case))
    size = case.number_bytes if case.quantization == "none" else case.shape.file_bytes_per_weight
    layers = sum(part.bytes for part in frozen_parts(case) if part.key != "prototype_factor")
    of_weight = linear_weights(case).bytes / (case.layers * case.shape.linear_weights)
    copied = size * (gate_up + 2 * down) - of_weight * (gate_up if case.quantization == "none" else 0)
    in_float32 = size * gate_up + 2 * 4 * min(gate_up, INT8_AT_ONCE) if case.quantization == "int8" else 0
    return int(layers - of_weight * down + max(copied, in_float32))


def embedding(case: Case) -> Part:
    """The table of token embeddings, never quantized.

    Our own decoder reads it from its file: on a CPU in the file's numbers; on a GPU only the rows that prompts use, and
    for every word the number of its row.
    """
    assert case.shape is not None
    count, size = case.shape.embedding_parameters, case.number_bytes
    if case.decoder and case.on_gpu:
        rows = EMBEDDING_ROWS * case.hidden * size
        vocab = case.shape.vocab
        how = f"{EMBEDDING_ROWS:,} rows x {case.hidden:,} x {size} bytes, and {vocab:,} row numbers x 8 bytes"
        return Part("embedding", "embedding of prompts", rows + 8 * vocab, how)
    size = case.shape.file_bytes_per_weight if case.decoder else size
    how = f"{count:,} parameters x {size} bytes (never quantized)"
    return Part("embedding", f"embedding, {8 * size}-bit", count * size, how)


def matrices(case: Case) -> tuple[Linear, ...]:
    """The matrices of a layer as they are kept: our own decoder makes one of q, k and v, and one of gate and up."""
    assert case.shape is not None
    if not case.decoder:
        return case.shape.linears
    q, k, v, out, gate, up, down = case.shape.linears
    return _join("qkv", q, k, v), out, _join("gate_up", gate, up), down


def _join(name: str, *linears: Linear) -> Linear:
    return Linear(name, linears[0].inputs, sum(linear.outputs for linear in linears), linears[0].bias)


def linear_weights(case: Case) -> Part:
    """The matrices of the layers: half a byte a weight in NF4, one in int8, else the size of a number."""
    assert case.shape is not None
    weights = case.layers * case.shape.linear_weights
    bits = {"nf4": 4, "int8": 8, "none": 8 * case.number_bytes}[case.quantization]
    count = f"{case.layers} layers x {case.shape.linear_weights:,} weights"
    return Part("linear_weights", f"linear weights, {bits}-bit", weights * bits // 8, f"{count} x {bits / 8:g} bytes")


def quantization_constants(case: Case) -> Part:
    """The scales that turn small integers back into numbers.

    NF4: one float32 for 64 weights; under double quantization one byte for 64 weights, and one float32 for 256 of those
    bytes, so 0.127 instead of 0.5 bit a weight; each matrix adds its code books (16 and 256 float32) and an offset.
    int8: one float32 for each output row (Dettmers et al., LLM.int8(), 2022).
    """
    size, how = 0, ""
    for linear in matrices(case):
        blocks = -(-linear.weights // NF4_BLOCK)
        if case.quantization == "nf4" and case.double_quant:
            size += blocks + 4 * -(-blocks // NESTED_BLOCK) + 4 * (16 + 256 + 1)
            how = f"1 byte for {NF4_BLOCK} weights, 4 bytes for {NESTED_BLOCK} of those, and code books"
        elif case.quantization == "nf4":
            size += 4 * (blocks + 16)
            how = f"4 bytes for {NF4_BLOCK} weights, and a code book"
        elif case.quantization == "int8":
            size += 4 * linear.outputs
            how = "4 bytes for each output row"
    return Part("quantization_constants", "quantization constants", case.layers * size, how)


def prototype_factor(case: Case) -> Part:
    """R of E x E in float32: all that prototypes need of the vocabulary (see `VocabularyPrototypes`)."""
    return Part(
        "prototype_factor", "prototype factor", 4 * case.hidden**2, f"{case.hidden:,} x {case.hidden:,} x 4 bytes"
    )


def trainable_tensors(case: Case) -> dict[str, int]:
    """Weights of every trained tensor, by name. The mapping is compact: U x E instead of U x vocabulary."""
    model, hidden, inner = case.model, case.hidden, case.inner
    return {
        "patch embedding": 3 * model.patch_len * model.d_model,
        "mapping": model.num_prototypes * hidden,
        **({"mapping bias": model.num_prototypes} if case.shape else {}),
        "query": model.d_model * inner, "query bias": inner,
        "key": hidden * inner, "key bias": inner,
        "value": hidden * inner, "value bias": inner,
        "out": inner * hidden, "out bias": hidden,
        "head": model.d_ff * case.patches * case.pred_len, "head bias": case.pred_len,
        **_shortcut_tensors(case),
        **(case.days.trained(case.seq_len) if case.days else {}),
    }  # fmt: skip


def _shortcut_tensors(case: Case) -> dict[str, int]:
    if case.model.shortcut == "none":
        return {}
    tensors = {"shortcut": case.seq_len * case.pred_len, "shortcut bias": case.pred_len}
    if period := case.model.shortcut_period:
        tensors["shortcut smoothing"] = 1 + 2 * (period // 2)
        tensors["shortcut periods"] = (case.seq_len // period) * -(-case.pred_len // period)
    return tensors


def fitted_shortcut(case: Case) -> Part:
    """The linear map in closed form that a fitted shortcut starts from."""
    count = case.seq_len * case.pred_len if case.model.shortcut == "fitted" else 0
    how = f"{case.seq_len:,} rows x {case.pred_len:,} steps x 4 bytes, frozen"
    return Part("fitted_shortcut", "linear map of the shortcut", 4 * count, how)


def trainable_parts(tensors: dict[str, int], optimizer: str) -> list[Part]:
    """Weights and gradients in float32, and the two moments that Adam keeps of every gradient."""
    count = sum(tensors.values())
    eight_bit = "8bit" in optimizer
    states = sum(_adam_states(weights, eight_bit) for weights in tensors.values())
    of_shortcut = sum(weights for name, weights in tensors.items() if name.startswith("shortcut"))
    shortcut = f", {of_shortcut:,} of them in the shortcut" if of_shortcut else ""
    rule = f"2 moments x {count:,} x 4 bytes"
    if eight_bit:
        rule = f"2 moments x {count:,} x 1 byte, and 4 bytes for {OPTIMIZER_BLOCK} of them"
    return [
        Part("trainable_weights", "trainable weights", 4 * count, f"{count:,} weights x 4 bytes{shortcut}"),
        Part("gradients", "gradients", 4 * count, f"{count:,} weights x 4 bytes"),
        Part("optimizer_states", f"optimizer states ({optimizer})", states, rule),
    ]


def _adam_states(weights: int, eight_bit: bool) -> int:
    if not eight_bit or weights < SMALLEST_8BIT:
        return 2 * 4 * weights
    return 2 * (weights + 4 * -(-weights // OPTIMIZER_BLOCK))


CUBLAS_WORKSPACE = {9: 32 * 2**20, None: 8_519_680}
"""Bytes that PyTorch allocates for cuBLAS, by CUDA's major version of the card: 32 MiB on Hopper, else 8.125 MiB."""

MULTIPROCESSORS = 84
"""Those of an unknown card: as many as an RTX 3090 has, more than most have."""

CONTEXT_OF_A_MULTIPROCESSOR, KERNELS = 7 * 2**19, 309 * 2**20
"""What the driver sets aside for each multiprocessor, and the code that PyTorch, bitsandbytes and Triton load.

Together 771 MiB on an H100 (132 of them), measured after some steps that are not recorded. How it divides is a guess.
"""

MORE_OF_A_MULTIPROCESSOR, RECORDINGS = 2**19, 4 * 2**20
"""What the first recorded step adds: 70 MiB on an H100. LLM.int8's products in transformers add the first part, too."""

CPU_PROCESS = 590 * 2**20
"""Python with torch for CPUs, transformers and matplotlib loaded: measured on Linux, without an LLM, as 603 MiB.

Left out: pages of the LLM's file that its layers were read from. They count as resident until the system needs room.
"""


def matrix_products(case: Case, trains: bool = True) -> Part:
    """The workspaces of cuBLAS, one for each stream and thread that multiplies, which stay.

    Forward and backward pass run in two threads. Recorded steps have a stream of their own, beside the one in which the
    prefix was read.
    """
    count = (1 + trains if case.on_gpu else 0) + (case.captured and case.prefix > 0)
    major = case.capability[0] if case.capability else None
    size = CUBLAS_WORKSPACE.get(major, CUBLAS_WORKSPACE[None])
    return Part("matrix_products", "workspaces of cuBLAS", count * size, f"{count} x {size:,} bytes")


def allocator(case: Case, parts: list[Part], in_one_piece: bool | None = None) -> Part:
    """Fragmentation: memory that PyTorch reserves and cannot use, between tensors that stay.

    A recorded step keeps it for good. `in_one_piece`: memory grows in expandable segments, as on Linux
    (`processes.allocator`); elsewhere fragmentation is larger, and this estimate is rough.
    """
    if not case.on_gpu:
        return Part("allocator", "fragmentation", 0, "")
    if in_one_piece is None:
        in_one_piece = sys.platform == "linux"
    sizes = {part.key: part.bytes for part in parts}
    passing, weights = sizes.get("workspace", 0), sizes.get("linear_weights", 0)
    kept = sum(sizes.get(key, 0) for key in _KEPT)
    if not case.captured:
        mib = 33 if in_one_piece else 64
        size, how = mib * 2**20 + passing // 7, f"{mib} MiB and a seventh of the workspace"
    elif in_one_piece and "patch_activations" in sizes:
        pool = pool_bytes(case, sizes["reprogramming_activations"])
        counted = kept + passing - keys_values(case, 0).bytes  # of the prefix, which lie outside
        size = _OUTSIDE_THE_POOL + weights // 50 + max(pool - counted, 0)
        how = f"{_OUTSIDE_THE_POOL:,} bytes, a part in 50 of the weights, and holes in a pool of {pool:,} bytes"
    elif in_one_piece:
        size = 24 * 2**20 + passing // 5 + kept // 28 + weights // 50
        how = "24 MiB, a fifth of the workspace, a part in 28 of what layers keep, in 50 of the weights"
    else:
        size = 64 * 2**20 + passing // 3 + kept // 12 + weights // 20
        how = "64 MiB, a third of the workspace, a part in 12 of what layers keep, in 20 of the weights"
    return Part("allocator", "fragmentation", size, how)


_OUTSIDE_THE_POOL = 48 * 2**20
"""What two streams leave free of their segments of 20 and 2 MiB beside the weights; calibrated as said above."""

_KEPT = ("patch_activations", "keys_values", "prompt_keys_values", "reprogramming_activations")


def context(case: Case) -> Part:
    """Memory in use before the first tensor."""
    if not case.on_gpu:
        return Part("process", "Python and its libraries", CPU_PROCESS, "rough")
    count = case.multiprocessors or MULTIPROCESSORS
    kernels, each = KERNELS, CONTEXT_OF_A_MULTIPROCESSOR
    if case.captured:
        kernels, each = kernels + RECORDINGS, each + MORE_OF_A_MULTIPROCESSOR
    if case.quantization == "int8" and not case.decoder:
        each += MORE_OF_A_MULTIPROCESSOR
    how = f"{kernels:,} bytes of kernels and {each:,} bytes x {count} multiprocessors"
    size = kernels + count * each
    return Part("cuda_context", "CUDA context", size, how)
