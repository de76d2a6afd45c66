"""Our decoder against transformers' own reading of all tokens with autograd, on shared random weights in float32."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from timellm_cli.config import LLMConfig
from timellm_cli.data.batch import PromptTokens
from timellm_cli.model.llm import decoder_layer
from timellm_cli.model.llm.decoder import Decoder, Embedding
from timellm_cli.model.llm.decoder_loading import build_decoder
from timellm_cli.model.llm.frozen_matrix import FullMatrix

CPU = torch.device("cpu")
LAYERS, BATCH, SUFFIX, PATCHES, WIDTH, MIDDLE = 3, 3, 5, 4, 64, 96
SIZES: dict[str, Any] = {
    "vocab_size": 300, "hidden_size": WIDTH, "intermediate_size": MIDDLE, "num_hidden_layers": LAYERS,
    "num_attention_heads": 4, "max_position_embeddings": 512,
}  # fmt: skip
LLAMA3_ROPE = {
    "rope_type": "llama3", "rope_theta": 500_000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
CONFIGS: dict[str, transformers.PretrainedConfig] = {
    "llama in groups of 1": transformers.LlamaConfig(**SIZES, num_key_value_heads=4),
    "llama in groups of 2": transformers.LlamaConfig(**SIZES, num_key_value_heads=2, rms_norm_eps=1e-5),
    "llama with wide heads": transformers.LlamaConfig(**SIZES, num_key_value_heads=2, head_dim=32),
    "llama 3.1": transformers.LlamaConfig(**SIZES, num_key_value_heads=2, rope_parameters=LLAMA3_ROPE),
    "mistral": transformers.MistralConfig(**SIZES, num_key_value_heads=2, sliding_window=None),
    "qwen2 with biases, in groups of 4": transformers.Qwen2Config(**SIZES, num_key_value_heads=1),
    "llama 3.2": transformers.LlamaConfig(
        **SIZES, num_key_value_heads=2, tie_word_embeddings=True, rope_parameters=LLAMA3_ROPE
    ),
    "qwen3": transformers.Qwen3Config(**SIZES, num_key_value_heads=2, head_dim=32, tie_word_embeddings=True),
    "qwen3 in groups of 3": transformers.Qwen3Config(
        **{**SIZES, "num_attention_heads": 6}, num_key_value_heads=2, head_dim=16
    ),
}
PREFIXES = {"no prefix": (), "a prefix": tuple(range(100, 140))}
PREFIX = PREFIXES["a prefix"]


def random_llm(config: transformers.PretrainedConfig) -> Any:
    """A model of transformers whose weights are large enough for every part of it to matter."""
    torch.manual_seed(1)
    llm = transformers.AutoModel.from_config(config).float()
    with torch.no_grad():
        for weight in llm.parameters():
            weight.copy_(torch.randn(weight.shape) * (0.15 if weight.ndim > 1 else 0.3) + (weight.ndim == 1))
    return llm.requires_grad_(False)


def decoder_of(llm: Any, prefix: tuple[int, ...] = (), **settings: Any) -> Decoder:
    config = LLMConfig(**{"quantization": "none", **settings})
    decoder = build_decoder(llm.config.to_dict(), llm.state_dict().__getitem__, LAYERS, config, torch.float32, CPU)
    decoder.set_prefix(prefix)
    return decoder


def unequal_prompts(prefix: tuple[int, ...]) -> PromptTokens:
    ids_BK = torch.randint(0, 300, (BATCH, SUFFIX), generator=torch.Generator().manual_seed(2))
    mask_BK = torch.ones_like(ids_BK)
    mask_BK[1, :2] = mask_BK[2, :4] = 0
    return PromptTokens(ids_BK, mask_BK, prefix)


def patches_and_gradient(batch: int = BATCH) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    drawn = torch.randn(2, batch, PATCHES, WIDTH, generator=generator)
    return drawn[0].requires_grad_(), drawn[1]


def read_plainly(llm: Any, prompt: PromptTokens, tokens_BPE: Tensor) -> Tensor:
    """All tokens in one pass through transformers, nothing frozen but the weights."""
    whole = prompt.joined()
    seen = torch.cat([whole.mask_BK, whole.mask_BK.new_ones(tokens_BPE.shape[:2])], dim=1)
    return llm(
        inputs_embeds=torch.cat([llm.embed_tokens(whole.ids_BK), tokens_BPE], dim=1),
        attention_mask=seen,
        position_ids=(seen.cumsum(dim=1) - 1).clamp_min(0),
    ).last_hidden_state[:, -PATCHES:]


def read_and_differentiate(decoder: Decoder, prompt: PromptTokens) -> tuple[Tensor, Tensor]:
    tokens_BPE, grad_BPE = patches_and_gradient(len(prompt.ids_BK))
    hidden_BPE = decoder(prompt, tokens_BPE)
    return hidden_BPE.detach(), torch.autograd.grad(hidden_BPE, tokens_BPE, grad_BPE)[0]


def distance(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).detach().norm() / expected.detach().norm())


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("name", CONFIGS)
def test_outputs_and_gradients_are_those_of_transformers_with_autograd(name: str, prefix: str) -> None:
    llm, prompt = random_llm(CONFIGS[name]), unequal_prompts(PREFIXES[prefix])
    tokens_BPE, grad_BPE = patches_and_gradient()
    expected = read_plainly(llm, prompt, tokens_BPE)
    (expected_grad,) = torch.autograd.grad(expected, tokens_BPE, grad_BPE)
    decoder = decoder_of(llm, prompt.prefix)
    assert not list(decoder.parameters()), "no weight can have a gradient"
    for decoder.recompute in (False, True):
        hidden, grad = read_and_differentiate(decoder, prompt)
        assert distance(hidden, expected.detach()) < 1e-5
        assert distance(grad, expected_grad) < 1e-5


def test_scaled_rotary_positions_matter_to_the_comparison() -> None:
    scaled, plain = (decoder_of(random_llm(CONFIGS[name]), PREFIX) for name in ("llama 3.1", "llama in groups of 2"))
    assert not torch.allclose(scaled.frequencies, plain.frequencies)
    prompt = unequal_prompts(PREFIX)
    assert distance(scaled(prompt, patches_and_gradient()[0]), plain(prompt, patches_and_gradient()[0])) > 1e-3


def test_what_is_read_without_gradients_is_the_same() -> None:
    decoder, prompt = decoder_of(random_llm(CONFIGS["mistral"]), PREFIX), unequal_prompts(PREFIX)
    expected, _ = read_and_differentiate(decoder, prompt)
    with torch.inference_mode():
        decoder.set_prefix(PREFIX)
        found = decoder(prompt, patches_and_gradient()[0])
    torch.testing.assert_close(found.clone(), expected)
    read_and_differentiate(decoder, prompt)  # the prefix read under inference mode serves training too


def test_a_reading_does_not_depend_on_batch_mates() -> None:
    decoder, prompt = decoder_of(random_llm(CONFIGS["llama in groups of 2"]), PREFIX), unequal_prompts(PREFIX)
    together, _ = read_and_differentiate(decoder, prompt)
    tokens_BPE, _ = patches_and_gradient()
    for row, padding in enumerate((0, 2, 4)):
        alone = PromptTokens(
            prompt.ids_BK[row : row + 1, padding:], prompt.mask_BK[row : row + 1, padding:], prompt.prefix
        )
        torch.testing.assert_close(decoder(alone, tokens_BPE[row : row + 1])[0], together[row], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("recompute", [False, True])
def test_how_much_the_mlp_takes_at_a_time_does_not_matter(monkeypatch: pytest.MonkeyPatch, recompute: bool) -> None:
    decoder, prompt = decoder_of(random_llm(CONFIGS["llama in groups of 2"])), unequal_prompts(())
    decoder.recompute = recompute
    expected = read_and_differentiate(decoder, prompt)
    for samples in (0, 2):
        monkeypatch.setattr(decoder_layer, "WIDE_BYTES", samples * (SUFFIX + PATCHES) * 2 * MIDDLE * 4)
        for found, whole in zip(read_and_differentiate(decoder, prompt), expected, strict=True):
            torch.testing.assert_close(found, whole, rtol=1e-5, atol=1e-5)


def numbers_in(kept: object) -> int:
    """Numbers that the tensors inside hold in memory, whole storages counted."""

    def storages(part: object) -> Iterator[tuple[int, int]]:
        if isinstance(part, Tensor):
            yield part.untyped_storage().data_ptr(), part.untyped_storage().nbytes() // part.element_size()
        elif is_dataclass(part):
            for field in fields(part):
                yield from storages(getattr(part, field.name))
        elif isinstance(part, list | tuple):
            for element in part:
                yield from storages(element)

    return sum(dict(storages(kept)).values())


@pytest.mark.parametrize("recompute", [False, True])
def test_only_the_patches_numbers_and_the_keys_and_values_live_between_the_passes(recompute: bool) -> None:
    decoder, prompt = decoder_of(random_llm(CONFIGS["llama in groups of 2"]), PREFIX), unequal_prompts(PREFIX)
    decoder.recompute = recompute
    _, trace = decoder.read(prompt, patches_and_gradient()[0].detach(), keep=True)
    patches, context = BATCH * PATCHES, BATCH * (len(prompt.prefix) + SUFFIX + PATCHES)
    heads, kv_heads, features = 4, 2, WIDTH // 4
    of_a_layer = patches * WIDTH + 2 * context * kv_heads * features
    if not recompute:
        of_a_layer += (
            patches * heads * features + patches * WIDTH + patches * 2 * MIDDLE
        )  # queries, middle, gate and up
    assert numbers_in(trace.kept) == LAYERS * of_a_layer


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize(
    "settings",
    [{"quantization": "nf4"}, {"quantization": "nf4", "double_quant": False}, {"quantization": "int8"}],
    ids=lambda settings: " ".join(map(str, settings.values())),
)
def test_quantised_matrices_compute_as_what_they_stand_for(settings: dict[str, Any], recompute: bool) -> None:
    llm, prompt = random_llm(CONFIGS["qwen2 with biases, in groups of 4"]), unequal_prompts(PREFIX)
    quantised, written_out, full = (decoder_of(llm, PREFIX, **each) for each in (settings, settings, {}))
    for layer in written_out.layers:
        for name in ("qkv", "out", "gate_up", "down"):
            setattr(layer, name, FullMatrix(getattr(layer, name).dense(torch.float32)))
    for decoder in (quantised, written_out, full):
        decoder.recompute = recompute
    found, expected, unquantised = (read_and_differentiate(it, prompt) for it in (quantised, written_out, full))
    for ours, theirs, original in zip(found, expected, unquantised, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
        assert 1e-4 < distance(ours, original) < 0.7


def test_embeddings_are_copied_when_they_are_first_needed_and_their_memory_grows() -> None:
    table = torch.randn(5000, 8, dtype=torch.float16)
    embedding = Embedding(table, CPU, torch.float32, copies=True)
    for ids in (torch.tensor([[3, 3, 4999]]), torch.tensor([[4999, 7]]), torch.arange(2500).view(2, -1)):
        embedding.prepare(ids)
        assert torch.equal(embedding(ids), table[ids].float())
    assert embedding.capacity < len(table)
    assert torch.equal(embedding(torch.tensor([3, 4999, 7])), table[[3, 4999, 7]].float()), "those from before"


def test_a_decoder_that_copies_embeddings_reads_the_same() -> None:
    llm, prompt = random_llm(CONFIGS["llama in groups of 2"]), unequal_prompts(PREFIX)
    decoder = decoder_of(llm, PREFIX)
    expected, _ = read_and_differentiate(decoder, prompt)
    decoder.embedding = Embedding(llm.embed_tokens.weight, CPU, torch.float32, copies=True)
    decoder.set_prefix(PREFIX)
    found, _ = read_and_differentiate(decoder, prompt)
    assert torch.equal(found, expected)


def test_a_prompt_with_another_prefix_is_refused() -> None:
    decoder = decoder_of(random_llm(CONFIGS["mistral"]), PREFIX)
    with pytest.raises(AssertionError, match="another prefix"):
        decoder(unequal_prompts(PREFIX[:-1]), patches_and_gradient()[0])


def test_unpadded_prompts_read_as_in_transformers() -> None:
    llm, ids_BK = random_llm(CONFIGS["llama 3.1"]), torch.arange(BATCH * SUFFIX).view(BATCH, SUFFIX)
    prompt, tokens_BPE = PromptTokens(ids_BK, torch.ones_like(ids_BK), PREFIX), patches_and_gradient()[0]
    assert distance(decoder_of(llm, PREFIX)(prompt, tokens_BPE), read_plainly(llm, prompt, tokens_BPE)) < 1e-5


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("name", ["llama in groups of 2", "qwen2 with biases, in groups of 4", "qwen3"])
def test_tokens_too_large_for_fp16_are_read_in_fp16(name: str, recompute: bool) -> None:
    """As in transformers' own fp16, were it not for the overflow there."""
    llm, prompt = random_llm(CONFIGS[name]), unequal_prompts(PREFIX)
    for layer in llm.layers:
        layer.mlp.down_proj.weight.mul_(3e4)
        layer.self_attn.o_proj.weight.mul_(3e4)
    tokens_BPE, grad_BPE = patches_and_gradient()
    largest = max(float(state.abs().max()) for state in hidden_states(llm, prompt, tokens_BPE))
    assert 2**16 < largest < 2**22
    expected = read_plainly(llm, prompt, tokens_BPE)
    (expected_grad,) = torch.autograd.grad(expected, tokens_BPE, grad_BPE)
    config, half = LLMConfig(quantization="none"), torch.float16
    decoder = build_decoder(llm.config.to_dict(), llm.state_dict().__getitem__, LAYERS, config, half, CPU)
    decoder.recompute = recompute
    decoder.set_prefix(PREFIX)
    hidden, grad = read_and_differentiate(decoder, prompt)
    assert distance(hidden, expected.detach()) < 0.01
    assert distance(grad, expected_grad) < 0.02
    plain = read_plainly(llm.half(), prompt, tokens_BPE.detach().half())
    assert not plain.isfinite().all()


