"""Convert a GGUF file of the Llama family to a folder that `AutoModel` and `AutoTokenizer` load in a second or two.

transformers has a GGUF reader, but it takes four times as long, does not split digits in the tokenizer, and what it
saves differs by version. Weights are stored in float32: a value of a 4-bit block is a 16-bit scale times a number plus
a 16-bit offset. Of SmolLM2's values bfloat16 represents 21 % exactly, float16 58 %.
"""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

_MODULES = {
    "token_embd": "embed_tokens",
    "output_norm": "norm",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_CONTROL_TOKEN, _USER_DEFINED_TOKEN = 3, 4


def write_llm_folder(gguf_file: Path, folder: Path) -> None:
    """Write config.json, model.safetensors and the tokenizer's two files. Equal input gives equal bytes."""
    from gguf import GGUFReader

    reader = GGUFReader(gguf_file)
    facts = {name: field.contents() for name, field in reader.fields.items()}
    folder.mkdir()
    config = _config_of(facts)
    _write_weights(reader, config, folder / "model.safetensors")
    _write_tokenizer(facts, folder)
    _write_json(config, folder / "config.json")


def _config_of(facts: dict[str, Any]) -> dict[str, Any]:
    """The entries of transformers' LlamaConfig, from the metadata of a GGUF file."""
    return {
        "architectures": ["LlamaModel"],
        "model_type": "llama",
        "hidden_size": facts["llama.embedding_length"],
        "intermediate_size": facts["llama.feed_forward_length"],
        "num_hidden_layers": facts["llama.block_count"],
        "num_attention_heads": facts["llama.attention.head_count"],
        "num_key_value_heads": facts["llama.attention.head_count_kv"],
        "max_position_embeddings": facts["llama.context_length"],
        "rope_theta": facts["llama.rope.freq_base"],
        "rms_norm_eps": facts["llama.attention.layer_norm_rms_epsilon"],
        "vocab_size": len(facts["tokenizer.ggml.tokens"]),
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "bos_token_id": facts["tokenizer.ggml.bos_token_id"],
        "eos_token_id": facts["tokenizer.ggml.eos_token_id"],
        "pad_token_id": facts["tokenizer.ggml.padding_token_id"],
        "torch_dtype": "float32",
    }


def _write_weights(reader: Any, config: dict[str, Any], path: Path) -> None:
    """Write the file tensor by tensor: the library would hold all of them in memory, as much as a small run takes.

    The format is a length of 8 bytes, a JSON header of that length with each tensor's place, and the numbers.
    """
    named = {_name_of(tensor.name): tensor for tensor in reader.tensors}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in sorted(named.items()):
        shape = [int(size) for size in reversed(tensor.shape)]
        start, end = end, end + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, tensor in sorted(named.items()):
            file.write(_values_of(tensor, config).data)


def _name_of(tensor: str) -> str:
    """Transformers' name of a tensor of a GGUF file."""
    *block, part, _ = tensor.split(".")
    return f"layers.{block[1]}.{_MODULES[part]}.weight" if block else f"{_MODULES[part]}.weight"


def _values_of(tensor: Any, config: dict[str, Any]) -> "np.ndarray":
    """A tensor in float32, its rows as transformers has them."""
    import numpy as np
    from gguf.quants import dequantize

    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    part = tensor.name.split(".")[-2]
    values = dequantize(tensor.data, tensor.tensor_type)
    if part in heads:
        values = _undo_rotary_order(values, heads[part])
    return np.ascontiguousarray(values, dtype=np.float32)


def _undo_rotary_order(weight_OE: "np.ndarray", heads: int) -> "np.ndarray":
    """Reorder a matrix (out x in): for the rotary embedding, GGUF pairs neighbouring rows of a head, transformers pairs
    the rows of its two halves.
    """
    out, width = weight_OE.shape
    return weight_OE.reshape(heads, out // heads // 2, 2, width).swapaxes(1, 2).reshape(out, width)


def _write_tokenizer(facts: dict[str, Any], folder: Path) -> None:
    """Byte-level BPE with single digits, with which models of this GGUF tokenizer type ("smollm") were trained."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens = facts["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in facts["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    added = {_CONTROL_TOKEN: True, _USER_DEFINED_TOKEN: False}
    tokenizer.add_tokens(
        [
            AddedToken(token, special=added[kind], normalized=False)
            for token, kind in zip(tokens, facts["tokenizer.ggml.token_type"], strict=True)
            if kind in added
        ]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown"}
    named = {f"{ours}_token": tokens[facts[f"tokenizer.ggml.{theirs}_token_id"]] for ours, theirs in special.items()}
    _write_json(
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": facts["llama.context_length"],
            "clean_up_tokenization_spaces": False,
            **named,
        },
        folder / "tokenizer_config.json",
    )


def _write_json(content: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
