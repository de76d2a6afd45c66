"""What a step keeps: equal to what autograd really saves on tiny models of every family."""

from typing import Any

import pytest
import torch

from tests.planning.cases import TINY, known_shape, step, tiny_shape
from tests.planning.test_experts import KEYS as MIXTURES
from timellm_cli.config import ModelConfig, WindowConfig
from timellm_cli.data.batch import PromptTokens
from timellm_cli.model.llm.transformers_llm import TransformersLLM
from timellm_cli.model.time_llm import TimeLLM, VocabularyPrototypes, vocabulary_factor
from timellm_cli.planning.activation_bytes import (
    llm_activations,
    prompt_keys_values,
    reprogramming_activations,
    workspace,
)
from timellm_cli.planning.llm_shape import FAMILIES
from timellm_cli.planning.weight_bytes import frozen_parts

BATCH, PROMPT, SEQ_LEN, PRED_LEN = 3, 20, 96, 24
PATCHES = 12
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class SavedByAutograd:
    """Counts the bytes of every storage that autograd keeps, except those that are weights anyway."""

    def __init__(self, *modules: torch.nn.Module) -> None:
        tensors = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
        self._weights = {tensor.untyped_storage().data_ptr() for tensor in tensors}
        self._kept: dict[int, torch.Tensor] = {}

    def __enter__(self) -> "SavedByAutograd":
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor)
        self._hooks.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._hooks.__exit__(*error)

    def _pack(self, tensor: torch.Tensor) -> torch.Tensor:
        self._kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    @property
    def bytes(self) -> int:
        return sum(
            tensor.untyped_storage().nbytes() for place, tensor in self._kept.items() if place not in self._weights
        )


def build(family: str, precision: str = "fp32", keys: dict[str, Any] | None = None) -> TransformersLLM:
    from transformers import AutoConfig, AutoModel

    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **(keys or TINY[family]))
    llm = TransformersLLM(AutoModel.from_config(config).to(DTYPES[precision]))
    llm.choose_reading(PROMPT, 8, PATCHES, None)
    llm.set_prefix(prompt(head_len=8).prefix)
    return llm


def prompt(head_len: int) -> PromptTokens:
    ids = torch.arange(PROMPT).repeat(BATCH, 1)
    mask = torch.ones_like(ids)
    mask[0, head_len] = 0
    return PromptTokens(ids[:, head_len:], mask[:, head_len:], tuple(range(head_len)))


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_llm_keeps_what_autograd_saves(family: str, precision: str) -> None:
    backbone = build(family, precision)
    tokens_BPE = torch.randn(BATCH, PATCHES, 64, requires_grad=True)
    with SavedByAutograd(backbone) as saved:
        backbone(prompt(head_len=8), tokens_BPE)
    case = step(
        tiny_shape(family), layers=3, batch=BATCH, prompt=PROMPT, patches=PATCHES, quantization="none",
        precision=precision,
    )  # fmt: skip
    assert case.reads_in_two_passes == backbone.reading.in_two_passes == (family != "bert")
    counted = llm_activations(case).bytes + prompt_keys_values(case).bytes
    # Layer norms keep their moments in 16 bits on a CPU; Gemma and BERT keep a few vectors more.
    assert counted == pytest.approx(saved.bytes, rel=0 if family in ("llama", "mistral", "qwen2", "qwen3") else 0.01)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize(
    ("family", "keys"),
    [*MIXTURES.items(), ("qwen3_moe", {**MIXTURES["qwen3_moe"], "norm_topk_prob": True})],
    ids=[*MIXTURES, "qwen3_moe, rescaled"],
)
def test_a_mixture_of_experts_keeps_what_autograd_saves(family: str, keys: dict[str, Any], precision: str) -> None:
    """To the byte, whichever experts the router chooses; in fp16 they are computed one by one."""
    backbone = build(family, precision, keys)
    with SavedByAutograd(backbone) as saved:
        backbone(prompt(head_len=8), torch.randn(BATCH, PATCHES, 64, requires_grad=True))
    case = step(
        tiny_shape(family, keys), layers=3, batch=BATCH, prompt=PROMPT, patches=PATCHES, quantization="none",
        precision=precision,
    )  # fmt: skip
    assert llm_activations(case).bytes + prompt_keys_values(case).bytes == saved.bytes


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2"])
def test_transformers_keeps_matrices_in_fp16_and_the_rest_in_float32(family: str) -> None:
    kept = sum(weight.nbytes for weight in build(family, "fp16").parameters())
    parts = frozen_parts(step(tiny_shape(family), layers=3, quantization="none", precision="fp16"))
    assert sum(part.bytes for part in parts if part.key != "prototype_factor") == kept
    in_decoder = frozen_parts(step(tiny_shape("llama"), quantization="none", precision="fp16", decoder=True))
    assert {part.key: part.bytes for part in in_decoder}["norms"] == 2 * (3 * 2 + 1) * 64