@pytest.mark.parametrize("recompute", [False, True])
def test_numbers_inside_the_mlp_that_are_too_large_for_fp16_are_read_in_fp16(recompute: bool) -> None:
    """The products of gate and up reach a million, and plain fp16 overflows there."""
    llm, prompt, largest = random_llm(CONFIGS["llama 3.1"]), unequal_prompts(PREFIX), 0.0

    def look(_: object, inputs: tuple[Tensor, ...]) -> None:
        nonlocal largest
        largest = max(largest, float(inputs[0].abs().max()))

    for layer in llm.layers:
        layer.mlp.gate_proj.weight.mul_(300)
        layer.mlp.up_proj.weight.mul_(300)
        layer.mlp.down_proj.weight.mul_(1e-2)
        layer.mlp.down_proj.register_forward_pre_hook(look)
    tokens_BPE, _ = patches_and_gradient()
    expected = read_plainly(llm, prompt, tokens_BPE.detach())
    assert 2**17 < largest < 2**22
    config, half = LLMConfig(quantization="none"), torch.float16
    decoder = build_decoder(llm.config.to_dict(), llm.state_dict().__getitem__, LAYERS, config, half, CPU)
    decoder.recompute = recompute
    decoder.set_prefix(PREFIX)
    hidden, grad = read_and_differentiate(decoder, prompt)
    assert distance(hidden, expected) < 0.01
    assert grad.isfinite().all()
    assert not read_plainly(llm.half(), prompt, tokens_BPE.detach().half()).isfinite().all()


def hidden_states(llm: Any, prompt: PromptTokens, tokens_BPE: Tensor) -> list[Tensor]:
    """What each layer gives, real tokens alone."""
    found: list[Tensor] = []
    hooks = [layer.register_forward_hook(lambda _, __, output: found.append(output)) for layer in llm.layers]
    read_plainly(llm, prompt, tokens_BPE.detach())
    for hook in hooks:
        hook.remove()
    return found
