"""Memory that PyTorch reserves for a recorded step of our own decoder beyond what is allocated: the holes. Light.

A recorded step has a pool of its own. What its layers keep is put into places that were freed a moment before, and
leaves a hole in most of them. So the tensors of the forward pass, in the order of `decoder_layer.py`, are put into a
pool as PyTorch does with expandable segments (`c10/cuda/CUDACachingAllocator.cpp`): into the smallest free place that
is large enough, else at the end, which grows by 20 MiB. A test holds sizes and order against real steps. Of the
backward pass that of the last layer is put there, too; the others find the room that it had.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from timellm_cli.model.llm.choice import WIDE_BYTES
from timellm_cli.planning.case import Case
from timellm_cli.planning.decoder_bytes import Tensors

SMALL, SMALL_GROWTH, GROWTH = 2**20, 2 * 2**20, 20 * 2**20
"""Tensors up to `SMALL` bytes have a pool that grows by `SMALL_GROWTH`, others one that grows by `GROWTH`."""

_ROUNDED_TO = 512
"""PyTorch rounds every tensor up to a multiple of so many bytes."""
_SIMULATED = 12
"""So many layers are put into the pool; the others repeat what the later half of them took."""
_LAYER = "layer"

Event = tuple[str, int]
"""A tensor's name and its bytes; 0 frees it. Names of what stays begin with 'kept'. `_LAYER` ends a layer."""
Place = tuple[int, int]
"""Address and bytes."""


@dataclass
class Pool:
    """The free places of a segment whose end grows. `extent` is the end of what was ever used."""

    extent: int = 0
    free: list[Place] = field(default_factory=list)

    def take(self, size: int) -> Place:
        """Put a tensor somewhere: into the smallest place that fits, else at the end."""
        fitting = [place for place in self.free if place[1] >= size and sum(place) < self.extent]
        end = next((place for place in self.free if sum(place) == self.extent), (self.extent, 0))
        start, room = min(fitting, key=lambda place: (place[1], place[0])) if fitting else end
        if room:
            self.free.remove((start, room))
        if room > size:
            self.free.append((start + size, room - size))
        self.extent = max(self.extent, start + size)
        return start, size

    def give(self, place: Place) -> None:
        """Free a tensor's place, and join it with free places beside it."""
        start, size = place
        for other in [one for one in self.free if sum(one) == start or start + size == one[0]]:
            self.free.remove(other)
            start, size = min(start, other[0]), size + other[1]
        self.free.append((start, size))


def pool_bytes(case: Case, reprogramming: int) -> int:
    """Bytes of a recorded step's pool. `reprogramming` are those that trained parts keep before the LLM reads.

    The first layers are put into the pool; each of the others takes as much as the later half of these did.
    """
    pool, places, small, after = Pool(), dict[str, Place](), 0, list[int]()
    for name, size in events(case, min(case.layers, _SIMULATED), reprogramming):
        if name == _LAYER:
            after.append(pool.extent)
        elif not size and name in places:
            pool.give(places.pop(name))
        elif size > SMALL:
            places[name] = pool.take(_whole(size, _ROUNDED_TO))
        elif name.startswith("kept"):
            small += size
    half, others = _SIMULATED // 2, max(case.layers - _SIMULATED, 0)
    # The last layer reads patches alone.
    more = others * (after[-2] - after[-2 - half]) // half if others else 0
    small += others * small // _SIMULATED
    return _whole(pool.extent + more, GROWTH) + _whole(small, SMALL_GROWTH)


