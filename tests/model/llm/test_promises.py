"""Of every LLM folder at hand: what `inspect` promises is what loading does, and batch-mates change no forecast."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.model.llm.llm_folders import FAMILIES, break_folders, make
from tests.untrained import CPU, histories, make_config, small_runner
from timellm_cli.config import LLMConfig
from timellm_cli.errors import ModelError, TimellmError
from timellm_cli.llm_files import fingerprint_llm
from timellm_cli.model.llm.transformers_loading import try_loading
from timellm_cli.model.load import load_model
from timellm_cli.planning import code_path
from timellm_cli.planning.prompt_tokens import require_fitting_tokenizer
from timellm_cli.planning.readiness import Check, _check_llm

IN_A_PROCESS = code_path.run_trial
NARROW = ("albert", "electra", "opt350")
MULTIMODAL = ("gemma3", "llava", "qwen2_5_vl")
REFUSED = {
    **dict.fromkeys(NARROW, "are 32 wide, but its layers 64"),
    **dict.fromkeys(MULTIMODAL, "reads more than text"),
    "t5": "is an encoder-decoder",
    **{
        f"{family}-{fault}": "it has no tensor"
        for family in ("qwen3", "gemma3_text")
        for fault in ("peft_prefix", "language_prefix", "inner_prefix", "no_layer_1", "no_embedding")
    },
    "lfs_pointer": "a pointer of Git LFS",
    "cut_file": "it is cut or damaged",
    "fp16_variant": "model.fp16.safetensors is not read",
    "consolidated": "consolidated.safetensors is not read",
    "adapter": "it is an adapter (LoRA)",
    "no_index": "model-00001-of-00002.safetensors, model-00002-of-00002.safetensors is not read",
    "gptq": "quantised already (gptq)",
    "awq": "quantised already (awq)",
    "no_positions": "max_position_embeddings",
}
"""What is said of each folder that cannot be used. All others can."""
FOLDERS = [*FAMILIES, *(name for name in REFUSED if name not in FAMILIES)]


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("llms")
    for name in FAMILIES:
        make(name, out / name)
    break_folders(out)
    return out


@pytest.fixture(autouse=True)
def tried_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials of transformers run in this process, which has imported it anyway."""
    monkeypatch.setattr(code_path, "run_trial", trial)


def trial(llm: LLMConfig, folder: Path) -> list[str] | None:
    try:
        try_loading(llm, folder)
    except TimellmError as refusal:
        return [refusal.message, refusal.hint]
    return None


def check(folder: Path, **llm: object) -> Check:
    return _check_llm(make_config(Path("unread.csv"), folder, **{f"llm__{key}": value for key, value in llm.items()}))


@pytest.mark.parametrize("layers", [2, "all"])
@pytest.mark.parametrize("name", FOLDERS)
def test_what_inspect_calls_ready_loads_and_what_it_refuses_is_refused(
    folders: Path, name: str, layers: object
) -> None:
    config = make_config(Path("unread.csv"), folders / name, llm__layers=layers)
    found = _check_llm(config)
    assert found.ok == (name not in REFUSED), found.detail
    if found.ok:
        runner = load_model(config, CPU)
        with torch.no_grad():
            assert runner.model(histories(2), runner.encoder.encode(histories(2))).isfinite().all()
        return
    assert REFUSED[name] in found.detail
    assert found.remedy
    with pytest.raises(ModelError):
        load_model(config, CPU)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in REFUSED])
def test_a_forecast_does_not_depend_on_its_batch_mates(folders: Path, name: str) -> None:
    runner, history = small_runner(folders / name), histories(6)
    model, encode = runner.model.eval(), runner.encoder.encode
    assert len(encode(history).mask_BK.sum(dim=1).unique()) > 2, "the prompts should differ in length"
    with torch.no_grad():
        together = model(history, encode(history))
        alone = torch.cat([model(window, encode(window)) for window in history.split(1)])
    torch.testing.assert_close(
        together / history.std(dim=1, keepdim=True), alone / history.std(dim=1, keepdim=True), rtol=1e-4, atol=2e-5
    )


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
@pytest.mark.parametrize("name", ["mamba", "jamba", "falcon_h1", "mixtral"])
def test_unusual_families_run_and_learn_with_quantised_weights(folders: Path, name: str, quantization: str) -> None:
    runner = small_runner(folders / name, quantization)
    runner.model(histories(3), runner.encoder.encode(histories(3))).square().mean().backward()
    weights = runner.model.trainable_weights()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in weights.values())


