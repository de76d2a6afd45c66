"""LLMs of a given shape with random weights that are drawn where they are used: no file, no download.

Time and memory of a step do not depend on the values of the weights. A tensor is drawn from its name, so transformers'
model and our decoder get the very same weights.
"""

import json
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from gpu_profiles import LLAMA_8B, QWEN_3B
from torch import Tensor, nn

from timellm_cli.config import Config, LLMConfig
from timellm_cli.model import load
from timellm_cli.model.llm.decoder import Decoder
from timellm_cli.model.llm.decoder_loading import build_decoder
from timellm_cli.model.llm.ops import Kernels
from timellm_cli.model.llm.transformers_llm import TransformersLLM
from timellm_cli.model.llm.transformers_loading import DTYPES
from timellm_cli.planning.llm_shape import look_up_keys

SMOLLM2 = {
    "model_type": "llama", "hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9,
    "num_key_value_heads": 3, "intermediate_size": 1536, "vocab_size": 49_152, "tie_word_embeddings": True,
    "max_position_embeddings": 8192, "rope_theta": 100_000.0,
}  # fmt: skip
TOY = {
    "model_type": "qwen2", "hidden_size": 128, "num_hidden_layers": 36, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 256, "vocab_size": 49_152, "tie_word_embeddings": True,
    "max_position_embeddings": 8192,
}  # fmt: skip
TOY_GPT2 = {
    "model_type": "gpt2", "n_embd": 128, "n_layer": 12, "n_head": 4, "vocab_size": 49_152, "n_positions": 1024,
}  # fmt: skip


HUB_NAMES = {
    "qwen2.5-0.5b": "Qwen/Qwen2.5-0.5B", "qwen2.5-1.5b": "Qwen/Qwen2.5-1.5B", "qwen2.5-3b": "Qwen/Qwen2.5-3B",
    "qwen2.5-7b": "Qwen/Qwen2.5-7B", "llama-3.2-1b": "meta-llama/Llama-3.2-1B",
    "llama-3-8b": "meta-llama/Meta-Llama-3-8B", "smollm2-135m": "HuggingFaceTB/SmolLM2-135M", "gpt2": "gpt2",
}  # fmt: skip


def _known(shape: str) -> dict[str, Any]:
    """The keys of a well-known LLM's config.json."""
    keys = look_up_keys(HUB_NAMES[shape])
    assert keys is not None
    return {key: value for key, value in keys.items() if key not in ("names", "tokenizer", "dtype")}


SHAPES: dict[str, dict[str, Any]] = {
    **{shape: _known(shape) for shape in HUB_NAMES},
    "qwen2.5-3b": QWEN_3B, "llama-3-8b": LLAMA_8B, "smollm2-135m": SMOLLM2, "toy": TOY, "toy-gpt2": TOY_GPT2,
}  # fmt: skip
EMBEDDINGS = ("embed_tokens.weight", "wte.weight")
"""What families call their table of token embeddings."""


def linear_parameters(shape: str) -> int:
    """Weights of one layer's matrices."""
    keys = SHAPES[shape]
    hidden = keys["hidden_size"]
    of_keys = hidden * keys["num_key_value_heads"] // keys["num_attention_heads"]
    return hidden * (2 * hidden + 2 * of_keys + 3 * keys["intermediate_size"])


