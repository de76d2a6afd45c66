"""What an LLM is made of, read from numbers alone: its `config.json`, or the table of well-known models. Light.

The weights are neither needed nor opened. `LLMShape` counts what `AutoModel` builds: the backbone without the head that
would predict the next token.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from timellm_cli.errors import did_you_mean
from timellm_cli.llm_files import NO_LLM, find_llm, read_llm_config
from timellm_cli.planning.experts import EXPERT_FAMILIES, Mixture, count_experts, experts_are_counted, has_experts

Keys = Mapping[str, Any]


@dataclass(frozen=True)
class KnownLLM:
    """A well-known LLM: its hub id, the family of its tokenizer, and the entries of its config.json."""

    hub_id: str
    tokenizer: str
    keys: Keys


@dataclass(frozen=True)
class Linear:
    """One matrix of a layer, from `inputs` numbers to `outputs`. Quantization shrinks it; its bias stays 16-bit."""

    name: str
    inputs: int
    outputs: int
    bias: bool

    @property
    def weights(self) -> int:
        """Entries of the matrix."""
        return self.inputs * self.outputs


@dataclass(frozen=True)
class LLMShape:
    """An LLM in numbers. E = `hidden`, V = `vocab`.

    `origin` says where the numbers come from; `exact` is False for an architecture that this module does not know and
    counts like a Llama. `norms`, `linears` and `norm_parameters` are of one layer; `other_parameters` are outside the
    layers (final norm, BERT's embedding norm and pooler); `file_parameters` adds what only the published files hold
    (an untied head). `kept_in_mlp` is how many tensors as wide as the MLP a backward pass needs: 3 of a gated one
    (gate, its activation, up), 4 of GPT-2's GELU written out, 1 of a GELU in one piece. `soft_cap`: attention scores go
    through a tanh, which no fused attention does. `expert_parameters` are those of one layer's router and experts,
    which no quantization reaches; `intermediate` is then the width of all MLPs that a token goes through, and `mixture`
    says how it goes.
    """

    name: str
    origin: str
    family: str
    exact: bool
    tokenizer: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    max_positions: int
    causal: bool
    rotary: bool
    fused_qkv: bool
    rms_norms: bool
    norms: int
    head_norms: bool
    soft_cap: bool
    kept_in_mlp: int
    linears: tuple[Linear, ...]
    norm_parameters: int
    embedding_parameters: int
    other_parameters: int
    file_parameters: int
    file_bytes_per_weight: int
    expert_parameters: int = 0
    mixture: Mixture | None = None

    def used_layers(self, wanted: int | Literal["all"]) -> int:
        """How many layers a run keeps: all of them where more are wanted, which readiness refuses."""
        return self.layers if wanted == "all" else min(wanted, self.layers)

    @property
    def linear_weights(self) -> int:
        """Entries of all matrices of one layer: what quantization shrinks."""
        return sum(linear.weights for linear in self.linears)

    @property
    def bias_parameters(self) -> int:
        """Biases of one layer."""
        return sum(linear.outputs for linear in self.linears if linear.bias)

    @property
    def layer_parameters(self) -> int:
        """All parameters of one layer."""
        return self.linear_weights + self.bias_parameters + self.norm_parameters + self.expert_parameters

    def parameters(self, layers: int) -> int:
        """Parameters of the backbone cut to `layers` layers, as `AutoModel` counts them."""
        return self.embedding_parameters + layers * self.layer_parameters + self.other_parameters

    @property
    def file_bytes(self) -> int:
        """About what the published files weigh: every parameter in the number format they are published in."""
        return self.file_parameters * self.file_bytes_per_weight


def look_up_llm(name: str) -> LLMShape | None:
    """The shape of an LLM by its folder on this computer, else by the table; None if neither has it, or for 'none'.

    Raises ModelError for a folder whose config.json cannot be read.
    """
    if name == NO_LLM:
        return None
    known = _table().get(name)
    if folder := find_llm(name):
        shape = read_config(folder, name)
        # A folder does not say which tokenizer family it belongs to; the table may.
        return replace(shape, tokenizer=known.tokenizer) if shape and known else shape
    return shape_of(name, known.keys, origin="table", tokenizer=known.tokenizer) if known else None


def look_up_keys(name: str) -> Keys | None:
    """The keys of an LLM's config.json, by its folder on this computer, else by the table; None if neither has it.

    Raises ModelError for a folder whose config.json cannot be read.
    """
    if folder := find_llm(name):
        return read_llm_config(folder)
    return _table()[name].keys if name in _table() else None


def known_llms() -> tuple[str, ...]:
    """Names in the table of well-known models."""
    return tuple(_table())


def hub_id_of(name: str) -> str:
    """The hub id of a well-known LLM's short name, such as 'gpt2'; another name, as with an owner, as it is."""
    return _table()[name].hub_id if name in _table() and "/" not in name else name


def unknown_llm(name: str) -> str:
    """What to say about a name that neither a folder nor the table knows."""
    return f"'{name}' is neither a folder on this computer nor a well-known LLM{did_you_mean(name, known_llms())}"


def reads_and_writes(folder: Path) -> bool:
    """Whether the LLM has an encoder and a decoder, such as T5; patches can go through one only."""
    return bool(read_llm_config(folder).get("is_encoder_decoder"))


def read_config(folder: Path, name: str) -> LLMShape | None:
    """The shape that a folder's config.json describes, None if it names its sizes in an unknown way.

    Raises ModelError if the file cannot be read.
    """
    keys = read_llm_config(folder)
    return shape_of(
        name, keys, origin=str(folder), tokenizer=_TOKENIZER_OF_FAMILY.get(str(keys.get("model_type")), "other")
    )


def shape_of(name: str, keys: Keys, *, origin: str, tokenizer: str) -> LLMShape | None:
    """The shape that the keys of a config.json describe; None if some are missing: the size is not known then."""
    family = str(keys.get("model_type", "unnamed"))
    keys = keys["text_config"] if isinstance(keys.get("text_config"), Mapping) else keys
    is_mixture = has_experts(keys)
    if keys.get("is_encoder_decoder") or (is_mixture and not experts_are_counted(keys, family)):
        return None
    build = _mixture if is_mixture else {"gpt2": _gpt2, "bert": _bert}.get(family, _llama)
    try:
        parts = build(keys, family)
    except (KeyError, TypeError):
        return None
    if not all(type(parts[name]) is int and parts[name] > 0 for name in _COUNTED):
        return None
    if "roberta" in family:  # its first positions are left to padding
        parts["max_positions"] -= (keys.get("pad_token_id") or 0) + 1
    head_is_tied = keys.get("tie_word_embeddings", family in ("gpt2", "bert", "gemma2"))
    head = 0 if head_is_tied else parts["vocab"] * parts["hidden"]
    shape = LLMShape(
        name=name, origin=origin, family=family, exact=family in (*FAMILIES, *EXPERT_FAMILIES), tokenizer=tokenizer,
        file_parameters=0,
        file_bytes_per_weight=_BYTES.get(str(keys.get("dtype") or keys.get("torch_dtype")), 4), **parts,
    )  # fmt: skip
    return replace(shape, file_parameters=shape.parameters(shape.layers) + head)


_COUNTED = ("layers", "hidden", "heads", "kv_heads", "head_dim", "intermediate", "vocab", "max_positions")

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "gpt2", "bert")
"""Architectures whose parameters are counted exactly, by the `model_type` of their config.json."""

