"""LLM folders that are incomplete, broken, of another kind, or that would like to run code."""

import json
import struct
from pathlib import Path

from tests.hostile.case import INSPECT, SHORT, SMALL, TRAIN, Case, Spoil, both, cut, remove, replace, write

_RUN = (*TRAIN, *SMALL, *SHORT)
_WEIGHTS = "llm/model.safetensors"


def _set(**keys: object) -> Spoil:
    """Changes keys of the LLM's config.json."""

    def spoil(folder: Path) -> None:
        path = folder / "llm" / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **keys}), encoding="utf-8")

    return spoil


def _drop(part: str) -> Spoil:
    """Leaves out the tensors whose names hold `part`."""

    def spoil(folder: Path) -> None:
        from safetensors.numpy import load_file, save_file

        kept = {name: tensor for name, tensor in load_file(folder / _WEIGHTS).items() if part not in name}
        save_file(kept, folder / _WEIGHTS, {"format": "pt"})

    return spoil


def _header(text: bytes, says: int | None = None) -> bytes:
    """A safetensors file of this header, and 64 bytes of weights."""
    return struct.pack("<Q", len(text) if says is None else says) + text + b"\0" * 64


_HUGE = json.dumps(
    {"embed_tokens.weight": {"dtype": "F32", "shape": [2**40, 2**20], "data_offsets": [0, 2**62]}}
).encode()
_CODE = "import pathlib\npathlib.Path('ran').touch()\nclass Config: ...\nclass Model: ...\n"