def test_without_two_passes_prompt_tokens_keep_activations_too() -> None:
    bert = step(tiny_shape("bert"), layers=3, prompt=PROMPT, patches=PATCHES, quantization="none")
    longer = step(tiny_shape("bert"), layers=3, prompt=2 * PROMPT, patches=PATCHES, quantization="none")
    assert prompt_keys_values(bert).bytes == 0
    assert llm_activations(longer).bytes > 1.5 * llm_activations(bert).bytes


@pytest.mark.parametrize(
    "shortcut", [{}, {"shortcut": "linear"}, {"shortcut": "linear", "shortcut_period": 7}, {"shortcut": "fitted"}]
)
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_the_trainable_parts_keep_what_autograd_saves(dropout: float, shortcut: dict[str, int]) -> None:
    backbone = build("llama")
    model = ModelConfig(dropout=dropout, d_model=24, d_ff=16, n_heads=8, num_prototypes=50, **shortcut)
    mapping = VocabularyPrototypes(vocabulary_factor(backbone.embedding_VE), 50, 300)
    window = WindowConfig(seq_len=SEQ_LEN, pred_len=PRED_LEN)
    forecaster = TimeLLM(window, model, backbone, mapping).train()
    with SavedByAutograd(forecaster) as saved:
        forecaster(torch.randn(BATCH, SEQ_LEN), prompt(head_len=8), torch.arange(BATCH, dtype=torch.int32))
    case = step(
        tiny_shape("llama"), layers=3, batch=BATCH, prompt=PROMPT, patches=PATCHES, seq_len=SEQ_LEN, pred_len=PRED_LEN,
        model=model, quantization="none", precision="fp32", on_gpu=False,
    )  # fmt: skip
    counted = sum(part(case).bytes for part in (llm_activations, prompt_keys_values, reprogramming_activations))
    # Not counted: the deviation of each window, 4 bytes a sample.
    assert saved.bytes - counted == 4 * BATCH


def test_a_gpus_attention_to_prototypes_is_in_the_numbers_of_the_llm() -> None:
    backbone = build("llama", "bf16")
    model = ModelConfig(dropout=0.0, d_model=24, d_ff=16, n_heads=8, num_prototypes=50)
    mapping = VocabularyPrototypes(vocabulary_factor(backbone.embedding_VE.float()), 50, 300)
    window = WindowConfig(seq_len=SEQ_LEN, pred_len=PRED_LEN)
    forecaster = TimeLLM(window, model, backbone, mapping).train()
    forecaster.reprogramming.attention_dtype = torch.bfloat16
    with SavedByAutograd(forecaster) as saved:
        forecaster(torch.randn(BATCH, SEQ_LEN), prompt(head_len=8))
    case = step(
        tiny_shape("llama"), layers=3, batch=BATCH, prompt=PROMPT, patches=PATCHES, seq_len=SEQ_LEN, pred_len=PRED_LEN,
        model=model, quantization="none", precision="bf16",
    )  # fmt: skip
    counted = sum(part(case).bytes for part in (llm_activations, prompt_keys_values, reprogramming_activations))
    assert saved.bytes - counted == 4 * BATCH


def scaled(**changes: Any) -> int:
    return workspace(step(known_shape("Qwen/Qwen2.5-3B"), **changes)).bytes


def test_the_workspace_holds_one_matrix_in_full_numbers_when_weights_are_quantized() -> None:
    assert scaled(batch=1, layers=1) - scaled(batch=1, layers=1, quantization="none") == 2 * 2048 * 11008


def test_the_workspace_of_many_layers_is_the_cache_before_it_is_repeated() -> None:
    assert scaled(layers=36, batch=64) == 64 * (146 + 64) * 36 * 2 * 256 * 2


def test_int8_keeps_the_inputs_of_its_matrices() -> None:
    shape = known_shape("Qwen/Qwen2.5-3B")
    more = llm_activations(step(shape, quantization="int8")).bytes - llm_activations(step(shape)).bytes
    assert more == 8 * 64 * 6 * 2 * (3 * 2048 + 11008)
