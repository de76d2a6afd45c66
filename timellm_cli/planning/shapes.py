"""The shapes of a batch on its way through the model, from the samples to the forecast, as numbers. Light.

A test compares them with the tensors of a run.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from timellm_cli.config import Config
from timellm_cli.llm_files import NO_LLM
from timellm_cli.model.llm.choice import CONTEXT_MULTIPLE
from timellm_cli.planning.llm_shape import LLMShape
from timellm_cli.planning.plan import Plan


@dataclass(frozen=True)
class Stage:
    """A tensor of a forward pass. A size is None where it is not known: the hidden size of an unknown LLM."""

    key: str
    name: str
    shape: tuple[int | None, ...]
    meaning: str


def hidden_size(config: Config, shape: LLMShape | None) -> int | None:
    """E: the LLM's hidden size, None where it is not known; without an LLM, the width of all attention heads."""
    if config.llm.name == NO_LLM:
        return config.model.attention_width
    return shape.hidden if shape else None


def model_shapes(plan: Plan) -> list[Stage]:
    """Each tensor of one process's part of a step, in the order in which the model makes them."""
    window, model, patches = plan.config.window, plan.config.model, plan.counts.patch_nums
    batch = plan.shared.each if plan.shared else plan.counts.batch_size
    width, rows, steps = hidden_size(plan.config, plan.shape), window.seq_len, window.pred_len
    each, by = f"{model.patch_len:,} rows", model.patch_stride
    has_llm = plan.config.llm.name != NO_LLM
    stages = [
        Stage("history", "history", (batch, rows), "batch_size x seq_len: rows of one channel each, standardised"),
        Stage("scaled", "normalised", (batch, rows), "each history at mean 0 and deviation 1"),
        Stage("padded", "padded", (batch, rows + by), f"its last value repeated {by:,} times (patch_stride)"),
        Stage("patches", "patches", (batch, patches, model.patch_len), f"{patches:,} patches of {each} (patch_len)"),
        Stage("embedded", "embedded", (batch, patches, model.d_model), "each patch with its neighbours (d_model)"),
        Stage("prototypes", "prototypes", (model.num_prototypes, width), _prototypes(has_llm)),
        Stage("reprogrammed", "reprogrammed", (batch, patches, width), "each patch as a mix of prototypes: a token"),
    ]
    if has_llm:
        stages += _through_llm(plan, batch, width)
    read = patches * model.d_ff
    return [
        *stages,
        Stage("features", "features", (batch, patches, model.d_ff), "the first d_ff numbers of each patch"),
        Stage("head_input", "head input", (batch, read), f"{patches:,} x {model.d_ff:,} numbers in a row"),
        Stage("forecast", "forecast", (batch, steps), "batch_size x pred_len; then back to mean and deviation"),
        *_beside(plan, batch),
    ]


def _prototypes(has_llm: bool) -> str:
    return "learned mixes of all word embeddings" if has_llm else "learned, without a vocabulary"


def _through_llm(plan: Plan, batch: int, width: int | None) -> Iterator[Stage]:
    """What the LLM reads and what is kept. The prefix is read once a run, except where it is not kept."""
    tokens, patches, hardware = plan.prompt.tokens, plan.counts.patch_nums, plan.config.hardware
    one_pass = plan.path.code in ("transformers_one_pass", "transformers", None)
    prefix = tokens.static if hardware.keep_prefix and not one_pass else 0
    multiple = CONTEXT_MULTIPLE if hardware.device == "cuda" else 1
    suffix = tokens.total - prefix + -(tokens.total + patches) % multiple
    about = "" if tokens.exact else ", an estimate"
    padded = f", padded so that all tokens are a multiple of {multiple}" if multiple > 1 else ""
    if prefix:
        yield Stage("prefix", "prompt, start", (1, prefix, width), "the same for every sample; read once a run")
    start = "prompt, rest" if prefix else "prompt"
    whose = "each sample's own statistics" if prefix else "each sample's prompt"
    yield Stage("suffix", start, (batch, suffix, width), f"{whose}{about}{padded}")
    if plan.path.code == "transformers_two_passes":
        first, what = patches, "the patches, after the prompt was read apart; they see all of it"
    elif prefix:
        first, what = suffix + patches, "the rest of the prompt and the patches; they see its start too"
    else:
        first, what = suffix + patches, "the prompt, then the patches"
    yield Stage("first_layer", "into layer 1", (batch, first, width), what)
    last = f"after layer {plan.layers:,}" if plan.layers else "after the last"
    yield Stage("kept", last, (batch, patches, width), "the patches; what stands at the prompt is dropped")


def _beside(plan: Plan, batch: int) -> Iterator[Stage]:
    """What is added to the forecast."""
    shape = (batch, plan.config.window.pred_len)
    if plan.config.model.shortcut != "none":
        yield Stage("shortcut", "shortcut", shape, "a linear forecast of the normalised history, added")
    if plan.config.reads_ahead:
        yield Stage("ahead", "days ahead", shape, "what is known of the days ahead, added")
