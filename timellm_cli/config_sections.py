"""Sections of the configuration that stand by themselves: what is known of the days ahead, and the hardware. Light."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from timellm_cli.config_fields import Memory, Place, Processor, Section, option


class AheadConfig(Section):
    """What can be said of the days ahead. It adds to the forecast by a map of its own (`model/day_map.py`)."""

    events: str | None = option(
        None,
        "CSV of events (start[,end][,series or channel],text), or a dataset whose events are known.",
        flag="--events",
    )
    holiday_text: Place = option(
        None, "Country, region or stock exchange, such as NZ-AUK, whose holidays are named in the text of each day."
    )
    weekday_text: Literal["none", "weekday", "date"] = option(
        "none", "Whether the text of each day has its weekday, or its weekday and date."
    )
    reader: Literal["llm", "columns"] = option(
        "llm",
        "What reads the text: an LLM, or columns of 0 and 1 for what it says, without an LLM.",
        flag="--text-reader",
    )
    llm: str | None = option(
        None,
        "LLM that reads the text, once a line. Default: that of --llm; with none, smollm2-135m.",
        flag="--text-llm",
    )
    llm_weights: Literal["pretrained", "random"] = option(
        "pretrained",
        "random: the text is read by drawn weights, to see whether language helps.",
        flag="--text-llm-weights",
    )
    layers: Annotated[int, Field(ge=1)] | Literal["all"] = option(
        "all", "Read the text with the first so many layers.", flag="--text-layers"
    )
    shuffle: bool = option(
        False, "Deal the texts out to other days, to see whether what they say helps.", flag="--text-shuffle"
    )
    rank: int = option(8, "Mixes of the text, and of the history, that the map multiplies.", flag="--text-rank", ge=1)

    @property
    def has_text(self) -> bool:
        """Whether days have a line of text."""
        return self.events is not None or self.holiday_text is not None or self.weekday_text != "none"

    @model_validator(mode="after")
    def _have_a_text_to_read(self) -> Self:
        if not self.has_text and (self.shuffle or self.reader == "columns" or self.llm_weights == "random"):
            raise ValueError(
                "there is no text to read: name --events, --holiday-text or --weekday-text, or leave the reader out"
            )
        return self


class HardwareConfig(Section):
    """What the run may use."""

    device: Processor = option("auto", "Where to compute. auto: the GPU if there is one.")
    recompute: Literal["auto", "on", "off"] = option(
        "auto", "Compute a layer again in the backward pass instead of keeping it. auto: where a step would not fit."
    )
    capture: Literal["auto", "on", "off"] = option(
        "auto", "Record a step once as a CUDA graph and replay it. auto: on a GPU, where our own decoder runs the LLM."
    )
    kernels: Literal["auto", "triton", "nvrtc", "torch"] = option(
        "auto", "Which operations our own decoder uses on a GPU. auto: Triton's, else NVRTC's, else torch's."
    )
    keep_prefix: bool = option(True, "Read the part of the prompt that all samples share once a run, not once a batch.")
    prepared: bool = option(
        True, "Read and write quantised layers and the vocabulary factor in the cache, for a faster next start."
    )
    vram: Memory = option(None, "GPU memory to plan for, such as 6GiB. Default: the card's own.")