LLM_CASES = [
    Case("no LLM", (*_RUN, "--llm", "nowhere/llm"), 4, ("nowhere/llm",)),
    Case("no config.json", _RUN, 4, ("'llm' is neither a folder",), remove("llm/config.json")),
    Case("an empty config.json", _RUN, 4, ("config.json", "cannot be read"), write("llm/config.json", "")),
    Case("a config.json that is a list", _RUN, 4, ("it holds no object",), write("llm/config.json", "[]")),
    Case("a config.json that is a list, in inspect", INSPECT, 4, ("it holds no object",), write("llm/config.json", "[]")),
    Case("a deeply nested config.json", _RUN, 4, ("config.json",), write("llm/config.json", '{"a":' * 100_000)),
    Case("a config.json that is no UTF-8", _RUN, 4, ("config.json",), write("llm/config.json", b"\xff\xfe{}")),
    Case("sizes that are texts", _RUN, 4, ("hidden_size 'wide'", "a whole number"), _set(hidden_size="wide")),
    Case("sizes that are negative", _RUN, 4, ("hidden_size -32", "a whole number"), _set(hidden_size=-32)),
    Case("sizes that are zero", _RUN, 4, ("num_attention_heads 0",), _set(num_attention_heads=0)),
    Case("sizes that are not the weights'", _RUN, 4, ("(257, 32)", "config.json says (257, 64)"), _set(hidden_size=64)),
    Case("an unknown architecture", _RUN, 4, ("nobody-knows",), _set(model_type="nobody-knows")),
    Case("an encoder-decoder", _RUN, 4, ("encoder-decoder",), _set(is_encoder_decoder=True)),
    Case("no weights", _RUN, 4, ("weights",), remove(_WEIGHTS)),
    Case("truncated weights", _RUN, 4, ("llm", "fetch the LLM again"), cut(_WEIGHTS, 0.6)),
    Case("empty weights", _RUN, 4, ("llm", "fetch the LLM again"), write(_WEIGHTS, b"")),
    Case("noise for weights", _RUN, 4, ("llm", "fetch the LLM again"), write(_WEIGHTS, b"\xa5" * 5000)),
    Case("a header longer than its file", _RUN, 4, ("llm", "fetch the LLM again"), write(_WEIGHTS, _header(b"{}", 2**60))),
    Case("a header that says huge tensors", _RUN, 4, ("llm", "fetch the LLM again"), write(_WEIGHTS, _header(_HUGE))),
    Case("a header that is no JSON", _RUN, 4, ("llm", "fetch the LLM again"), write(_WEIGHTS, _header(b"{nonsense"))),
    Case("an index of shards that are not here", _RUN, 4, ("has no weights",), both(remove(_WEIGHTS), write("llm/model.safetensors.index.json", '{"weight_map": {"a": "model-1.safetensors"}}'))),
    Case("an index that leads out of the folder", _RUN, 4, ("has no weights",), both(remove(_WEIGHTS), write("llm/model.safetensors.index.json", '{"weight_map": {"a": "../best.pt"}}'))),
    Case("no tokeniser", _RUN, 4, ("has no tokenizer",), both(remove("llm/tokenizer.json"), remove("llm/tokenizer_config.json"))),
    Case("a broken tokeniser", _RUN, 4, ("tokenizer",), write("llm/tokenizer.json", '{"model": 3}')),
    Case("a truncated tokeniser", _RUN, 4, ("tokenizer",), cut("llm/tokenizer.json", 0.5)),
    Case("a configuration with code of its own", _RUN, 4, ("code of its own, which is never run",), both(_set(model_type="own", auto_map={"AutoConfig": "own.Config", "AutoModel": "own.Model"}), write("llm/own.py", _CODE))),
    Case("a tokeniser with code of its own", _RUN, 4, ("has no tokenizer",), both(remove("llm/tokenizer.json"), write("llm/tokenizer_config.json", '{"auto_map": {"AutoTokenizer": ["own.Config", null]}}'), write("llm/own.py", _CODE))),
    Case("another LLM than the checkpoint's", ("predict", "best.pt", "data.csv"), 4, ("not the one of the checkpoint", "fingerprint"), both(replace("llm/tokenizer.json", "<|endoftext|>", "<|endoftexts|>", 99), replace("llm/tokenizer_config.json", "<|endoftext|>", "<|endoftexts|>", 99))),
    Case("an LLM that is gone", ("predict", "best.pt", "data.csv"), 4, ("--llm",), remove("llm/config.json")),
    Case("a missing layer, in inspect", (*INSPECT, *SMALL), 0, ("it has no tensor 'layers.1.input_layernorm.weight'",), _drop("layers.1.")),
    Case("a missing embedding", _RUN, 4, ("it has no tensor 'embed_tokens.weight'",), _drop("embed_tokens")),
    Case("a pointer of Git LFS", _RUN, 4, ("a pointer of Git LFS", "git lfs pull"), write(_WEIGHTS, "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 123\n")),
    Case("an adapter beside the weights", _RUN, 4, ("it is an adapter (LoRA)",), write("llm/adapter_config.json", "{}")),
    Case("weights quantised by GPTQ", _RUN, 4, ("quantised already (gptq)", "16 bits"), _set(quantization_config={"quant_method": "gptq", "bits": 4})),
    Case("weights quantised by MLX", _RUN, 4, ("quantised already (MLX)",), _set(quantization={"bits": 4, "group_size": 64})),
    Case("an epsilon that is no number", _RUN, 4, ("rms_norm_eps nan", "not a positive number"), _set(rms_norm_eps=float("nan"))),
    Case("a base of rotary positions that is a text", _RUN, 4, ("rope_theta 'many'",), _set(rope_theta="many")),
    Case("a number of layers without an end", _RUN, 4, ("num_hidden_layers 1000000",), _set(num_hidden_layers=10**30)),
    Case("more heads than features", _RUN, 4, ("llm",), _set(num_attention_heads=10**6)),
    Case("a user that nobody knows", (*_RUN, "--llm", "~nobody/x"), 4, ("~nobody/x",)),
    Case("a name of 300 letters", (*_RUN, "--llm", "x" * 300), 2, ("xxx", "File name too long")),
]  # fmt: skip
