"""Time-LLM as one module: the path of a batch from standardised history to standardised forecast."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from timellm_cli.config import Config, ModelConfig, WindowConfig
from timellm_cli.data.batch import PromptTokens
from timellm_cli.datasets import description_of
from timellm_cli.errors import ModelError
from timellm_cli.geometry import count_patches
from timellm_cli.llm_files import NO_LLM, find_llm, fingerprint_llm, fingerprint_random, stamp_llm
from timellm_cli.model.llm.backbone import Backbone, load_backbone
from timellm_cli.model.llm.choice import CONTEXT_MULTIPLE
from timellm_cli.model.llm.decoder import Decoder
from timellm_cli.model.llm.prepared import Prepared
from timellm_cli.model.prompt import PromptText
from timellm_cli.model.prompt_tokens import NoPromptEncoder, PromptEncoder, load_tokenizer
from timellm_cli.model.time_llm import (
    ForecastHead,
    FreePrototypes,
    NoLLM,
    PatchEmbedding,
    Reprogramming,
    Shortcut,
    VocabularyMapping,
    cut_patches,
    normalise,
    prepared_factor,
)


@dataclass(frozen=True)
class Constants:
    """All that a recorded step holds fast: the prompt's head, room for embeddings, and what the backward pass keeps."""

    head: tuple[int, ...]
    room: int = 0
    recompute: bool = False


class TimeLLM(nn.Module):
    """Forecasts one channel at a time with a frozen LLM (Jin et al., ICLR 2024, arXiv 2310.01728).

    `captures` says that whoever runs it should record its steps as CUDA graphs.

    Left out of the original: its unused decoder inputs and embeddings, and batch-dependent padding.
    """

    backbone: Backbone
    prototypes: VocabularyMapping | FreePrototypes

    def __init__(
        self,
        window: WindowConfig,
        model: ModelConfig,
        backbone: Backbone,
        prototypes: VocabularyMapping | FreePrototypes,
        encoder: PromptEncoder | NoPromptEncoder,
        llm_fingerprint: str = NO_LLM,
    ) -> None:
        super().__init__()
        self.window, self.model = window, model
        self.captures = False
        self.encoder = encoder
        self.llm_fingerprint = llm_fingerprint
        self.patch_nums = count_patches(window.seq_len, model.patch_len, model.patch_stride)
        self.patch_embedding = PatchEmbedding(model.patch_len, model.d_model, model.dropout)
        self.prototypes = prototypes
        self.reprogramming = Reprogramming(
            model.d_model, backbone.hidden_size, model.n_heads, model.d_ff, model.dropout
        )
        self.backbone = backbone
        self.head = ForecastHead(model.d_ff, self.patch_nums, window.pred_len, model.dropout)
        self.shortcut = Shortcut(window.seq_len, window.pred_len, model.shortcut_period) if model.shortcut else None

    def forward(self, history_BT: Tensor, prompt: PromptTokens) -> Tensor:
        """Standardised history, B x T, to standardised forecast, B x H, both float32.

        The trainable parts compute in float32 (on a GPU beside an LLM in 16 bits: in TF32, their attention in the LLM's
        format) and the LLM in its own format, in training and in evaluation alike: an autocast around the model changes
        nothing.
        """
        with torch.autocast(history_BT.device.type, enabled=False):
            scaled_BT, moments = normalise(history_BT)
            patches_BPL = cut_patches(scaled_BT, self.model.patch_len, self.model.patch_stride)
            embedded_BPD = self.patch_embedding(patches_BPL)
            tokens_BPE = self.reprogramming(embedded_BPD, self.prototypes())
            hidden_BPE = self.backbone(prompt, tokens_BPE)
            forecast_BH = self.head(hidden_BPE)
            if self.shortcut is not None:
                forecast_BH = forecast_BH + self.shortcut(scaled_BT)
            return moments.restore(forecast_BH)

    def constants_of(self, prompt: PromptTokens) -> Constants:
        """What a recorded step of admitted prompts depends on besides its tensors."""
        if isinstance(self.backbone, Decoder):
            return Constants(prompt.head, self.backbone.embedding.room, self.backbone.recompute)
        return Constants(prompt.head)

    def trainable_weights(self) -> dict[str, nn.Parameter]:
        """The weights that learn, by name. The LLM's are not among them."""
        return {name: weight for name, weight in self.named_parameters() if weight.requires_grad}

    def trainable_state(self) -> dict[str, Tensor]:
        """Copies of the trained weights on the CPU, by name."""
        return {name: weight.detach().cpu().clone() for name, weight in self.trainable_weights().items()}

    def load_trainable_state(self, weights: dict[str, Tensor]) -> None:
        """Put trained weights in. Raises ModelError naming each one that is missing, unknown or of another shape."""
        own = self.trainable_weights()
        faults = [f"missing {name}" for name in own.keys() - weights.keys()]
        faults += [f"unknown {name}" for name in weights.keys() - own.keys()]
        faults += [
            f"{name} is {tuple(weights[name].shape)} instead of {tuple(own[name].shape)}"
            for name in own.keys() & weights.keys()
            if weights[name].shape != own[name].shape
        ]
        if faults:
            raise ModelError(
                "the weights do not fit the model: " + "; ".join(sorted(faults)),
                "a checkpoint fits the configuration and the LLM it was trained with",
            )
        with torch.no_grad():
            for name, weight in own.items():
                weight.copy_(weights[name])


