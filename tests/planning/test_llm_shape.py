"""The shapes of LLMs: counted from their configuration, equal to what transformers builds and to what was published."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.planning.cases import TINY, known_shape, tiny_shape
from timellm_cli.errors import ModelError
from timellm_cli.planning.llm_shape import (
    FAMILIES,
    hub_id_of,
    known_llms,
    look_up_llm,
    read_config,
    reads_and_writes,
    shape_of,
    unknown_llm,
)

PUBLISHED_PARAMETERS = {
    "Qwen/Qwen2.5-0.5B": 494_032_768,
    "Qwen/Qwen2.5-1.5B": 1_543_714_304,
    "Qwen/Qwen2.5-3B": 3_085_938_688,
    "Qwen/Qwen2.5-7B": 7_615_616_512,
    "Qwen/Qwen3-0.6B": 596_049_920,
    "Qwen/Qwen3-1.7B": 1_720_574_976,
    "Qwen/Qwen3-4B": 4_022_468_096,
    "Qwen/Qwen3-8B": 8_190_735_360,
    "meta-llama/Llama-2-7b-hf": 6_738_415_616,
    "huggyllama/llama-7b": 6_738_415_616,
    "meta-llama/Meta-Llama-3-8B-Instruct": 8_030_261_248,
    "meta-llama/Llama-3.1-8B": 8_030_261_248,
    "meta-llama/Llama-3.2-1B": 1_235_814_400,
    "meta-llama/Llama-3.2-3B": 3_212_749_824,
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0": 1_100_048_384,
    "mistralai/Mistral-7B-v0.1": 7_241_732_096,
    "mistralai/Mistral-7B-v0.3": 7_248_023_552,
    "smollm2-135m": 134_515_008,
    "HuggingFaceTB/SmolLM2-360M": 361_821_120,
    "HuggingFaceTB/SmolLM2-1.7B": 1_711_376_384,
    "google/gemma-2-2b": 2_614_341_888,
    "gpt2": 124_439_808,
    "openai-community/gpt2-medium": 354_823_168,
    "openai-community/gpt2-large": 774_030_080,
    "openai-community/gpt2-xl": 1_557_611_200,
    "bert-base-uncased": 109_482_240,
}
"""As the model cards and safetensors headers give them, the head that predicts tokens included."""

BIG = {
    "llama": "meta-llama/Llama-3.2-1B",
    "mistral": "mistralai/Mistral-7B-v0.1",
    "qwen2": "Qwen/Qwen2.5-3B",
    "qwen3": "Qwen/Qwen3-0.6B",
    "gemma2": "google/gemma-2-2b",
    "gpt2": "gpt2",
    "bert": "bert-base-uncased",
}


@pytest.mark.parametrize("name", PUBLISHED_PARAMETERS)
def test_the_table_gives_the_published_number_of_parameters(name: str) -> None:
    assert known_shape(name).file_parameters == PUBLISHED_PARAMETERS[name]


def build_on_meta(family: str, keys: dict[str, Any]) -> Any:
    import torch
    from transformers import AutoConfig, AutoModel

    with torch.device("meta"):
        return AutoModel.from_config(AutoConfig.for_model(family, **keys))


def count_on_meta(family: str, keys: dict[str, Any]) -> int:
    return sum(parameter.numel() for parameter in build_on_meta(family, keys).parameters())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layers", [1, 3])
def test_parameters_are_what_transformers_builds(family: str, layers: int) -> None:
    depth = "n_layer" if family == "gpt2" else "num_hidden_layers"
    assert tiny_shape(family).parameters(layers) == count_on_meta(family, {**TINY[family], depth: layers})


@pytest.mark.parametrize("family", FAMILIES)
def test_a_well_known_llm_of_every_family_is_what_transformers_builds(family: str) -> None:
    shape = known_shape(BIG[family])
    if family == "gpt2":
        keys = {"n_embd": shape.hidden, "n_layer": 2, "n_head": shape.heads, "vocab_size": shape.vocab}
    else:
        keys = {
            "hidden_size": shape.hidden,
            "num_hidden_layers": 2,
            "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.kv_heads,
            "head_dim": shape.head_dim,
            "intermediate_size": shape.intermediate,
            "vocab_size": shape.vocab,
        }
        if family == "bert":
            del keys["num_key_value_heads"], keys["head_dim"]
    assert shape.parameters(2) == count_on_meta(family, keys)


@pytest.mark.parametrize("biases", [{"attention_bias": True}, {"mlp_bias": True}])
def test_optional_biases_of_a_llama_are_counted(biases: dict[str, bool]) -> None:
    keys = {**TINY["llama"], **biases}
    shape = shape_of("biased", {"model_type": "llama", **keys}, origin="test", tokenizer="other")
    assert shape is not None and shape.parameters(3) == count_on_meta("llama", keys)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_matrices_that_quantization_shrinks_are_those_of_the_layers(family: str) -> None:
    """Two-dimensional weights of a layer, by number and size, as bitsandbytes would find them."""
    model = build_on_meta(family, TINY[family])
    layers = model.h if family == "gpt2" else model.encoder.layer if family == "bert" else model.layers
    found = sorted(parameter.numel() for parameter in layers[0].parameters() if parameter.dim() == 2)
    assert sorted(linear.weights for linear in tiny_shape(family).linears) == found


def test_a_folder_on_this_computer_is_read_before_the_table(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "llama", **TINY["llama"], "dtype": "float16"}), encoding="utf-8"
    )
    shape = known_shape(str(tmp_path))
    assert (shape.layers, shape.hidden, shape.origin) == (3, 64, str(tmp_path))
    assert shape.file_bytes == 2 * shape.file_parameters


def test_the_hub_cache_is_read_before_the_table(private_cache: Path) -> None:
    repository, commit = private_cache / "huggingface" / "hub" / "models--Qwen--Qwen2.5-3B", "0123456789" * 4
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit, encoding="utf-8")
    (snapshot / "config.json").write_text(json.dumps({"model_type": "qwen2", **TINY["qwen2"]}), encoding="utf-8")
    shape = known_shape("Qwen/Qwen2.5-3B")
    assert (shape.layers, shape.tokenizer, shape.origin) == (3, "qwen", str(snapshot))


def test_the_folders_of_the_reference_data_are_read(shared_dir: Path) -> None:
    llama, gpt2 = (known_shape(str(shared_dir / "golden" / family / "llm")) for family in ("llama", "gpt2"))
    assert (llama.family, llama.layers, llama.hidden, llama.kv_heads) == ("llama", 2, 32, 2)
    assert (gpt2.family, gpt2.layers, gpt2.hidden, gpt2.fused_qkv) == ("gpt2", 2, 32, True)


def test_no_llm_and_an_unknown_one_have_no_shape() -> None:
    assert look_up_llm("none") is None
    assert look_up_llm("Qwen/Qwen9-1T") is None


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    assert unknown_llm("qwen/qwen2.5-3b").endswith("did you mean 'Qwen/Qwen2.5-3B'?")
    assert "Qwen/Qwen2.5-3B" in known_llms()


def test_an_unknown_architecture_is_counted_like_a_llama_and_says_so() -> None:
    shape = shape_of("new", {"model_type": "olmo9", **TINY["llama"]}, origin="test", tokenizer="other")
    assert shape is not None and not shape.exact
    assert shape.parameters(3) == tiny_shape("llama").parameters(3)


@pytest.mark.parametrize("family", ["opt", "bloom", "distilbert"])
def test_the_size_of_a_family_with_names_of_its_own_is_not_known(tmp_path: Path, family: str) -> None:
    from transformers import AutoConfig

    AutoConfig.for_model(family).save_pretrained(tmp_path)
    assert look_up_llm(str(tmp_path)) is None
    assert not reads_and_writes(tmp_path)


def test_an_llm_that_reads_and_writes_is_told_apart(tmp_path: Path) -> None:
    keys = {"model_type": "t5", "d_model": 512, "is_encoder_decoder": True}
    (tmp_path / "config.json").write_text(json.dumps(keys), encoding="utf-8")
    assert reads_and_writes(tmp_path)
    assert read_config(tmp_path, "t5") is None


def test_a_broken_configuration_is_refused_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(ModelError, match=r"config\.json' cannot be read"):
        read_config(tmp_path, "broken")


def test_no_more_layers_are_used_than_there_are() -> None:
    shape = known_shape("gpt2")
    assert [shape.used_layers(wanted) for wanted in ("all", 6, 13)] == [12, 6, 12]


def test_a_hub_id_stays_as_it_is_and_a_short_name_gets_its_own() -> None:
    assert hub_id_of("meta-llama/Meta-Llama-3-8B-Instruct") == "meta-llama/Meta-Llama-3-8B-Instruct"
    assert hub_id_of("gpt2") == "openai-community/gpt2"
