"""LLMs stored in NF4 by transformers and bitsandbytes: our decoder reads their tensors as they are."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from bitsandbytes.functional import QuantState, dequantize_4bit
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.model.llm.test_decoder import (
    PREFIX,
    distance,
    patches_and_gradient,
    random_llm,
    read_and_differentiate,
    read_plainly,
    unequal_prompts,
)
from timellm_cli.config import LLMConfig
from timellm_cli.errors import ModelError
from timellm_cli.llm_files import read_llm_config
from timellm_cli.model.llm.choice import choose, find_fault
from timellm_cli.model.llm.decoder import Decoder
from timellm_cli.model.llm.decoder_loading import build_decoder, open_tensors

CPU, NF4 = torch.device("cpu"), LLMConfig(quantization="nf4")
SIZES: dict[str, Any] = {
    "vocab_size": 300, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "max_position_embeddings": 512,
}  # fmt: skip
CONFIGS: dict[str, transformers.PretrainedConfig] = {
    "llama": transformers.LlamaConfig(**SIZES),
    "qwen2": transformers.Qwen2Config(**{**SIZES, "num_key_value_heads": 4, "head_dim": 16}),
    "qwen3": transformers.Qwen3Config(**SIZES),
}


def store(name: str, folder: Path, nested: bool = True) -> Path:
    """A random LLM, quantised and saved by transformers."""
    random_llm(CONFIGS[name]).half().save_pretrained(folder / "plain")
    quantization = transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=nested
    )
    transformers.AutoModel.from_pretrained(
        folder / "plain", quantization_config=quantization, dtype=torch.float16, device_map={"": "cpu"}
    ).save_pretrained(folder / "nf4")
    return folder / "nf4"


def load(folder: Path) -> Decoder:
    keys = read_llm_config(folder)
    assert choose(NF4, keys, folder).code == "decoder"
    assert find_fault(NF4, keys, folder) is None
    decoder = build_decoder(keys, open_tensors(folder), 3, NF4, torch.float32, CPU)
    decoder.set_prefix(PREFIX)
    return decoder


def written_out(name: str, folder: Path) -> Any:
    """The LLM of transformers with the weights that the stored ones stand for, in float32."""
    stored = load_file(folder / "model.safetensors")
    llm = transformers.AutoModel.from_config(CONFIGS[name]).float().requires_grad_(False)
    for key, weight in llm.named_parameters():
        tensor = stored[key]
        if tensor.dtype == torch.uint8:
            parts = {end: part for end, part in stored.items() if end.startswith(f"{key}.")}
            state = QuantState.from_dict(parts, device=CPU)
            state.dtype = torch.float32
            tensor = dequantize_4bit(tensor, state)
        weight.copy_(tensor)
    return llm


@pytest.mark.parametrize("nested", [True, False], ids=["scales in bytes", "scales in float32"])
@pytest.mark.parametrize("name", CONFIGS)
def test_outputs_and_gradients_are_those_of_the_stored_weights(name: str, nested: bool, tmp_path: Path) -> None:
    folder, prompt = store(name, tmp_path, nested), unequal_prompts(PREFIX)
    llm, (tokens_BPE, grad_BPE) = written_out(name, folder), patches_and_gradient()
    expected = read_plainly(llm, prompt, tokens_BPE)
    (expected_grad,) = torch.autograd.grad(expected, tokens_BPE, grad_BPE)
    hidden, grad = read_and_differentiate(load(folder), prompt)
    assert distance(hidden, expected.detach()) < 1e-5
    assert distance(grad, expected_grad) < 1e-5


def test_a_stored_matrix_keeps_its_four_bits(tmp_path: Path) -> None:
    layer = load(store("llama", tmp_path)).layers[0]
    for matrix in (layer.qkv, layer.out, layer.gate_up, layer.down):
        weights = matrix.shape[0] * matrix.shape[1]
        assert (matrix.packed.dtype, matrix.packed.numel()) == (torch.uint8, weights // 2)
        assert (matrix.absmax.dtype, matrix.absmax.numel()) == (torch.float32, weights // 64)


def change(folder: Path, **changes: Tensor | None) -> None:
    path = folder / "model.safetensors"
    tensors: dict[str, Tensor | None] = {name: tensor.clone() for name, tensor in load_file(path).items()}
    tensors |= {re.sub("__(?!nf4)", ".", name): tensor for name, tensor in changes.items()}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path)


def test_a_matrix_that_was_left_in_16_bits_is_left_to_transformers(tmp_path: Path) -> None:
    folder = store("llama", tmp_path)
    change(folder, layers__1__mlp__up_proj__weight=torch.zeros(128, 64, dtype=torch.float16))
    reason = choose(NF4, read_llm_config(folder), folder).reason
    assert reason == "its weights are quantised already, but for 'layers.1.mlp.up_proj.weight'"


def test_heads_that_are_no_whole_blocks_are_left_to_transformers(tmp_path: Path) -> None:
    folder = store("llama", tmp_path)
    found = choose(NF4, read_llm_config(folder) | {"head_dim": 32}, folder)
    assert found.reason.endswith("in blocks of 64 that its heads do not divide into")


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"layers__0__mlp__up_proj__weight__absmax": None}, "it has no tensor 'layers.0.mlp.up_proj.weight.absmax'"),
        ({"layers__0__mlp__up_proj__weight": torch.zeros(9, 1, dtype=torch.uint8)}, r"is \(9, 1\), but config.json"),
    ],
    ids=["no scales", "too few bytes"],
)
def test_a_damaged_stored_matrix_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], fault: str) -> None:
    folder = store("llama", tmp_path)
    change(folder, **changes)
    found = find_fault(NF4, read_llm_config(folder), folder)
    assert found is not None and re.search(fault, found.message)


def test_another_size_of_blocks_and_scales_that_are_nan_are_refused(tmp_path: Path) -> None:
    folder, name = store("llama", tmp_path, nested=False), "layers.0.mlp.up_proj.weight"
    how = json.loads(bytes(load_file(folder / "model.safetensors")[f"{name}.quant_state.bitsandbytes__nf4"].tolist()))
    scales = {"layers__0__mlp__up_proj__weight__absmax": torch.full((128,), torch.nan)}
    text = torch.tensor(list(json.dumps(how | {"blocksize": 128}).encode()), dtype=torch.uint8)
    change(folder, **scales)
    with pytest.raises(ModelError, match="not finite"):
        load(folder)
    change(folder, layers__0__mlp__up_proj__weight__quant_state__bitsandbytes__nf4=text)
    with pytest.raises(ModelError, match="stored with blocksize 128"):
        load(folder)