def load_forecaster(config: Config, device: torch.device) -> TimeLLM:
    """Build the model of a settled configuration (no 'auto' left) with fresh trainable weights on `device`.

    Draw the weights under a seed of your own. Raises ModelError where the LLM is absent or does not fit.
    """
    if config.llm.name == NO_LLM:
        width = config.model.n_heads * config.model.d_ff
        free = FreePrototypes(config.model.num_prototypes, width)
        return TimeLLM(config.window, config.model, NoLLM(width), free, NoPromptEncoder()).to(device)
    folder = find_llm(config.llm.name)
    if folder is None:
        raise ModelError(f"LLM '{config.llm.name}' is not on this computer", f"timellm fetch {config.llm.name}")
    seed = config.train.seed if config.llm.weights == "random" else None
    if seed is None:
        prepared = Prepared(fingerprint_llm(folder), stamp_llm(folder))
    else:
        prepared = Prepared(fingerprint_random(folder, seed), stamp=None)
    backbone = load_backbone(config.llm, config.train.precision, folder, device, prepared, seed)
    if config.model.d_ff > backbone.hidden_size:
        raise ModelError(
            f"model.d_ff {config.model.d_ff} is more than the hidden size {backbone.hidden_size} of {config.llm.name}",
            "the head reads the first d_ff dimensions of the LLM's output: use a smaller --d-ff",
        )
    text = PromptText(config.prompt, config.window, description_of(config.data, config.prompt.description))
    patches = count_patches(config.window.seq_len, config.model.patch_len, config.model.patch_stride)
    multiple = CONTEXT_MULTIPLE if device.type == "cuda" else 1
    encoder = PromptEncoder(text, load_tokenizer(folder), backbone.max_positions - patches, multiple, beside=patches)
    embedding_VE = backbone.embedding_VE
    mapping = VocabularyMapping(prepared_factor(embedding_VE, prepared), config.model.num_prototypes, len(embedding_VE))
    forecaster = TimeLLM(config.window, config.model, backbone, mapping, encoder, prepared.fingerprint)
    for name, module in forecaster.named_children():
        if name != "backbone":
            module.to(device)
    if device.type == "cuda":
        # An LLM in 16 bits rounds what it reads to 8 or 11 bits: the parts around it may multiply with 11 (TF32).
        torch.set_float32_matmul_precision("highest" if config.train.precision == "fp32" else "high")
        forecaster.reprogramming.attention_dtype = backbone.dtype
    if isinstance(backbone, Decoder):
        backbone.recompute = config.hardware.recompute == "on"
        forecaster.captures = config.hardware.capture == "on" and device.type == "cuda"
    if device.type == "cuda":
        torch.cuda.empty_cache()  # the pieces that loading and quantising leave behind would hardly fit a step
    return forecaster