def _whole(size: int, step: int) -> int:
    """`size` rounded up to a multiple of `step`."""
    return -(-size // step) * step


def events(case: Case, layers: int, reprogramming: int) -> Iterator[Event]:
    """The tensors of a step through so many layers in their order, to the backward pass of the last one."""
    assert case.shape is not None
    size, tokens, patches = Tensors(case, case.shape), case.tail + case.patches, case.patches
    yield "kept-reprogramming", reprogramming
    yield "kept-incoming", size.incoming()
    yield "kept-positions", size.places(tokens)
    yield "kept-tokens", size.vectors(tokens)
    yield "kept-patch-positions", size.places(patches)
    for layer in range(layers):
        is_last = layer == layers - 1
        yield f"kept-{layer}-tokens", size.vectors(patches)
        yield from _heads(case, size, f"kept-{layer}", tokens)
        attending = patches if is_last else tokens
        if is_last:
            yield "patch-query" if case.recompute else f"kept-{layer}-query", size.queries(patches)
            yield "query", 0
            yield "kept-last", size.vectors(patches)
        yield from _attention(size, attending)
        if not case.recompute:
            if not is_last:
                yield f"kept-{layer}-query", size.queries(patches)
            yield f"kept-{layer}-gate-and-up", 2 * _inner(case, case.batch * patches)
            yield f"kept-{layer}-middle", size.vectors(patches)
        yield from _mlp(case, size, attending)
        yield "query", 0
        yield "patch-query", 0
        yield _LAYER, 0
    yield from _backward(case, size)


def _heads(case: Case, size: Tensors, kept: str, tokens: int) -> Iterator[Event]:
    yield "normed", size.vectors(tokens)
    yield "matrix", size.written_out("q", "k", "v")
    yield "qkv", size.queries(tokens) + size.keys_values(tokens)
    yield "normed", 0
    yield "matrix", 0
    if not case.recompute:
        yield f"{kept}-raw", size.normed_heads(case.patches)
    yield "query", size.queries(tokens)
    yield f"{kept}-keys", size.keys_values(case.context) // 2
    yield f"{kept}-values", size.keys_values(case.context) // 2
    yield "qkv", 0


def _attention(size: Tensors, tokens: int) -> Iterator[Event]:
    yield "mixed", size.queries(tokens)
    yield "matrix", size.written_out("o")
    yield "matrix", 0
    yield "mixed", 0


def _mlp(case: Case, size: Tensors, tokens: int) -> Iterator[Event]:
    at_once = max(WIDE_BYTES // (2 * _inner(case, tokens)), 1)
    for start in range(0, case.batch, at_once):
        rows = min(at_once, case.batch - start) * tokens
        yield "normed", rows * size.shape.hidden * case.number_bytes
        yield "matrix", size.written_out("gate", "up")
        yield "gate-and-up", 2 * _inner(case, rows)
        yield "normed", 0
        yield "matrix", 0
        yield "activated", _inner(case, rows)
        yield "gate-and-up", 0
        yield "matrix", size.written_out("down")
        yield "matrix", 0
        yield "activated", 0


def _inner(case: Case, rows: int) -> int:
    """Bytes of so many rows as wide as the MLP."""
    assert case.shape is not None
    return rows * case.shape.intermediate * case.number_bytes


def _backward(case: Case, size: Tensors) -> Iterator[Event]:
    """Of the last layer, whose gradient is the first to be computed. Those of others find the room that it had."""
    patches = case.patches
    yield "kept-gradient", size.vectors(patches)
    yield "kept-gradient-before-the-norm", size.vectors(patches)
    yield "kept-qkv-matrix", size.written_out("q", "k", "v")
    yield "kept-out-matrix", size.written_out("o")
    if case.recompute:
        yield "normed", size.vectors(patches)
        yield "qkv", size.queries(patches) + size.keys_values(patches)
        yield "normed", 0
        yield "kept-raw", size.normed_heads(patches)
        yield "kept-query", size.queries(patches)
        yield "qkv", 0
    yield "kept-mixed", size.queries(patches)
    if case.recompute:
        yield "middle", size.vectors(patches)
    yield from _mlp_backward(case, size)
    yield "middle", 0
    yield "gradient-of-attention", size.queries(patches)
    yield "gradient-of-queries", size.queries(patches)
    yield "gradient-of-keys", size.keys_values(case.context) // 2
    yield "gradient-of-values", size.keys_values(case.context) // 2
    yield "gradient-of-heads", size.queries(patches) + size.keys_values(patches)


def _mlp_backward(case: Case, size: Tensors) -> Iterator[Event]:
    yield "kept-gradient-of-the-MLP", size.vectors(case.patches)
    at_once = max(WIDE_BYTES // (2 * _inner(case, case.patches)), 1)
    for start in range(0, case.batch, at_once):
        rows = min(at_once, case.batch - start) * case.patches
        if case.recompute:
            yield "matrix", size.written_out("gate", "up")
            yield "normed", rows * size.shape.hidden * case.number_bytes
            yield "gate-and-up", 2 * _inner(case, rows)
            yield "normed", 0
        yield "down", size.written_out("down")
        yield "activated", _inner(case, rows)
        yield "down", 0
        yield "activated", 0
        if not case.recompute:
            yield "matrix", size.written_out("gate", "up")
        yield "gradient-of-the-part", 0
        yield "gradient-of-the-part", rows * size.shape.hidden * case.number_bytes
        yield "matrix", 0
        yield "gate-and-up", 0
    yield "gradient-of-the-part", 0