def make_folder(folder: Path, shape: str, tokenizer: Path) -> None:
    """What an LLM's folder holds, except that its file of weights holds none."""
    folder.mkdir(parents=True)
    keys = json.dumps(SHAPES[shape])
    (folder / "config.json").write_text(keys, encoding="utf-8")
    (folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    for file in tokenizer.glob("tokenizer*"):
        shutil.copy(file, folder)


class RandomLLM:
    """The LLM of one shape, on one device; builds its backbones as often as asked."""

    def __init__(self, shape: str, device: torch.device) -> None:
        self.shape, self.keys, self.device = shape, SHAPES[shape], device
        self._sizes = {name: weight.shape for name, weight in self._skeleton(1, "sdpa").named_parameters()}
        self._embedding_VE: Tensor | None = None
        self._factor_EE: Tensor | None = None

    def read(self, name: str) -> Tensor:
        """A tensor by its published name, bf16: on the device, the embedding table on the CPU."""
        if name in EMBEDDINGS:
            if self._embedding_VE is None:
                self._embedding_VE = self._draw(name).cpu()
            return self._embedding_VE
        return self._draw(name)

    def factor_EE(self) -> Tensor:
        """What `vocabulary_factor` gives, summed on the device."""
        if self._factor_EE is None:
            table_VE = self.read(next(name for name in EMBEDDINGS if name in self._sizes))
            gram_EE = torch.zeros((table_VE.shape[1],) * 2, dtype=torch.float64, device=self.device)
            for rows in table_VE.split(8192):
                rows64 = rows.to(self.device, torch.float64)
                gram_EE.addmm_(rows64.T, rows64)
            self._factor_EE = torch.linalg.cholesky(gram_EE.cpu()).T.contiguous().float()
        return self._factor_EE

    def build_decoder(self, llm: LLMConfig, precision: str, kernels: Kernels) -> Decoder:
        """Our decoder of the first layers."""
        layers = self._layers(llm)
        return build_decoder(self.keys, self.read, layers, llm, DTYPES[precision], self.device, kernels=kernels)

    def build_transformers(self, llm: LLMConfig, precision: str, attention: str = "sdpa") -> nn.Module:
        """The model of transformers, with bitsandbytes' linear layers for NF4, as `from_pretrained` makes it."""
        dtype = DTYPES[precision]
        model = self._skeleton(self._layers(llm), attention)
        for name, module in list(model.named_modules()):
            if isinstance(module, nn.Linear) and llm.quantization != "none":
                model.set_submodule(name, self._quantize(name, module, llm, dtype))
        for name, weight in list(model.named_parameters()):
            if weight.is_meta:
                owner, _, leaf = name.rpartition(".")
                drawn = nn.Parameter(self.read(name).to(self.device, dtype), requires_grad=False)
                setattr(model.get_submodule(owner), leaf, drawn)
        if hasattr(model, "rotary_emb"):
            model.rotary_emb = type(model.rotary_emb)(config=model.config).to(self.device)
        return model.eval()

    def _layers(self, llm: LLMConfig) -> int:
        count = self.keys["n_layer" if "n_layer" in self.keys else "num_hidden_layers"]
        return count if llm.layers == "all" else llm.layers

    def _skeleton(self, layers: int, attention: str) -> Any:
        from transformers import AutoConfig, AutoModel

        config = AutoConfig.for_model(**self.keys)
        config.num_hidden_layers = layers
        with torch.device("meta"):
            return AutoModel.from_config(config, attn_implementation=attention)

    def _quantize(self, name: str, linear: nn.Linear, llm: LLMConfig, dtype: torch.dtype) -> nn.Module:
        from bitsandbytes.nn import Int8Params, Linear4bit, Linear8bitLt, Params4bit

        size, nested = (linear.in_features, linear.out_features, linear.bias is not None), llm.double_quant
        weight_OI = self.read(f"{name}.weight").to(dtype)
        if llm.quantization == "int8":
            quantized = Linear8bitLt(*size, has_fp16_weights=False, threshold=6.0, device="meta")
            kept = Int8Params(weight_OI.half().cpu(), requires_grad=False, has_fp16_weights=False)
            quantized.weight = kept.to(self.device)
            return quantized
        quantized = Linear4bit(*size, dtype, nested, "nf4", device="meta")
        quantized.weight = Params4bit(
            weight_OI, requires_grad=False, compress_statistics=nested, quant_type="nf4", module=quantized
        ).to(self.device)
        quantized.support_avx512bf16_for_cpu = False  # that form has no backward pass
        return quantized

    def _draw(self, name: str) -> Tensor:
        parts = name.split(".")
        if parts[0] in ("layers", "h"):
            parts[1] = "0"
        size = self._sizes[".".join(parts)]
        drawn = torch.empty(size, dtype=torch.bfloat16, device=self.device)
        if "norm" in name or "ln_" in name:
            return drawn.fill_(1.0)
        return drawn.normal_(0, 0.02, generator=torch.Generator(self.device).manual_seed(zlib.crc32(name.encode())))


@contextmanager
def standing_in_for_files(llm: RandomLLM) -> Iterator[None]:
    """Inside, `load_model` takes its LLM from here, and everything else as usual."""

    def load_llm(config: Config, *_: Any) -> Decoder | TransformersLLM:
        precision, kernels = config.train.precision, config.hardware.kernels
        if config.llm.implementation == "transformers":
            return TransformersLLM(llm.build_transformers(config.llm, precision))
        decoder = llm.build_decoder(config.llm, precision, kernels)
        decoder.recompute = config.hardware.recompute == "on"
        return decoder

    with patch.multiple(load, load_llm=load_llm, _vocabulary_factor=lambda *_: llm.factor_EE()):
        yield