_TOKENIZER_OF_FAMILY = {"qwen2": "qwen", "qwen3": "qwen", "gpt2": "gpt2", "bert": "bert", "gemma2": "gemma"}
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def _llama(keys: Keys, family: str) -> dict[str, Any]:
    """Llama and its kin: rotary positions, gated MLP, RMS norms, grouped keys and values (Touvron et al., 2023).

    Qwen2 gives q, k and v a bias; Qwen3 norms each head's q and k; Gemma 2 norms before and after each block.
    """
    hidden, heads, inner = keys["hidden_size"], keys["num_attention_heads"], keys["intermediate_size"]
    kv_heads = keys.get("num_key_value_heads") or heads
    head_dim = keys.get("head_dim") or hidden // heads
    qkv_bias = family == "qwen2" or bool(keys.get("attention_bias"))
    out_bias, mlp_bias = bool(keys.get("attention_bias")), bool(keys.get("mlp_bias"))
    return {
        "layers": keys["num_hidden_layers"], "hidden": hidden, "heads": heads, "kv_heads": kv_heads,
        "head_dim": head_dim, "intermediate": inner, "vocab": keys["vocab_size"],
        "max_positions": keys.get("max_position_embeddings") or 2048, "causal": True, "rotary": True,
        "fused_qkv": False, "rms_norms": True, "norms": 4 if family == "gemma2" else 2,
        "head_norms": family == "qwen3", "soft_cap": family == "gemma2", "kept_in_mlp": 3,
        "linears": (
            Linear("q", hidden, heads * head_dim, qkv_bias),
            Linear("k", hidden, kv_heads * head_dim, qkv_bias),
            Linear("v", hidden, kv_heads * head_dim, qkv_bias),
            Linear("o", heads * head_dim, hidden, out_bias),
            Linear("gate", hidden, inner, mlp_bias),
            Linear("up", hidden, inner, mlp_bias),
            Linear("down", inner, hidden, mlp_bias),
        ),
        "norm_parameters": hidden * (4 if family == "gemma2" else 2) + (2 * head_dim if family == "qwen3" else 0),
        "embedding_parameters": keys["vocab_size"] * hidden,
        "other_parameters": hidden,
    }  # fmt: skip