def test_a_family_that_cannot_be_run_is_one_sentence(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr("timellm_cli.model.llm.transformers_llm.TransformersLLM._read_in_one_pass", fails)
    with pytest.raises(ModelError, match="transformers cannot run this LLM of type gpt2 here"):
        small_runner(folders / "gpt2")


def test_a_reading_that_runs_out_of_memory_is_not_taken_for_one_that_cannot_be(
    folders: Path, monkeypatch: pytest.MonkeyPatch, private_cache: Path
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("timellm_cli.model.llm.transformers_llm.TransformersLLM._read_in_two_passes", fails)
    with pytest.raises(torch.OutOfMemoryError):
        small_runner(folders / "gpt2")
    assert not list(private_cache.rglob("reading-*"))


@pytest.mark.parametrize("name", ["roberta", "xlm_roberta", "mpt", "gemma2", "mamba", "gpt_oss", "bert", "gemma3_text"])
def test_one_prompt_alone_is_read_as_transformers_reads_it_by_default(folders: Path, name: str) -> None:
    runner = small_runner(folders / name)
    llm, prompt = runner.model.llm, runner.encoder.encode(histories(1))
    tokens = torch.randn(1, 12, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        embedded = torch.cat([llm.llm.get_input_embeddings()(prompt.joined().ids_BK), tokens], dim=1)
        expected = llm.llm(inputs_embeds=embedded).last_hidden_state[:, -12:]
        torch.testing.assert_close(llm(prompt, tokens), expected, rtol=1e-4, atol=1e-4)


def test_how_an_llm_is_read_is_tried_once_and_kept(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = small_runner(folders / "gemma2").model.llm.reading
    monkeypatch.setattr("timellm_cli.model.llm.transformers_llm.TransformersLLM._try_readings", None)
    assert small_runner(folders / "gemma2").model.llm.reading == first
    assert first.by_length


def test_the_trial_runs_in_a_process_of_its_own_and_its_answer_is_kept(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code_path, "run_trial", IN_A_PROCESS)
    found = check(folders / "gemma3_text-no_layer_1")
    assert not found.ok
    assert "it has no tensor layers.1.input_layernorm.weight" in found.detail


def test_an_answer_of_a_trial_is_asked_for_once(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "transformers tried it in" in check(folders / "gpt2").detail
    monkeypatch.setattr(code_path, "run_trial", None)
    assert check(folders / "gpt2").detail == str(folders / "gpt2")


def test_without_transformers_inspect_says_that_it_did_not_check(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> str:
        raise ImportError(name)

    monkeypatch.setattr(code_path, "version", absent)
    assert check(folders / "gpt2").detail.endswith("not checked: transformers is not installed")


Tensors = dict[str, torch.Tensor]


def _without(name: str) -> Callable[[Tensors], object]:
    return lambda tensors: tensors.pop(name)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_without("model.layers.1.mlp.up_proj.weight"), "it has no tensor 'layers.1.mlp.up_proj.weight'"),
        (_without("model.embed_tokens.weight"), "it has no tensor 'embed_tokens.weight'"),
        (
            lambda tensors: tensors.update({"model.norm.weight": torch.ones(7)}),
            "'norm.weight' is (7,), but config.json says (64,)",
        ),
        (
            lambda tensors: tensors.update({"model.norm.weight": torch.ones(64, dtype=torch.int64)}),
            "'norm.weight' holds numbers of type I64",
        ),
        (
            lambda tensors: tensors.update({"model.layers.0.self_attn.o_proj.bias": torch.ones(64)}),
            "config.json says nothing of 'layers.0.self_attn.o_proj.bias'",
        ),
    ],
)
def test_of_our_own_decoder_the_headers_say_what_is_wrong(
    folders: Path, tmp_path: Path, spoil: Callable[[Tensors], object], said: str
) -> None:
    folder = copy_of(folders / "llama", tmp_path)
    tensors = load_file(folder / "model.safetensors")
    spoil(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    found = check(folder, layers=2)
    assert not found.ok
    assert said in found.detail
    with pytest.raises(ModelError) as refused:
        load_model(make_config(Path("unread.csv"), folder), CPU)
    assert said in refused.value.message


def test_layers_that_a_run_leaves_out_may_be_missing(folders: Path, tmp_path: Path) -> None:
    folder = copy_of(folders / "llama", tmp_path)
    tensors = load_file(folder / "model.safetensors")
    save_file(
        {name: tensor for name, tensor in tensors.items() if ".layers.3." not in name}, folder / "model.safetensors"
    )
    assert check(folder, layers=3).ok
    assert not check(folder, layers="all").ok


@pytest.mark.parametrize("name", ["llama", "gemma3_text"])
@pytest.mark.parametrize(
    "tensor", ["model.embed_tokens.weight", "model.layers.1.mlp.up_proj.weight", "model.norm.weight"]
)
def test_weights_that_are_not_finite_are_refused_by_name(folders: Path, tmp_path: Path, name: str, tensor: str) -> None:
    folder = copy_of(folders / name, tmp_path)
    tensors = load_file(folder / "model.safetensors")
    tensors[tensor].view(-1)[3] = float("nan")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="not finite") as refused:
        load_model(make_config(Path("unread.csv"), folder), CPU)
    assert tensor.split(".")[-2] in refused.value.message


def test_a_quantised_folder_is_loaded_as_it_is_or_refused(folders: Path, tmp_path: Path) -> None:
    folder = copy_of(folders / "qwen3", tmp_path)
    entries = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    set_keys(folder, quantization_config=entries)
    assert check(folder, quantization="int8").remedy.startswith("use --quantization nf4")
    set_keys(folder, quantization_config=None, quantization={"group_size": 64, "bits": 4})
    assert "quantised already (MLX)" in check(folder).detail


def test_the_fingerprint_is_of_what_is_computed_with_and_of_nothing_else(folders: Path, tmp_path: Path) -> None:
    folder = copy_of(folders / "llama", tmp_path)
    same = fingerprint_llm(folder)
    (folder / "README.md").write_text("read me", encoding="utf-8")
    save_file({"other": torch.ones(3)}, folder / "adapter_of_another.safetensors")
    set_keys(folder, _name_or_path="elsewhere", transformers_version="4.0")
    tensors = load_file(folder / "model.safetensors")
    parts = {"model-1.safetensors": list(tensors)[:9], "model-2.safetensors": list(tensors)[9:]}
    for shard, names in parts.items():
        save_file({name: tensors[name] for name in names}, folder / shard)
    index = {"weight_map": {name: shard for shard, names in parts.items() for name in names}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    (folder / "model.safetensors").unlink()
    assert fingerprint_llm(folder) == same, "other shards and files that are not read"
    set_keys(folder, rms_norm_eps=1e-3)
    assert fingerprint_llm(folder) != same


@pytest.mark.parametrize(
    "name", ["tokenizer_config.json", "tokenizer.model", "vocab.json", "merges.txt", "tokenizer.json"]
)
def test_each_file_of_the_tokeniser_is_in_the_fingerprint(folders: Path, tmp_path: Path, name: str) -> None:
    folder = copy_of(folders / "llama", tmp_path)
    before = fingerprint_llm(folder)
    with (folder / name).open("a", encoding="utf-8") as file:
        file.write(" ")
    assert fingerprint_llm(folder) != before


@pytest.mark.parametrize(
    "header", [b"[]", b'{"a": 3}', b'{"a": {"dtype": "F32", "shape": ["x"], "data_offsets": [0, 4]}}']
)
def test_a_header_that_makes_no_sense_is_one_sentence(folders: Path, tmp_path: Path, header: bytes) -> None:
    folder = copy_of(folders / "llama", tmp_path)
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    assert "cannot be loaded" in check(folder).detail


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"hidden_size": [64, 64]}, ""),
        ({"num_hidden_layers": 10**30}, "a size is a whole number"),
        ({"num_hidden_layers": 10**9}, "it has no tensor"),
        ({"num_attention_heads": 10**6}, ""),
        ({"rms_norm_eps": float("nan")}, "not a positive number"),
        ({"rope_theta": "many"}, "not a positive number"),
        ({"n_layer": "two", "model_type": "gpt2"}, "a size is a whole number"),
        ({"model_type": ["llama"]}, ""),
        ({"text_config": [1]}, ""),
        ({"quantization_config": "yes"}, "quantised already"),
        ({"vocab_size": None}, ""),
    ],
)
def test_nonsense_in_config_json_is_one_sentence_in_inspect_and_in_loading(
    folders: Path, tmp_path: Path, keys: dict[str, object], said: str
) -> None:
    folder = copy_of(folders / "llama", tmp_path)
    set_keys(folder, **keys)
    config = make_config(Path("unread.csv"), folder, llm__layers="all")
    try:
        found = _check_llm(config)
    except ModelError as refused:  # which ends `inspect`
        found = Check("LLM", False, refused.message)
    assert not found.ok
    assert said in found.detail
    with pytest.raises(ModelError):
        load_model(config, CPU)


@pytest.mark.parametrize(
    ("changes", "keys", "said"),
    [
        (
            {"normalizer": {"type": "Replace", "pattern": {"Regex": r"[\s\S]+"}, "content": ""}},
            {},
            "makes no token of",
        ),
        ({}, {"vocab_size": 100}, "the LLM has 100 tokens"),
    ],
)
def test_a_tokenizer_that_does_not_fit_is_refused_by_inspect_and_by_loading(
    folders: Path, tmp_path: Path, changes: dict[str, object], keys: dict[str, int], said: str
) -> None:
    folder = copy_of(folders / "llama", tmp_path)
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")
    if keys:
        set_keys(folder, **keys)
        tensors = load_file(folder / "model.safetensors")
        tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"][:100].clone()
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    config = make_config(Path("unread.csv"), folder)
    with pytest.raises(ModelError, match=said):
        require_fitting_tokenizer(config, keys.get("vocab_size", 1024))
    with pytest.raises(ModelError, match=said):
        load_model(config, CPU)


def copy_of(source: Path, target: Path) -> Path:
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def set_keys(folder: Path, **keys: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **keys}), encoding="utf-8")
