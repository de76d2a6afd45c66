"""Memory that a step adds: what autograd keeps for the backward pass, and what is needed on the way. Light.

Our own decoder's memory is in `decoder_bytes.py`. Here is what autograd keeps in transformers' layers with
`scaled_dot_product_attention`, bitsandbytes' matrices, and frozen weights (a frozen matrix has no gradient that would
need its input, so it keeps none). A test counts the same on real layers. Left out: the keys and values of the constant
head of the prompt, which transformers' layers keep once a run (a few MB).
"""

from dataclasses import replace

from timellm_cli.planning.case import Case, Part
from timellm_cli.planning.decoder_bytes import decoder_parts, decoder_scoring_parts
from timellm_cli.planning.llm_shape import LLMShape
from timellm_cli.planning.weight_bytes import matrix_products


def step_parts(case: Case) -> list[Part]:
    """Everything a step adds to the weights, at the moment when most is allocated."""
    if case.shape is None:
        llm = [_reprogramming_gradients(case)]
    elif case.decoder:
        llm = decoder_parts(case)
    else:
        llm = [llm_activations(case), prompt_keys_values(case), workspace(case)]
    return [reprogramming_activations(case), *llm, matrix_products(case)]


def scoring_parts(case: Case) -> list[Part]:
    """What forecasts add to the weights where nothing is kept for a backward pass.

    Through transformers: the keys and values of all layers, one MLP and with NF4 or int8 one matrix in full numbers.
    Of the trainable parts everything is counted as if it were alive at once.
    """
    llm: list[Part] = []
    if case.decoder:
        llm = decoder_scoring_parts(case)
    elif case.shape:
        shape, tokens = case.shape, case.batch * (case.prompt + case.patches)
        cache = tokens * case.layers * 2 * shape.kv_heads * shape.head_dim if case.shape.causal else 0
        mlp = tokens * (shape.kept_in_mlp * shape.intermediate + 2 * shape.hidden)
        size = case.passing_bytes * (cache + mlp) + _matrix_in_full(case, shape)
        llm = [Part("workspace", "workspace", size, "keys and values of all layers, one MLP")]
    undropped = replace(case, model=case.model.model_copy(update={"dropout": 0.0}))
    return [reprogramming_activations(undropped), *llm, matrix_products(case, trains=False)]


def reprogramming_activations(case: Case) -> Part:
    """Patch embedding, reprogramming attention and head, in float32; on a GPU attention in the LLM's numbers.

    A patch keeps its embedding, its query, what the attention gives in float32 and what the head reads; the prototypes,
    their keys and values are kept once for the batch. Fused attention keeps its output in its own numbers as well, and
    a sum for each head. With dropout the attention weights are computed again in the backward pass, and each number
    that can be dropped keeps a byte. A shortcut keeps its history, and once more the whole periods of it if it has a
    period.
    """
    model, drops = case.model, case.model.dropout > 0
    mask = 1 if drops else 0
    size = case.number_bytes if case.on_gpu else 4
    attention = case.inner * (size + 4)
    if not drops:
        attention += 4 * model.n_heads + (case.inner * size if size < 4 else 0)
    patch = 4 * model.d_model + mask * model.d_model + attention + 4 * model.d_ff
    sample = case.patches * patch + 4 * model.patch_len * (case.patches + 2) + mask * (case.pred_len + 4)
    if model.shortcut != "none":
        sample += 4 * case.seq_len
    if model.shortcut_period:
        sample += 4 * (case.seq_len - case.seq_len % model.shortcut_period)
    prototypes = model.num_prototypes * (4 * case.hidden + 2 * size * case.inner)
    return Part(
        "reprogramming_activations", "activations of reprogramming", case.batch * sample + prototypes,
        f"{case.batch} samples x {case.patches} patches x {sample // case.patches:,} bytes"
        f" + {model.num_prototypes:,} prototypes x {prototypes // model.num_prototypes:,} bytes",
    )  # fmt: skip


def llm_activations(case: Case) -> Part:
    """What every layer keeps of every token that needs a gradient: the patches, or all tokens if read in one pass."""
    assert case.shape is not None
    tokens = case.patches if case.reads_in_two_passes else case.prompt + case.patches
    whom = "patch" if case.reads_in_two_passes else "prompt and patch"
    layer = layer_token_bytes(case, case.shape, case.prompt + case.patches)
    once = _norm_bytes(case, case.shape) + (
        4 * case.passing_bytes * case.shape.head_dim // 2 if case.shape.rotary else 0
    )
    counts = 4 * case.shape.mixture.experts if case.shape.mixture and not _one_by_one(case) else 0
    kept = case.batch * tokens * (case.layers * layer + once) + case.layers * counts
    return Part(
        "patch_activations", f"activations of {whom} tokens", kept,
        f"{case.batch} samples x {tokens} tokens x ({case.layers} layers x {layer:,} + {once:,} bytes)",
    )  # fmt: skip


