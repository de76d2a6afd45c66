"""Dropout that is drawn for each sample from a key of its own.

The key follows from the seed, the step and the sample. So what is dropped does not depend on where a sample stands in a
batch, on the pieces that the batch is cut into, or on how many processes share it. Which numbers are dropped is
computed from key and place by integer arithmetic, the same on a CPU and a GPU, and inside a CUDA graph.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import dropout, scaled_dot_product_attention, softmax
from torch.utils.checkpoint import checkpoint

EMBEDDING, HEAD, ATTENTION = 1, 2, 3
"""The places of the model that drop. Each draws from the same key, but not the same numbers."""

_FIRST, _SECOND = 0x7FEB352D, 0x846CA68B - 2**32
"""Odd factors that mix well (Chris Wellons' lowbias32)."""
_AT_ONCE = 2**22
"""So many attention weights are computed at a time: they stay in the cache of a GPU, and memory stays small."""


def make_keys(seed: int, step: int, channel_B: Tensor, start_B: Tensor) -> Tensor:
    """The key of each sample (B, int32) in one step; channel and first row say which sample it is."""
    with np.errstate(over="ignore"):
        key_B = np.full(len(channel_B), seed, dtype=np.uint64)
        for part in (np.uint64(step), channel_B.numpy().astype(np.uint64), start_B.numpy().astype(np.uint64)):
            key_B = _splitmix(key_B ^ part)
    return torch.from_numpy((key_B >> np.uint64(32)).astype(np.uint32).view(np.int32))


def _splitmix(value_B: np.ndarray) -> np.ndarray:
    """One draw of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    value_B = value_B + np.uint64(0x9E3779B97F4A7C15)
    value_B = (value_B ^ (value_B >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value_B = (value_B ^ (value_B >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value_B ^ (value_B >> np.uint64(31))


def drop(values_BN: Tensor, key_B: Tensor | None, rate: float, place: int) -> Tensor:
    """Set a share `rate` of each sample's numbers (B x ...) to 0 and scale the others up. Without keys, torch draws."""
    if key_B is None:
        return dropout(values_BN, rate)
    if rate == 0:
        return values_BN
    shape = values_BN.shape
    numbers_N = torch.arange(-(-shape[1:].numel() // 2), device=values_BN.device, dtype=torch.int32)
    dropped_BN = _dropped(key_B.unsqueeze(1), numbers_N, rate, place)[:, : shape[1:].numel()]
    return values_BN.masked_fill(dropped_BN.reshape(shape), 0.0) * (1 / (1 - rate))


def attend(query: Tensor, key: Tensor, value: Tensor, key_B: Tensor | None, rate: float) -> Tensor:
    """Attention with dropout on its weights: softmax(q k' / sqrt(F)) v.

    `query` is 1 x heads x (B * P) x F, the patches of B samples, `key` and `value` 1 x heads x U x F. With keys nothing
    but these is kept for the backward pass, which computes the weights again.
    """
    if key_B is None or rate == 0:
        return scaled_dot_product_attention(query, key, value, dropout_p=rate)
    heads, rows, prototypes = query.shape[1], query.shape[2], key.shape[2]
    at_once = max(_AT_ONCE // (rows * prototypes), 1)
    parts = []
    for first in range(0, heads, at_once):
        own = [tensor[0, first : first + at_once] for tensor in (query, key, value)]
        part = checkpoint(_attend, *own, key_B, first, rate, use_reentrant=False, preserve_rng_state=False)
        parts.append(part)
    return torch.cat(parts).unsqueeze(0)


def _attend(query: Tensor, key: Tensor, value: Tensor, key_B: Tensor, first: int, rate: float) -> Tensor:
    """The attention of some heads, from head number `first` on; heads x (B * P) x F."""
    weights = softmax(query @ key.transpose(1, 2) * query.shape[-1] ** -0.5, dim=-1)
    heads, rows, prototypes = weights.shape
    patches, words = rows // len(key_B), -(-prototypes // 2)
    numbers = torch.arange(heads * patches * words, device=query.device, dtype=torch.int32)
    numbers = (numbers + first * patches * words).view(heads, 1, patches, words)
    dropped = _dropped(key_B.view(1, -1, 1, 1), numbers, rate, ATTENTION)[..., :prototypes]
    return weights.masked_fill(dropped.reshape(weights.shape), 0.0) @ (value * (1 / (1 - rate)))


def _dropped(key: Tensor, numbers: Tensor, rate: float, place: int) -> Tensor:
    """Which numbers are dropped: two for each pair of a key and a number (both int32, broadcast), side by side."""
    word = _mix(numbers * 4 + place)
    drawn = key ^ word
    drawn.mul_(_FIRST)
    drawn.bitwise_xor_((drawn >> 15).bitwise_and_(0x1FFFF))
    drawn.mul_(_SECOND)
    return drawn.view(torch.int16) < round(rate * 2**16) - 2**15


def _mix(word: Tensor) -> Tensor:
    word = (word ^ ((word >> 16) & 0xFFFF)) * _FIRST
    word = (word ^ ((word >> 15) & 0x1FFFF)) * _SECOND
    return word ^ ((word >> 16) & 0xFFFF)