def _mixture(keys: Keys, family: str) -> dict[str, Any]:
    """A Llama with experts in place of its MLP, and in Qwen2-MoE a shared one beside them (Jiang et al., 2024)."""
    experts, inner, mixture = count_experts(keys, family)
    kin = {"qwen2_moe": "qwen2", "qwen3_moe": "qwen3"}.get(family, family)
    parts = _llama({**keys, "intermediate_size": mixture.shared or 1}, kin)
    q, k, v, out, *mlp = parts["linears"]
    kept = (q, k, v, out)
    if mixture.shared:
        kept += (*mlp, Linear("shared gate", keys["hidden_size"], 1, False))
    norms = (parts["heads"] + parts["kv_heads"]) * parts["head_dim"] if mixture.norms_heads else 0
    return parts | {
        "intermediate": inner,
        "linears": kept,
        "expert_parameters": experts,
        "mixture": mixture,
        "norm_parameters": parts["norm_parameters"] + norms,
    }


def _gpt2(keys: Keys, _family: str) -> dict[str, Any]:
    """GPT-2: learned positions, fused q, k and v, layer norms with bias, a plain MLP (Radford et al., 2019)."""
    hidden, positions = keys["n_embd"], keys["n_positions"]
    inner = keys.get("n_inner") or 4 * hidden
    return {
        "layers": keys["n_layer"], "hidden": hidden, "heads": keys["n_head"], "kv_heads": keys["n_head"],
        "head_dim": hidden // keys["n_head"], "intermediate": inner, "vocab": keys["vocab_size"],
        "max_positions": positions, "causal": True, "rotary": False,
        "fused_qkv": True, "rms_norms": False, "norms": 2, "head_norms": False, "soft_cap": False, "kept_in_mlp": 4,
        "linears": (
            Linear("qkv", hidden, 3 * hidden, True),
            Linear("o", hidden, hidden, True),
            Linear("up", hidden, inner, True),
            Linear("down", inner, hidden, True),
        ),
        "norm_parameters": 4 * hidden,
        "embedding_parameters": (keys["vocab_size"] + positions) * hidden,
        "other_parameters": 2 * hidden,
    }  # fmt: skip


def _bert(keys: Keys, _family: str) -> dict[str, Any]:
    """BERT: reads both ways, learned positions and segments, norms after each block, a pooler (Devlin et al., 2019)."""
    hidden, inner, heads = keys["hidden_size"], keys["intermediate_size"], keys["num_attention_heads"]
    positions, segments = keys["max_position_embeddings"], keys.get("type_vocab_size", 2)
    return {
        "layers": keys["num_hidden_layers"], "hidden": hidden, "heads": heads, "kv_heads": heads,
        "head_dim": hidden // heads, "intermediate": inner, "vocab": keys["vocab_size"],
        "max_positions": positions, "causal": False, "rotary": False,
        "fused_qkv": False, "rms_norms": False, "norms": 2, "head_norms": False, "soft_cap": False, "kept_in_mlp": 1,
        "linears": (
            *(Linear(name, hidden, hidden, True) for name in ("q", "k", "v", "o")),
            Linear("up", hidden, inner, True),
            Linear("down", inner, hidden, True),
        ),
        "norm_parameters": 4 * hidden,
        "embedding_parameters": (keys["vocab_size"] + positions + segments) * hidden,
        "other_parameters": 2 * hidden + hidden * (hidden + 1),
    }  # fmt: skip


@cache
def _table() -> dict[str, KnownLLM]:
    entries = tomllib.loads(Path(__file__).with_name("known_llms.toml").read_text(encoding="utf-8"))["llm"]
    known = [(entry.pop("names"), entry.pop("tokenizer"), entry) for entry in entries]
    return {name: KnownLLM(names[0], tokenizer, keys) for names, tokenizer, keys in known for name in names}
