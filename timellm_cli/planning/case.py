"""What decides how much memory a training step needs, and a line of its bill. Light."""

from dataclasses import dataclass
from typing import Literal, Self

from timellm_cli.config import Config, ModelConfig
from timellm_cli.counts import count_patches
from timellm_cli.model.llm.choice import CONTEXT_MULTIPLE, quantization_of
from timellm_cli.planning.code_path import why_not_decoder
from timellm_cli.planning.days_case import DaysCase
from timellm_cli.planning.hardware import Gpu, recognise
from timellm_cli.planning.llm_shape import LLMShape, look_up_keys
from timellm_cli.planning.prompt_tokens import TokenCount


@dataclass(frozen=True)
class Part:
    """One line of a bill. `how` is the formula with its numbers put in."""

    key: str
    label: str
    bytes: int
    how: str


_CONFIGURED = (
    "window.seq_len", "window.pred_len", "llm.quantization", "llm.double_quant", "train.precision", "train.optimizer",
    "train.accumulate", "train.average",
)  # fmt: skip
"""What a case takes from a configuration as it stands there."""


@dataclass(frozen=True)
class Case:
    """A training step. `prompt` is K and `patches` P, both of one sample; `layers` are those used.

    `shape` is None for the model without an LLM. `capability` and `multiprocessors` are the card's, None where not
    known. `prefix` tokens of the prompt are the same for every sample. `decoder`: our own decoder runs the LLM, and
    with `recompute` computes layers again in the backward pass. `captured`: steps are replayed as a CUDA graph.
    `accumulate` steps are one update of the weights. `average`: an average of the weights is kept. `days` is the day
    map, None where nothing is known ahead. `others` are the cards that share the run.
    """

    shape: LLMShape | None
    layers: int
    batch: int
    prompt: int
    patches: int
    seq_len: int
    pred_len: int
    model: ModelConfig
    quantization: Literal["nf4", "int8", "none"]
    double_quant: bool
    precision: Literal["fp32", "bf16", "fp16"]
    optimizer: str
    on_gpu: bool
    capability: tuple[int, int] | None = None
    prefix: int = 0
    decoder: bool = False
    recompute: bool = False
    captured: bool = False
    accumulate: int = 1
    average: bool = False
    multiprocessors: int | None = None
    days: DaysCase | None = None
    others: int = 0

    @classmethod
    def of(
        cls, config: Config, shape: LLMShape | None, tokens: TokenCount, gpu: Gpu | None, days: DaysCase | None = None
    ) -> Self:
        """The case of a resolved configuration (no 'auto' left); by default `days` is the largest that is usual.

        Raises ModelError for an unreadable config.json.
        """
        values, window, model = config.values(), config.window, config.model
        card = recognise(gpu.name) if gpu else None
        decoder, on_gpu = why_not_decoder(config.llm) is None, config.hardware.device == "cuda"
        taken = {key.split(".")[1]: values[key] for key in _CONFIGURED}
        if decoder and config.llm.weights == "pretrained" and quantization_of(look_up_keys(config.llm.name) or {}):
            taken["double_quant"] = False  # scales of weights stored in NF4 are kept in float32 (`stored_nf4.py`)
        return cls(
            shape=shape,
            layers=shape.used_layers(config.llm.layers) if shape else 0,
            batch=config.train.batch,
            prompt=tokens.total,
            patches=count_patches(window.seq_len, model.patch_len, model.patch_stride),
            model=model,
            on_gpu=on_gpu,
            capability=gpu.capability if gpu else None,
            prefix=tokens.static,
            decoder=decoder,
            recompute=config.hardware.recompute == "on",
            captured=decoder and on_gpu and config.hardware.capture == "on",
            multiprocessors=card.multiprocessors if card else None,
            days=days or DaysCase.usual(config),
            others=gpu.others if gpu and on_gpu else 0,
            **taken,
        )

    @property
    def hidden(self) -> int:
        """E: the LLM's hidden size; without an LLM, the width of the reprogramming attention."""
        return self.shape.hidden if self.shape else self.inner

    @property
    def inner(self) -> int:
        """Width of all heads of the reprogramming attention together."""
        return self.model.attention_width

    @property
    def number_bytes(self) -> int:
        """Bytes of a number in the LLM's arithmetic."""
        return 4 if self.precision == "fp32" else 2

    @property
    def passing_bytes(self) -> int:
        """Bytes of a number between the LLM's matrices: transformers keeps float32 there in fp16."""
        return 4 if self.precision == "fp16" and not self.decoder else self.number_bytes

    @property
    def reads_in_two_passes(self) -> bool:
        """Whether the prompt is read without gradients, before the patches: by every LLM that reads left to right."""
        return self.shape is not None and self.shape.causal

    @property
    def keeps_gradients(self) -> bool:
        """Whether gradients are there when most is allocated, and not only when what layers keep has been used up."""
        return self.shape is None or self.captured or self.accumulate > 1

    @property
    def context(self) -> int:
        """C: prompt and patches, with the padding that prompts get on a GPU."""
        tokens = self.prompt + self.patches
        return -(-tokens // CONTEXT_MULTIPLE) * CONTEXT_MULTIPLE if self.shape and self.on_gpu else tokens

    @property
    def tail(self) -> int:
        """Tokens of a prompt that are its own, padding included."""
        return self.context - self.prefix - self.patches