def layer_token_bytes(case: Case, shape: LLMShape, context: int, eager: bool = False) -> int:
    """What one layer keeps of one token that sees `context` tokens. `eager` computes attention step by step.

    Norms: the input in float32 and its scale (RMS), or the input and two moments (layer norm). Attention: query, key
    and value (repeated to all heads), output, its softmax sum and a row of the mask; step by step instead the
    attention weights in float32 and once more in 16 bits, and what a soft cap's tanh gives. MLP: see `kept_in_mlp`.
    Experts: see `Mixture`.
    int8: the inputs of q/k/v, o, gate/up and down, which bitsandbytes keeps even of frozen matrices.
    """
    size, width = case.passing_bytes, shape.heads * shape.head_dim
    kept = shape.norms * _norm_bytes(case, shape)
    if shape.head_norms:
        kept += 4 * (shape.heads + shape.kv_heads) * (shape.head_dim + 1)
    kept += size * width * (5 if shape.fused_qkv and not eager else 3)
    if eager or shape.soft_cap:
        copies = (4 if size == 4 else 4 + size) + (size if shape.soft_cap else 0)
        kept += shape.heads * context * copies
    else:
        kept += size * width + 4 * shape.heads + size * context
    kept += shape.kept_in_mlp * size * shape.intermediate
    if shape.mixture:
        kept += shape.mixture.token_bytes(shape.hidden, size, one_by_one=_one_by_one(case))
        if shape.mixture.norms_heads:
            kept += 4 * (shape.heads + shape.kv_heads) * shape.head_dim + 8
    if case.quantization == "int8":
        kept += case.number_bytes * (2 * shape.hidden + width + shape.intermediate)
    return kept


def prompt_keys_values(case: Case) -> Part:
    """Keys and values of the prompt, which every layer's backward pass needs, repeated to all heads."""
    assert case.shape is not None
    if not case.reads_in_two_passes:
        return Part("prompt_keys_values", "prompt keys and values", 0, "")
    token = 2 * case.shape.heads * case.shape.head_dim * case.passing_bytes
    return Part(
        "prompt_keys_values", "prompt keys and values", case.batch * case.prompt * case.layers * token,
        f"{case.batch} samples x {case.prompt} tokens x {case.layers} layers x {token:,} bytes",
    )  # fmt: skip


def workspace(case: Case) -> Part:
    """What is needed for a moment, at the worst of three moments.

    The end of the forward pass still holds the cache, whose keys and values are not yet repeated. The start of the
    backward pass holds three gradients as wide as the MLP, and with NF4 or int8 the largest matrix in full numbers. The
    prompt pass holds the same without gradients, but before anything else is kept.
    """
    assert case.shape is not None
    shape, size = case.shape, case.passing_bytes
    matrix = _matrix_in_full(case, shape)
    repeated = shape.heads != shape.kv_heads and case.reads_in_two_passes
    tokens = case.prompt + case.patches
    cache = case.batch * tokens * case.layers * 2 * shape.kv_heads * shape.head_dim * size if repeated else 0
    backward = matrix + 3 * case.batch * case.patches * shape.intermediate * size
    reading = matrix + 3 * case.batch * case.prompt * shape.intermediate * size
    kept = llm_activations(case).bytes if case.reads_in_two_passes else reading
    most = max(cache, backward, reading - kept)
    moment = "the cache of all layers" if most == cache else "gradients of one MLP, one matrix in full numbers"
    return Part("workspace", "workspace", most, moment)


def _reprogramming_gradients(case: Case) -> Part:
    """Without an LLM most is allocated in the attention's backward pass: four tensors as large as its queries."""
    size = 4 * 4 * case.batch * case.patches * case.inner
    return Part("workspace", "workspace", size, "gradients of the reprogramming attention")


def _matrix_in_full(case: Case, shape: LLMShape) -> int:
    """The largest matrix, which bitsandbytes writes out in full numbers."""
    return 0 if case.quantization == "none" else case.number_bytes * max(linear.weights for linear in shape.linears)


def _one_by_one(case: Case) -> bool:
    """Whether experts are computed one after the other: fp16's products are (`fp16_products.py`)."""
    return case.precision == "fp16"


def _norm_bytes(case: Case, shape: LLMShape) -> int:
    return 4 * shape.hidden + 4 if shape.rms_norms else case.passing_bytes * shape.hidden + 8
