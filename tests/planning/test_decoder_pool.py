"""The pool of a recorded step: its tensors come in the order of real steps, and it is as large as measured ones."""

import random
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.planning.cases import step
from tests.planning.live_bytes import LiveBytes
from tests.planning.test_decoder_bytes import BATCH, DTYPES, PATCHES, WIDE, build, case_of, in_parts, prompt
from timellm_cli.model.llm.ops import TorchOps
from timellm_cli.planning.activation_bytes import reprogramming_activations
from timellm_cli.planning.case import Case
from timellm_cli.planning.decoder_bytes import Tensors
from timellm_cli.planning.decoder_pool import Pool, events, pool_bytes
from timellm_cli.planning.llm_shape import shape_of

MIB = 2**20


class InOrder(LiveBytes):
    """Writes down the size of each new storage."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def follow(self, tensors: Any) -> None:
        before = set(self._alive)
        super().follow(tensors)
        self.sizes += [size for ref, size in self._alive.items() if ref not in before]


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("quantization", ["none", "int8"])
@pytest.mark.parametrize(("family", "samples"), [("llama", 1), ("llama", 3), ("qwen3", 3)])
def test_a_forward_pass_allocates_these_tensors_in_this_order(
    monkeypatch: pytest.MonkeyPatch, family: str, samples: int, quantization: str, recompute: bool
) -> None:
    in_parts(monkeypatch, WIDE, "bf16", samples)
    decoder = build(WIDE, "bf16", quantization, family)
    decoder.recompute = recompute
    decoder.set_prefix(prompt().prefix)
    live, prompts = InOrder(), prompt()
    fused = live.fuse(TorchOps())
    for module in decoder.modules():
        if hasattr(module, "ops"):
            module.ops = fused
    with live:
        decoder.read(prompts, torch.randn(BATCH, PATCHES, 64, dtype=DTYPES["bf16"]), keep=True)
    case = case_of(WIDE, family, precision="bf16", quantization=quantization, recompute=recompute)
    assert case.shape is not None
    sums = [Tensors(case, case.shape).softmax_sums(tokens) for tokens in (case.tail + PATCHES, PATCHES)]
    expected = [size for size in sizes_of_layers(case) if size]
    found = [size for size in live.sizes if size and size not in sums]
    assert len(expected) >= 30
    assert found[-len(expected) :] == expected


def sizes_of_layers(case: Case) -> list[int]:
    """Of the forward pass, from the first layer on."""
    tensors = list(events(case, case.layers, 0))
    names = [name for name, _ in tensors]
    return [size for _, size in tensors[names.index("kept-0-tokens") : names.index("kept-gradient")]]


def measured(name: str, batch: int, head: int, tail: int, seq_len: int, **changes: Any) -> Case:
    """A step whose pool was measured on an H200 (2026-11-28, `benchmarks/small_cards.py`)."""
    shape = shape_of("measured", {**SHAPES[name], "dtype": "bfloat16"}, origin="test", tokenizer="other")
    values: dict[str, Any] = {
        "batch": batch, "prompt": head + tail, "prefix": head, "patches": (seq_len - 16) // 8 + 2, "seq_len": seq_len,
        "precision": "fp16", "decoder": True, "captured": True,
    }  # fmt: skip
    return step(shape, **(values | changes))


def _shape(hidden: int, heads: int, kv_heads: int, inner: int, layers: int, family: str = "llama") -> dict[str, Any]:
    return {
        "model_type": family, "hidden_size": hidden, "num_attention_heads": heads, "num_key_value_heads": kv_heads,
        "intermediate_size": inner, "num_hidden_layers": layers, "vocab_size": 49_152, "tie_word_embeddings": True,
    }  # fmt: skip


SHAPES = {
    "smollm2-360m": _shape(960, 15, 5, 2560, 32), "llama-3-8b": _shape(4096, 32, 8, 14_336, 32),
    "qwen2.5-3b": _shape(2048, 16, 2, 11_008, 36, "qwen2"), "mistral-7b": _shape(4096, 32, 8, 14_336, 32, "mistral"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("case", "reserved"),
    [
        (measured("smollm2-360m", 32, 43, 75, 720, layers=24, quantization="none", recompute=True), 510),
        (measured("llama-3-8b", 2, 83, 72, 256, layers=32), 546),
        (measured("qwen2.5-3b", 8, 83, 69, 512, layers=6), 338),
        (measured("mistral-7b", 8, 43, 69, 512, layers=4, quantization="int8"), 570),
    ],
    ids=list(SHAPES),
)
def test_the_pool_is_as_large_as_pytorchs_was(case: Case, reserved: int) -> None:
    """Small tensors that pass take up to 10 MiB more, which are not counted here."""
    found = pool_bytes(case, reprogramming_activations(case).bytes)
    assert -10 * MIB <= found - reserved * MIB <= 0


def test_a_tensor_takes_the_smallest_place_that_fits_and_the_end_comes_last() -> None:
    pool = Pool()
    large, wall, small, _ = pool.take(40), pool.take(1), pool.take(30), pool.take(1)
    pool.give(large)
    pool.give(small)
    assert pool.take(25) == (41, 25), "the smaller of two places"
    assert pool.take(35) == (0, 35)
    assert pool.take(20) == (72, 20), "the end"
    pool.give((72, 20))
    assert pool.take(50) == (72, 50), "a free end grows"
    assert (wall, pool.extent) == ((40, 1), 122)


def test_free_places_side_by_side_are_one() -> None:
    pool = Pool()
    places = [pool.take(10) for _ in range(4)]
    for place in places[:3]:
        pool.give(place)
    assert pool.take(30) == (0, 30)
    assert pool.extent == 40


@given(seed=st.integers(0, 10**6))
def test_tensors_never_overlap(seed: int) -> None:
    draw, pool, held = random.Random(seed), Pool(), list[tuple[int, int]]()
    for _ in range(60):
        if held and draw.random() < 0.45:
            pool.give(held.pop(draw.randrange(len(held))))
        else:
            held.append(pool.take(draw.randint(1, 50)))
        every = sorted([*held, *pool.free])
        assert all(one[0] + one[1] <= other[0] for one, other in pairwise(every))
        assert sum(size for _, size in every) == pool.extent
