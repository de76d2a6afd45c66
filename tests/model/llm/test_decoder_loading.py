"""LLM folders in every state: any layout of the weights loads the same, and each fault is one clear error."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.model.llm.test_transformers_llm import forecaster_on, histories, read_llm
from timellm_cli.config import LLMConfig
from timellm_cli.errors import ModelError
from timellm_cli.model.llm.choice import choose
from timellm_cli.model.llm.decoder import Decoder
from timellm_cli.model.llm.transformers_llm import TransformersLLM


@pytest.fixture
def folder(tiny_llm: Path, tmp_path: Path) -> Path:
    """A copy of the tiny LLM that a test may change."""
    return Path(shutil.copytree(tiny_llm, tmp_path / "llm"))


def change_config(folder: Path, **changes: Any) -> None:
    """None takes a key away."""
    path = folder / "config.json"
    keys = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps({key: value for key, value in keys.items() if value is not None}), encoding="utf-8")


def change_tensors(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    path = folder / "model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    save_file(change(tensors), path)


def without(name: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda tensors: {key: tensor for key, tensor in tensors.items() if key != name}


def forecast_on(folder: Path) -> Tensor:
    model = forecaster_on(folder).eval()
    assert isinstance(model.llm, Decoder)
    with torch.no_grad():
        return model(histories(2), model.encoder.encode(histories(2)))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("sharded", [True, False])
@pytest.mark.parametrize("with_head", [True, False], ids=["model. in front", "bare names"])
def test_any_layout_of_the_weights_reads_the_same(
    tiny_llm: Path, tmp_path: Path, tied: bool, sharded: bool, with_head: bool
) -> None:
    llm = transformers.LlamaForCausalLM.from_pretrained(tiny_llm, tie_word_embeddings=tied)
    (llm if with_head else llm.model).save_pretrained(tmp_path, max_shard_size="20KB" if sharded else "1GB")
    names = {path.name for path in tmp_path.glob("*.safetensors")}
    assert ("model.safetensors" not in names and len(names) > 2) if sharded else names == {"model.safetensors"}
    for path in tiny_llm.glob("tokenizer*"):
        shutil.copy(path, tmp_path)
    assert torch.equal(forecast_on(tmp_path), forecast_on(tiny_llm))


def test_files_that_the_index_does_not_name_are_left_alone(folder: Path, tiny_llm: Path) -> None:
    (folder / "model.safetensors").rename(folder / "part.safetensors")
    names = list(load_file(folder / "part.safetensors"))
    index = {"weight_map": dict.fromkeys(names, "part.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    save_file({"norm.weight": torch.zeros(3)}, folder / "consolidated.safetensors")
    assert torch.equal(forecast_on(folder), forecast_on(tiny_llm))


def _truncate(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])


def _split_and_lose_a_shard(folder: Path) -> None:
    llm = transformers.AutoModel.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    llm.save_pretrained(folder, max_shard_size="20KB")
    next(iter(sorted(folder.glob("model-00002*.safetensors")))).unlink()


def _break_the_index(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": 3}', encoding="utf-8")


def _widen_a_matrix(folder: Path) -> None:
    name = "layers.1.mlp.up_proj.weight"
    change_tensors(folder, lambda tensors: tensors | {name: torch.randn(65, 32)})


DAMAGES: dict[str, Callable[[Path], object]] = {
    "truncated weights": _truncate,
    "empty weights": lambda folder: (folder / "model.safetensors").write_bytes(b""),
    "no weights": lambda folder: (folder / "model.safetensors").unlink(),
    "a lost shard": _split_and_lose_a_shard,
    "a broken index": _break_the_index,
    "a lost matrix": lambda folder: change_tensors(folder, without("layers.1.mlp.up_proj.weight")),
    "a lost norm": lambda folder: change_tensors(folder, without("norm.weight")),
    "a lost embedding": lambda folder: change_tensors(folder, without("embed_tokens.weight")),
    "a matrix of another shape": _widen_a_matrix,
    "another vocabulary in config.json": lambda folder: change_config(folder, vocab_size=300),
    "other layers in config.json": lambda folder: change_config(folder, intermediate_size=80),
    "other heads in config.json": lambda folder: change_config(folder, num_key_value_heads=4),
    "heads that do not divide": lambda folder: change_config(folder, num_key_value_heads=3),
    "no heads": lambda folder: change_config(folder, num_attention_heads=0),
    "a size that is no number": lambda folder: change_config(folder, hidden_size="wide"),
    "a family nobody knows": lambda folder: change_config(folder, model_type="no such type"),
    "half a scaling of positions": lambda folder: change_config(folder, rope_parameters={"rope_type": "llama3"}),
    "no object in config.json": lambda folder: (folder / "config.json").write_text("[]", encoding="utf-8"),
    "no JSON in config.json": lambda folder: (folder / "config.json").write_text("{", encoding="utf-8"),
    "no tokeniser": lambda folder: (folder / "tokenizer.json").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_broken_llm_folder_is_one_clear_error(folder: Path, damage: str) -> None:
    DAMAGES[damage](folder)
    with pytest.raises(ModelError, match=r"cannot be (loaded|read)|a size is a whole number") as raised:
        forecaster_on(folder)
    assert str(folder) in raised.value.message and raised.value.hint


def test_a_wrong_shape_is_told_with_both(folder: Path) -> None:
    _widen_a_matrix(folder)
    with pytest.raises(ModelError, match=r"up_proj.weight' is \(65, 32\), but config.json says \(64, 32\)"):
        forecaster_on(folder)


def test_layers_that_are_left_out_may_be_broken(folder: Path) -> None:
    change_tensors(folder, without("layers.1.mlp.up_proj.weight"))
    assert len(read_llm(folder, layers=1, quantization="none").layers) == 1


def test_weights_in_torchs_own_format_are_read_by_transformers(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert isinstance(read_llm(folder, layers=2, quantization="none"), TransformersLLM)


LLAMA = transformers.LlamaConfig(num_key_value_heads=8).to_dict()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"model_type": "mistral", "sliding_window": None}, None),
        ({"model_type": "qwen2", "sliding_window": 4096, "use_sliding_window": False}, None),
        ({"model_type": "qwen2", "sliding_window": 4096, "use_sliding_window": True}, "sliding window"),
        ({"model_type": "mistral"}, "sliding window"),
        ({"model_type": "mistral", "sliding_window": 4096}, "sliding window"),
        ({"model_type": "gpt2"}, "gpt2 is none of llama, mistral, qwen2, qwen3"),
        ({"hidden_act": "gelu"}, "gelu"),
        ({"attention_bias": True}, "biases"),
        ({"intermediate_size": 11009}, None),  # a row may end inside a block, a matrix may not
        ({"hidden_size": 36, "intermediate_size": 50}, "do not divide into blocks of 64 weights"),
        ({"mlp_bias": True}, "biases"),
        ({"vocab_size": None}, "does not say vocab_size"),
        ({"num_key_value_heads": 5}, "32 query heads are no multiple of its 5"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantised already"),
        ({"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 2}}, "scaled by 'linear'"),
        ({"rope_parameters": {"rope_type": "llama3"}}, "lack factor"),
        ({"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}}, "leave features out"),
        ({"layer_types": ["full_attention"] * 32}, None),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "not all of full attention"),
        ({"layer_types": 3}, "not all of full attention"),
        ({"layer_types": [["full_attention"]]}, "not all of full attention"),
        ({"num_key_value_heads": [8, 8]}, "its num_key_value_heads is [8, 8]"),
        ({"max_position_embeddings": None}, "its max_position_embeddings is None"),
        ({"rms_norm_eps": "1e-5"}, "its rms_norm_eps is '1e-5'"),
    ],
    ids=str,
)
def test_which_llms_the_decoder_leaves_to_transformers(changes: dict[str, Any], reason: str | None) -> None:
    found = choose(LLMConfig(quantization="nf4"), LLAMA | changes, None)
    assert found.code == ("decoder" if reason is None else "transformers")
    assert (reason or "") in found.reason
