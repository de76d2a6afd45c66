"""Memory that a step takes in our own decoder, derived from `model/llm/decoder.py` and `decoder_layer.py`. Light.

What is kept for the backward pass is exact. What is needed on the way is that of the worst of four moments: attention
and MLP of the last layer, in either direction. Each sums up what is alive there at once, as the fused operations of a
GPU allocate it, namely their results alone. Tests hold both against real steps. Left out: what attention's own kernels
use inside, and what a CPU's plain operations need in between.

Letters are those of `decoder_layer.py`: S tokens read (the prompt's tail, then P patches) after Kh of its head.
"""

from dataclasses import dataclass

from timellm_cli.model.llm.choice import WIDE_BYTES
from timellm_cli.planning.case import Case, Part
from timellm_cli.planning.llm_shape import LLMShape


@dataclass(frozen=True)
class Tensors:
    """Sizes of a layer's tensors for the whole batch, in bytes; `tokens` counts those of one sample."""

    case: Case
    shape: LLMShape

    def vectors(self, tokens: int) -> int:
        """B x tokens x E."""
        return self.case.batch * tokens * self.shape.hidden * self.case.number_bytes

    def queries(self, tokens: int) -> int:
        """B x tokens x all query heads; as many as attention gives."""
        return self.case.batch * tokens * self.shape.heads * self.shape.head_dim * self.case.number_bytes

    def keys_values(self, tokens: int) -> int:
        """Keys and values, B x tokens x key-value heads each."""
        return 2 * self.case.batch * tokens * self.shape.kv_heads * self.shape.head_dim * self.case.number_bytes

    def normed_heads(self, tokens: int) -> int:
        """B x tokens x all query heads and key-value heads, in an LLM that norms them; else nothing."""
        return self.queries(tokens) + self.keys_values(tokens) // 2 if self.shape.head_norms else 0

    def places(self, tokens: int) -> int:
        """The mask (G x tokens x C), and cosines and sines in float32."""
        groups = self.shape.heads // self.shape.kv_heads
        mask = groups * tokens * self.case.context * self.case.number_bytes
        return self.case.batch * (mask + 2 * 4 * tokens * self.shape.head_dim)

    def softmax_sums(self, tokens: int) -> int:
        """One float32 for each of attention's rows."""
        return 4 * self.case.batch * tokens * self.shape.heads

    def written_out(self, *names: str) -> int:
        """Matrices in full numbers for as long as they are used; one that is not quantized is used as it is."""
        if self.case.quantization == "none":
            return 0
        return self.case.number_bytes * sum(linear.weights for linear in self.shape.linears if linear.name in names)

    def incoming(self) -> int:
        """The patches' tokens as reprogramming gives them, in float32, and in the LLM's own numbers."""
        size = self.case.number_bytes
        return self.vectors(self.case.patches) * (4 + (size if size < 4 else 0)) // size

    def mlp(self, tokens: int) -> int:
        """What the largest part of the tokens needs in the MLP: what gate and up read and give, what `down` reads."""
        part, _ = self._parts(tokens)
        width, inner = part * self.shape.hidden, part * self.shape.intermediate
        return max(width + self.written_out("gate", "up") + 2 * inner, 3 * inner, inner + self.written_out("down"))

    def mlp_backward(self, tokens: int) -> int:
        """The same in the backward pass, where the gradient of one part is held until that of the next is there.

        Gate and up are computed again with `recompute`, and then their matrix stays for their gradient.
        """
        gate_up, down = self.written_out("gate", "up"), self.written_out("down")

        def most(part: int) -> int:
            width, inner = part * self.shape.hidden, part * self.shape.intermediate
            if self.case.recompute:
                return gate_up + 2 * inner + max(width, down + inner)
            return max(down + inner, gate_up + width)

        first, second = self._parts(tokens)
        return max(most(first), first * self.shape.hidden + most(second) if second else 0)

    def _parts(self, tokens: int) -> tuple[int, int]:
        """Bytes of one number a token, in the first part of the MLP's tokens and in the second."""
        token = tokens * self.case.number_bytes
        samples = min(max(WIDE_BYTES // (2 * self.shape.intermediate * token), 1), self.case.batch)
        return samples * token, min(self.case.batch - samples, samples) * token


def decoder_parts(case: Case) -> list[Part]:
    """What the LLM adds to a training step."""
    moments = forward_moments(case, keeps=True) | backward_moments(case)
    return [patch_activations(case), keys_values(case, case.batch), _workspace(moments)]


def decoder_scoring_parts(case: Case) -> list[Part]:
    """What the LLM adds to forecasts without a backward pass: each layer is read and forgotten."""
    return [keys_values(case, 0), _workspace(forward_moments(case, keeps=False))]


def layer_patch_bytes(case: Case) -> int:
    """What one layer keeps of one patch beside its key and value: what it read, and without recomputation also its
    query, what the MLP read, its gate and up, and where heads are normed, query and key before that.
    """
    shape = _shape(case)
    inside = 0 if case.recompute else shape.heads * shape.head_dim + shape.hidden + 2 * shape.intermediate
    if shape.head_norms and not case.recompute:
        inside += (shape.heads + shape.kv_heads) * shape.head_dim
    return case.number_bytes * (shape.hidden + inside)


def patch_activations(case: Case) -> Part:
    """What all layers keep of the patches."""
    layer = layer_patch_bytes(case)
    again = ", where layers are computed again" if case.recompute else ""
    return Part(
        "patch_activations", "activations of patch tokens", case.batch * case.patches * case.layers * layer,
        f"{case.batch} samples x {case.patches} patches x {case.layers} layers x {layer:,} bytes{again}",
    )  # fmt: skip


def keys_values(case: Case, samples: int) -> Part:
    """Keys and values of the prompts' head, once a run, and of all tokens of so many samples, head included."""
    shape = _shape(case)
    token = 2 * shape.kv_heads * shape.head_dim * case.number_bytes
    return Part(
        "keys_values", "keys and values", (case.prefix + samples * case.context) * case.layers * token,
        f"({case.prefix} + {samples} samples x {case.context}) tokens x {case.layers} layers x {token:,} bytes",
    )  # fmt: skip


def forward_moments(case: Case, keeps: bool) -> dict[str, int]:
    """Bytes alive at once, beyond the weights and what trainable parts keep, by moment.

    The worst layer but the last, which is the one before it, and the last, which reads patches alone after its keys.

    With `keeps`, beside all that layers keep for a backward pass, the last one included.
    """
    shape, patches, tokens = _shape(case), case.patches, case.tail + case.patches
    size = Tensors(case, shape)
    around = size.vectors(tokens) + size.incoming() + size.places(tokens) + size.places(patches)
    context, kept = size.keys_values(case.context), case.batch * patches * layer_patch_bytes(case)
    heads = _reading_heads(size, tokens)
    local = 0 if keeps else context  # keys and values that nobody keeps
    # Before the MLP, a layer keeps what its patches read, and not yet the rest.
    raw = 0 if case.recompute else size.normed_heads(patches)  # which is kept before
    not_yet = kept - size.vectors(patches) - raw + context if keeps else 0
    query, patch_query = size.queries(tokens), size.queries(patches)

    last = max(heads, query + patch_query + size.vectors(patches) + context)
    last = max(last, size.vectors(patches) + _attending(size, patches)) - not_yet
    held = 0 if keeps and not case.recompute else patch_query
    own = 0 if keeps else size.vectors(patches)
    last_mlp = size.vectors(patches) + held + local + size.mlp(patches)
    moments = {"attention of the last layer": around + own + last, "MLP of the last layer": around + own + last_mlp}
    if case.layers > 1:
        after = kept + context if keeps else 0  # the last layer's, which come later
        moments |= {
            "attention of a layer": around - after + max(heads, _attending(size, tokens)) - not_yet,
            "MLP of a layer": around - after + query + local + size.mlp(tokens),
        }
    return moments


def _reading_heads(size: Tensors, tokens: int) -> int:
    """What a layer has at once until queries, keys and values stand apart."""
    qkv = size.queries(tokens) + size.keys_values(tokens)
    norm = size.vectors(tokens) + size.written_out("q", "k", "v")
    return qkv + max(norm, size.queries(tokens) + size.keys_values(size.case.context), 2 * size.normed_heads(tokens))


def _attending(size: Tensors, tokens: int) -> int:
    """Queries of so many tokens, the whole context's keys and values, and what attention gives."""
    sums = size.softmax_sums(tokens)
    return 2 * size.queries(tokens) + size.keys_values(size.case.context) + max(sums, size.written_out("o"))


def backward_moments(case: Case) -> dict[str, int]:
    """As `forward_moments`: the last layer's MLP and its attention, beside all that layers keep.

    With `recompute`, attention is computed again before the MLP's gradient, else after it.
    """
    shape, patches = _shape(case), case.patches
    size = Tensors(case, shape)
    query, own, vectors = size.queries(patches), size.keys_values(patches), size.vectors(patches)
    normed, sums = size.normed_heads(patches), size.softmax_sums(patches)
    # The last layer's result, its gradient, the one before its norm, and that of the MLP's input.
    around = 4 * vectors + size.places(patches)
    mlp, qkv_matrix, out_matrix = size.mlp_backward(patches), size.written_out("q", "k", "v"), size.written_out("o")
    if case.recompute:  # the query, what the MLP read, heads before their norms, and two matrices that are used twice
        around += query + vectors + normed + qkv_matrix + out_matrix
        mlp += query + sums
        qkv_matrix = out_matrix = 0
    gradients = 3 * query + size.keys_values(case.context) + max(2 * sums, query + own)
    merged = query + own + max(2 * vectors, vectors + qkv_matrix, 3 * normed)
    return {
        "gradient of the last layer's MLP": around + mlp,
        "gradient of the last layer's attention": around + max(query + out_matrix, gradients, merged),
    }


def _workspace(moments: dict[str, int]) -> Part:
    worst = max(moments, key=moments.__getitem__)
    return Part("workspace", "workspace", moments[worst], worst)


def _shape(case: Case) -> LLMShape:
    assert case.shape is not None
    return case.shape
