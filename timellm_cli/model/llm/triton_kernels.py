"""The kernels of `triton_ops.py`: what a program of the grid does. The letters are those of `ops.py`.

Arithmetic is in float32. Offsets of rows are 64-bit, so tensors may have more than 2^31 elements; other offsets stay
within a row or a tile. A pointer that is None switches a part of the kernel off when it is compiled. Only constants are
annotated: for an `int`, Triton would not check a value's divisibility, which lets it move 16 bytes at a time.
"""

import triton
import triton.language as tl


@triton.jit
def _last_row(row, tokens, patches):
    """A row's index among the last `patches` tokens of all samples, and whether it is one of them."""
    position = row % tokens - (tokens - patches)
    return row // tokens * patches + position, position >= 0


@triton.jit
def rms_norm_kernel(x, weight, y, last, tokens, patches, x_row, width, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    mask = column < width
    values = tl.load(x + row * x_row + column, mask=mask, other=0)
    if last is not None:
        target, is_last = _last_row(row, tokens, patches)
        tl.store(last + target * width + column, values, mask=mask & is_last)
    wide = values.to(tl.float32)
    rstd = tl.rsqrt(tl.sum(wide * wide) / width + eps)
    scale = tl.load(weight + column, mask=mask, other=0).to(tl.float32)
    tl.store(y + row * width + column, (wide * rstd * scale).to(y.dtype.element_ty), mask=mask)


@triton.jit
def rms_norm_backward_kernel(
    grad_y, x, weight, residual, grad_x, grad_row, x_row, residual_row, width, eps, BLOCK: tl.constexpr
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    mask = column < width
    wide = tl.load(x + row * x_row + column, mask=mask, other=0).to(tl.float32)
    grad = tl.load(grad_y + row * grad_row + column, mask=mask, other=0).to(tl.float32)
    scaled = grad * tl.load(weight + column, mask=mask, other=0).to(tl.float32)
    rstd = tl.rsqrt(tl.sum(wide * wide) / width + eps)
    along = tl.sum(scaled * wide) / width * rstd * rstd
    result = rstd * (scaled - wide * along)
    if residual is not None:
        result += tl.load(residual + row * residual_row + column, mask=mask, other=0).to(tl.float32)
    tl.store(grad_x + row * width + column, result.to(grad_x.dtype.element_ty), mask=mask)


@triton.jit
def _load_halves(pointers, mask, HALF: tl.constexpr):
    first = tl.load(pointers, mask=mask, other=0).to(tl.float32)
    return first, tl.load(pointers + HALF, mask=mask, other=0).to(tl.float32)


@triton.jit
def _store_halves(pointers, first, second, mask, HALF: tl.constexpr):
    tl.store(pointers, first.to(pointers.dtype.element_ty), mask=mask)
    tl.store(pointers + HALF, second.to(pointers.dtype.element_ty), mask=mask)


@triton.jit
def _store_after_prefix(prefix, out, first, second, row, column, prefix_rows, rows, HALF: tl.constexpr):
    """One kv head: the rows of the prompt's prefix, then those of the tokens."""
    offset = row[:, None] * (2 * HALF) + column[None, :]
    inside = (column < HALF)[None, :]
    constant = (row < prefix_rows)[:, None]
    prefix_first, prefix_second = _load_halves(prefix + offset, constant & inside, HALF)
    first, second = tl.where(constant, prefix_first, first), tl.where(constant, prefix_second, second)
    _store_halves(out + offset, first, second, (row < rows)[:, None] & inside, HALF)


@triton.jit
def split_heads_kernel(
    qkv, cos, sin, prefix_keys, prefix_values, query, keys, values, tokens, prefix_tokens, heads, kv,
    qkv_sample, qkv_token, cos_sample, cos_token, HALF: tl.constexpr, PADDED: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """One head of one sample: ROWS rows of its output, as two tiles of HALF columns (padded to a power of two)."""
    head, sample = tl.program_id(1), tl.program_id(2).to(tl.int64)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, PADDED)
    token = row - tl.where(head < heads, 0, prefix_tokens)
    inside = (column < HALF)[None, :]
    mask = ((token >= 0) & (token < tokens))[:, None] & inside
    source = qkv + sample * qkv_sample + head * (2 * HALF) + token[:, None] * qkv_token + column[None, :]
    first, second = _load_halves(source, mask, HALF)
    angle = sample * cos_sample + token[:, None] * cos_token + column[None, :]
    rotated = mask & (head < heads + kv)  # values are not rotated
    c, s = tl.load(cos + angle, mask=rotated, other=1), tl.load(sin + angle, mask=rotated, other=0)
    first, second = first * c - second * s, second * c + first * s
    rows = prefix_tokens + tokens
    if head < heads:
        out = query + (sample * tokens * heads + head) * (2 * HALF)
        _store_halves(out + row[:, None] * (heads * 2 * HALF) + column[None, :], first, second, mask, HALF)
    elif head < heads + kv:
        k = head - heads
        prefix = prefix_keys + k * prefix_tokens * (2 * HALF)
        out = keys + (sample * kv + k) * rows * (2 * HALF)
        _store_after_prefix(prefix, out, first, second, row, column, prefix_tokens, rows, HALF)
    else:
        k = head - heads - kv
        prefix = prefix_values + k * prefix_tokens * (2 * HALF)
        out = values + (sample * kv + k) * rows * (2 * HALF)
        _store_after_prefix(prefix, out, first, second, row, column, prefix_tokens, rows, HALF)


@triton.jit
def merge_heads_kernel(
    query, keys, values, cos, sin, grad_qkv, tokens, heads, kv, query_sample, query_kv, query_row,
    keys_sample, keys_kv, keys_row, values_sample, values_kv, values_row, cos_sample, cos_token,
    HALF: tl.constexpr, PADDED: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """One head of one sample: ROWS tokens of its columns."""
    head, sample = tl.program_id(1), tl.program_id(2).to(tl.int64)
    token = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, PADDED)
    mask = (token < tokens)[:, None] & (column < HALF)[None, :]
    if head < heads:
        row = token * (heads // kv) + head // kv
        source = query + sample * query_sample + (head % kv) * query_kv
        first, second = _load_halves(source + row[:, None] * query_row + column[None, :], mask, HALF)
    elif head < heads + kv:
        source = keys + sample * keys_sample + (head - heads) * keys_kv
        first, second = _load_halves(source + token[:, None] * keys_row + column[None, :], mask, HALF)
    else:
        source = values + sample * values_sample + (head - heads - kv) * values_kv
        first, second = _load_halves(source + token[:, None] * values_row + column[None, :], mask, HALF)
    angle = sample * cos_sample + token[:, None] * cos_token + column[None, :]
    rotated = mask & (head < heads + kv)
    c, s = tl.load(cos + angle, mask=rotated, other=1), tl.load(sin + angle, mask=rotated, other=0)
    width = (heads + 2 * kv) * (2 * HALF)
    out = grad_qkv + sample * tokens * width + head * (2 * HALF) + token[:, None] * width + column[None, :]
    _store_halves(out, first * c + second * s, second * c - first * s, mask, HALF)


@triton.jit
def swiglu_kernel(
    grad_act, gate_up, out, last, tokens, patches, grad_row, gate_up_row, out_row, width, shrink, COLUMNS: tl.constexpr
):  # fmt: skip
    """Forward without a gradient, else backward. `out` may be `gate_up`: one thread reads and writes an element."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    mask = column < width
    source = gate_up + row * gate_up_row + column
    gate, up = tl.load(source, mask=mask, other=0), tl.load(source + width, mask=mask, other=0)
    if last is not None:
        last_row, is_last = _last_row(row, tokens, patches)
        tl.store(last + last_row * 2 * width + column, gate, mask=mask & is_last)
        tl.store(last + last_row * 2 * width + width + column, up, mask=mask & is_last)
    gate, up = gate.to(tl.float32), up.to(tl.float32)
    target = out + row * out_row + column
    sigmoid = tl.sigmoid(gate)
    if grad_act is None:
        tl.store(target, (gate * sigmoid * up * shrink).to(out.dtype.element_ty), mask=mask)
    else:
        grad = tl.load(grad_act + row * grad_row + column, mask=mask, other=0).to(tl.float32)
        grad_gate = grad * up * sigmoid * (1 + gate * (1 - sigmoid))
        tl.store(target, grad_gate.to(out.dtype.element_ty), mask=mask)
        tl.store(target + width, (grad * gate * sigmoid).to(out.dtype.element_ty), mask=mask)


@triton.jit
def dequantize_nf4_kernel(
    packed, absmax, code, nested_absmax, nested_code, offset, out, words,
    WORDS: tl.constexpr, WORDS_A_BLOCK: tl.constexpr, NESTED: tl.constexpr,
):  # fmt: skip
    """A thread makes the 8 weights of a 32-bit word and stores them together: 16 bytes of bf16."""
    start = tl.program_id(0).to(tl.int64) * WORDS
    word = tl.arange(0, WORDS)
    mask = word < words - start
    bits = tl.load(packed + start + word, mask=mask, other=0)
    block = (start + word) // WORDS_A_BLOCK
    scale = tl.load(absmax + block, mask=mask, other=0)
    if nested_absmax is not None:
        nested_scale = tl.load(nested_absmax + block // NESTED, mask=mask, other=0)
        scale = tl.load(nested_code + scale.to(tl.int32)) * nested_scale + tl.load(offset)
    position = tl.arange(0, 8)
    shift = position // 2 * 8 + 4 - position % 2 * 4  # bytes in order, the high half of each first
    weights = tl.load(code + ((bits[:, None] >> shift[None, :]) & 15)) * scale[:, None]
    target = out + start * 8 + word[:, None] * 8 + position[None, :]
    tl.store(target, weights.to(out.dtype.element_ty), mask=mask[:, None])


@triton.jit
def dequantize_int8_kernel(weight, scale, out, weight_row, out_row, width, COLUMNS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    mask = column < width
    values = tl.load(weight + row * weight_row + column, mask=mask, other=0).to(tl.float32)
    values *= tl.load(scale + row) / 127
    tl.store(out + row * out_row + column, values.to(out.dtype.element_ty), mask=mask)
