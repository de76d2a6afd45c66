"""The memory of our own decoder: equal to what real steps keep, and to the most they ever have at once."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.planning.cases import TINY, step, tiny_shape
from tests.planning.live_bytes import LiveBytes
from timellm_cli.config import LLMConfig
from timellm_cli.data.batch import PromptTokens
from timellm_cli.model.llm import decoder_layer, frozen_matrix
from timellm_cli.model.llm.choice import shape_of_tensor
from timellm_cli.model.llm.decoder import Decoder
from timellm_cli.model.llm.decoder_loading import build_decoder
from timellm_cli.model.llm.frozen_matrix import quantise
from timellm_cli.model.llm.ops import TorchOps
from timellm_cli.planning import decoder_bytes, decoder_pool, weight_bytes
from timellm_cli.planning.case import Case
from timellm_cli.planning.decoder_bytes import (
    backward_moments,
    forward_moments,
    keys_values,
    patch_activations,
)
from timellm_cli.planning.weight_bytes import loading_bytes

BATCH, PROMPT, HEAD, PATCHES = 3, 20, 8, 12
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
WIDE = {**TINY["llama"], "intermediate_size": 512}
ONE_LAYER = {**WIDE, "num_hidden_layers": 1}
MANY_HEADED = {**TINY["llama"], "num_attention_heads": 16, "intermediate_size": 64}


def build(keys: dict[str, Any], precision: str = "fp32", quantization: str = "none", family: str = "llama") -> Decoder:
    torch.manual_seed(0)
    llm = LLMConfig(name="tiny", layers="all", quantization=quantization)  # type: ignore[arg-type]
    keys = {"model_type": family, **keys}
    shape = tiny_shape(family, keys)
    sizes = {
        f"{name}_proj": (linear.outputs, linear.inputs) for name, linear in zip("qkvo", shape.linears[:4], strict=True)
    }
    sizes |= {f"{linear.name}_proj": (linear.outputs, linear.inputs) for linear in shape.linears[4:]}

    def read(name: str) -> Tensor:
        part = name.removesuffix(".weight").split(".")[-1]
        if part in ("q_norm", "k_norm"):
            return torch.ones(shape.head_dim)
        size = sizes.get(part, (shape.vocab, shape.hidden) if part == "embed_tokens" else (shape.hidden,))
        return torch.randn(size) * 0.1

    return build_decoder(keys, read, shape.layers, llm, DTYPES[precision], torch.device("cpu"))


def prompt() -> PromptTokens:
    ids = torch.arange(PROMPT).repeat(BATCH, 1)
    mask = torch.ones_like(ids)
    mask[0, HEAD] = 0
    return PromptTokens(ids[:, HEAD:], mask[:, HEAD:], tuple(range(HEAD)))


def case_of(keys: dict[str, Any], family: str = "llama", **changes: Any) -> Case:
    values = {
        "layers": keys["num_hidden_layers"], "batch": BATCH, "prompt": PROMPT, "prefix": HEAD, "patches": PATCHES,
        "quantization": "none", "precision": "fp32", "on_gpu": False, "decoder": True,
    }  # fmt: skip
    return step(tiny_shape(family, keys), **(values | changes))


@pytest.mark.parametrize("family", ["llama", "qwen3"])
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_layers_keep_what_the_trace_holds(precision: str, recompute: bool, family: str) -> None:
    decoder = build(WIDE, precision, family=family)
    decoder.recompute = recompute
    decoder.set_prefix(prompt().prefix)
    _, trace = decoder.read(prompt(), torch.randn(BATCH, PATCHES, 64, dtype=DTYPES[precision]), keep=True)
    tensors = [tensor for kept in trace.kept for tensor in (kept.tokens_BPE, kept.keys_BkCR, kept.values_BkCR)]
    tensors += [tensor for kept in trace.kept if kept.activations for tensor in vars(kept.activations).values()]
    tensors = [tensor for tensor in tensors if tensor is not None]
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    case = case_of(WIDE, family, precision=precision, recompute=recompute)
    prefix = sum(part.untyped_storage().nbytes() for layer in decoder.layers for part in layer.prefix)
    assert keys_values(case, 0).bytes == prefix
    assert patch_activations(case).bytes + keys_values(case, BATCH).bytes == sum(storages.values()) + prefix


def peaks(decoder: Decoder, keeps: bool = True) -> Iterator[int]:
    """The most bytes that are alive during a forward pass, and during a backward pass."""
    decoder.set_prefix(prompt().prefix)
    live, prompts = LiveBytes(), prompt()
    fused = live.fuse(TorchOps())
    for module in decoder.modules():
        if hasattr(module, "ops"):
            module.ops = fused
    before, weights = torch.randn(BATCH, PATCHES, 64, requires_grad=keeps), torch.randn(BATCH, PATCHES, 64)
    with live:
        tokens = before * 1
        hidden = decoder(prompts, tokens)
        yield live.peak
        loss = (hidden * weights).sum()
        del tokens, hidden
        live.peak = 0
        loss.backward()
        yield live.peak - 2 * loss.nbytes


@pytest.mark.parametrize("at_once", [2**22, 2**12])
@pytest.mark.parametrize("quantization", ["none", "int8", "nf4"])
def test_loading_takes_what_is_most_alive(monkeypatch: pytest.MonkeyPatch, quantization: Any, at_once: int) -> None:
    """Prefix, numbers of 0 dimensions and the tables of NF4 make the rest."""
    for module in (frozen_matrix, weight_bytes):
        monkeypatch.setattr(module, "INT8_AT_ONCE", at_once)
    keys = {**WIDE, "model_type": "llama", "dtype": "bfloat16", "hidden_size": 128, "head_dim": 32, "vocab_size": 50}
    llm = LLMConfig(name="tiny", layers="all", quantization=quantization)

    def read(name: str) -> Tensor:  # as a file's tensor copied to a GPU
        return torch.full(shape_of_tensor(keys, name), 0.1, dtype=torch.bfloat16)

    quantise(torch.ones(64, 64), quantization, True)  # bitsandbytes' first call has memory of its own
    live = LiveBytes()
    with live:
        kept = build_decoder(keys, read, 3, llm, torch.bfloat16, torch.device("cpu"))
    predicted = loading_bytes(case_of(keys, precision="bf16", quantization=quantization))
    assert kept.depth == 3
    assert predicted == pytest.approx(live.peak, rel=0.004)


def test_int8_is_rounded_a_few_rows_at_a_time_to_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    weight_OI = torch.randn(37, 24).bfloat16()
    whole = quantise(weight_OI, "int8", False)
    monkeypatch.setattr(frozen_matrix, "INT8_AT_ONCE", 100)
    assert all(torch.equal(part, whole[name]) for name, part in quantise(weight_OI, "int8", False).items())
    scale_O = weight_OI.float().abs().amax(dim=1)
    torch.testing.assert_close(whole["scale_O"], scale_O)
    rounded_OI = whole["bytes_OI"].float() * (scale_O / 127)[:, None]
    torch.testing.assert_close(rounded_OI, weight_OI.float(), rtol=0, atol=0.02)


def in_parts(monkeypatch: pytest.MonkeyPatch, keys: dict[str, Any], precision: str, samples: int) -> None:
    """Let so many samples of prompt and patches go through the MLP at a time."""
    tokens = PROMPT - HEAD + PATCHES
    wide = samples * tokens * 2 * keys["intermediate_size"] * DTYPES[precision].itemsize
    for module in (decoder_layer, decoder_bytes, decoder_pool):
        monkeypatch.setattr(module, "WIDE_BYTES", wide)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("quantization", ["none", "int8"])
@pytest.mark.parametrize("samples", [1, 2, 3])
@pytest.mark.parametrize("keys", [WIDE, ONE_LAYER, MANY_HEADED], ids=["wide", "one-layer", "many-headed"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_worst_moments_of_a_step_are_the_most_that_is_alive(
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
    keys: dict[str, Any],
    samples: int,
    quantization: str,
    recompute: bool,
) -> None:
    in_parts(monkeypatch, keys, precision, samples)
    decoder = build(keys, precision, quantization)
    decoder.recompute = recompute
    case = case_of(keys, precision=precision, quantization=quantization, recompute=recompute)
    kept = patch_activations(case).bytes + keys_values(case, BATCH).bytes - keys_values(case, 0).bytes
    forward, backward = peaks(decoder)
    assert forward - kept == max(forward_moments(case, keeps=True).values())
    assert backward - kept == max(backward_moments(case).values())


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_normed_heads_are_in_the_worst_moments(precision: str, recompute: bool) -> None:
    decoder = build(WIDE, precision, "int8", "qwen3")
    decoder.recompute = recompute
    case = case_of(WIDE, "qwen3", precision=precision, quantization="int8", recompute=recompute)
    kept = patch_activations(case).bytes + keys_values(case, BATCH).bytes - keys_values(case, 0).bytes
    forward, backward = peaks(decoder)
    assert forward - kept == max(forward_moments(case, keeps=True).values())
    assert backward - kept == max(backward_moments(case).values())


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("keys", [WIDE, ONE_LAYER, MANY_HEADED], ids=["wide", "one-layer", "many-headed"])
def test_scoring_holds_one_layer_at_a_time(monkeypatch: pytest.MonkeyPatch, keys: dict[str, Any], samples: int) -> None:
    in_parts(monkeypatch, keys, "bf16", samples)
    case = case_of(keys, precision="bf16", quantization="int8")
    (forward, *_) = islice(peaks(build(keys, "bf16", "int8"), keeps=False), 1)
    assert forward == max(forward_moments(case, keeps=False).values())
