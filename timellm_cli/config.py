"""The one configuration model that every verb shares. Light: standard library and pydantic only.

Each field says its unit and meaning once: the sentence is the help of its flag and the text of the documentation.
Not here: where the values come from (`settings.py`), what they add up to (`counts.py`).
"""

import codecs
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic.fields import FieldInfo

from timellm_cli.config_fields import Names, Place, Section, Zone, nest, option
from timellm_cli.config_sections import AheadConfig, HardwareConfig
from timellm_cli.prompt_template import PROMPT_FIELDS, PROMPT_TEMPLATE

SAMPLES_PER_UPDATE = 32
"""Samples that a change of the weights sees where the batch size is left to us, whatever fits at a time."""


def flag_of(key: str) -> str:
    """The command-line flag of a key, such as `--seq-len` of window.seq_len."""
    extra = FIELDS[key].json_schema_extra
    return str(extra["flag"]) if isinstance(extra, dict) else "--" + key.split(".")[1].replace("_", "-")


class DataConfig(Section):
    """Which rows become samples."""

    dataset: str = option(
        "ETTm1", "A known dataset (ETTh1, ETTm1, ...; see `timellm fetch`), or 'custom' for your CSV."
    )
    path: Path | None = option(None, "The CSV file. Default: the known dataset's, in the cache.", flag="--data-path")
    date_column: str = option("date", "Name of the column that holds the timestamps.")
    target: str = option("OT", "Name of the column of main interest: moved last; alone in S; scored in MS.")
    columns: Names = option((), "Value columns to use, separated by commas. Default: all.")
    features: Literal["M", "S", "MS"] = option(
        "M", "M: every channel is forecast from itself. S: the target only. MS: like M, but only the target is scored."
    )
    id_column: str | None = option(
        None, "Column that says which series a row belongs to: each has windows and a scaler of its own."
    )
    split_by: Literal["dates", "ratio"] = option(
        "dates", "dates: all series are cut at the same dates. ratio: each at the same shares of its own rows."
    )
    train_ratio: float = option(0.7, "Share of the rows to train on ('custom' datasets).", gt=0, lt=1)
    test_ratio: float = option(0.2, "Share of the rows to test on; the rest validates ('custom' datasets).", gt=0, lt=1)
    folds: int = option(
        1, "Backtest: cut the test rows into so many parts, and train a run on what lies before each of them.", ge=1
    )
    fold: int | None = option(None, "Which of the folds a run is, from 1. Default: `train` makes a run for each.", ge=1)
    percent: int = option(100, "Train on the first so many percent of the training span (few-shot).", ge=1, le=100)
    window_stride: int = option(
        1, "Rows from the start of one window to the next while training; `timellm eval` scores every window.", ge=1
    )
    exclude: Names = option((), "Columns to leave out, separated by commas.")
    future_columns: Names = option(
        (), "Columns that are not forecast, but whose values are known for the steps ahead, separated by commas."
    )
    fill: Literal["none", "linear", "previous", "zero"] = option(
        "none",
        "What a history has for gaps and empty cells: refuse them, interpolate, repeat the value before, or 0. "
        "A history is filled from its own rows only; a target without a value is neither trained on nor scored.",
    )
    duplicates: Literal["refuse", "first", "last", "mean"] = option(
        "refuse", "What to do with several rows of one timestamp."
    )
    calendar: Literal["detect", "regular", "rows"] = option(
        "detect",
        "rows: each row is one step, whatever time lies between (sessions, weekends). regular: absent times are gaps. "
        "detect: rows where the same times of the week are absent throughout.",
    )
    closed_on: Place = option(
        None, "Country, region or stock exchange whose holidays have no rows, such as NZ-AUK: forecasts skip them."
    )
    date_format: str | None = option(
        None, "How timestamps are written: dayfirst, monthfirst, unix, unix-ms, or a pattern such as %d.%m.%Y %H:%M."
    )
    timezone: Zone = option(None, "Zone of timestamps without an offset, such as Europe/Berlin.")
    snap: str | None = option(None, "Round timestamps to the nearest multiple, such as 10min or 1h.")
    decimal: Literal["detect", ".", ","] = option(
        "detect", "The decimal sign. detect: a comma only where that is certain."
    )
    thousands: Literal["none", ".", ",", " ", "'"] = option("none", "The sign between groups of three digits.")
    na: Names = option((), "Texts besides the usual ones (blank, NA, null, -) that mark a cell without a value.")
    skip_rows: int = option(0, "Lines above the header to skip.", ge=0)
    encoding: str | None = option(None, "Encoding of the text. Default: found out (UTF-8, UTF-16, GBK, Windows-1252).")

    @property
    def is_wide(self) -> bool:
        """Whether each line is a series without dates."""
        return self.date_column.lower() == "none"

    @field_validator("encoding")
    @classmethod
    def _know_encoding(cls, value: str | None) -> str | None:
        try:
            return value and codecs.lookup(value).name
        except LookupError:
            raise ValueError(f"no encoding is called '{value}'") from None

    @field_validator("snap")
    @classmethod
    def _know_snap(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[1-9]\d*(ms|s|min|h|d)", value):
            raise ValueError("write a number and a unit: 500ms, 30s, 10min, 1h, 1d")
        return value

    @model_validator(mode="after")
    def _number_the_folds(self) -> Self:
        if self.fold is not None and self.fold > self.folds:
            raise ValueError(f"fold {self.fold} is above the number of folds, which is {self.folds}")
        return self

    @model_validator(mode="after")
    def _leave_rows_to_validate(self) -> Self:
        if self.closed_on and self.calendar == "regular":
            raise ValueError("closed_on names days without rows, which calendar 'regular' takes for gaps; use 'rows'")
        if self.train_ratio + self.test_ratio >= 1:
            both = f"train_ratio {self.train_ratio:g} + test_ratio {self.test_ratio:g}"
            raise ValueError(f"{both} must be below 1: the rest of the rows validates")
        return self


class WindowConfig(Section):
    """How long a sample is."""

    seq_len: int = option(512, "Rows of history the model sees (T).", ge=2)
    pred_len: int = option(96, "Rows it forecasts (H).", ge=1)


class ModelConfig(Section):
    """The trainable part of Time-LLM."""

    patch_len: int = option(16, "Rows in one patch (L).", ge=1)
    patch_stride: int = option(8, "Rows from the start of one patch to the next.", ge=1)
    d_model: int = option(32, "Width of a patch embedding (D).", ge=1)
    d_ff: int = option(32, "LLM output dimensions the head reads, and the width of an attention head (F).", ge=1)
    n_heads: int = option(8, "Heads of the reprogramming attention.", ge=1)
    num_prototypes: int = option(1000, "Text prototypes that patches attend to (U).", ge=1)
    dropout: float = option(0.1, "Dropout of patch embedding, reprogramming attention and head.", ge=0, lt=1)
    shortcut: Literal["none", "linear", "fitted"] = option(
        "none",
        "Add a linear forecast of the history to the head's output; the original has none. linear: trained from zero. "
        "fitted: from the linear map in closed form, with a head at zero; that start is scored as epoch 0.",
    )
    shortcut_period: int = option(
        0, "Rows of a season (24: a day of hours) that the shortcut maps phase by phase as well. 0: none.", ge=0
    )

    @property
    def attention_width(self) -> int:
        """Width of all heads of the reprogramming attention together; without an LLM, also that of a token (E)."""
        return self.n_heads * self.d_ff


class LLMConfig(Section):
    """The frozen language model."""

    name: str = option(
        "Qwen/Qwen2.5-3B", "Hub id, local folder, a name `timellm fetch` knows, or 'none' (no LLM).", flag="--llm"
    )
    weights: Literal["pretrained", "random"] = option(
        "pretrained",
        "random: the same architecture with weights and embeddings drawn under train.seed, to see whether pretraining "
        "helps.",
        flag="--llm-weights",
    )
    layers: Annotated[int, Field(ge=1)] | Literal["all"] = option(6, "Use the first so many layers, or 'all'.")
    quantization: Literal["auto", "nf4", "int8", "none"] = option(
        "auto", "How the LLM's linear weights are kept. auto: nf4 on a GPU where the LLM is large for it, else none."
    )
    double_quant: bool = option(True, "Quantize the NF4 constants as well (saves 0.37 bit a weight).")
    implementation: Literal["auto", "transformers"] = option(
        "auto",
        "What runs the LLM. auto: our own decoder for Llama, Mistral, Qwen2 and Qwen3, else transformers.",
        flag="--llm-implementation",
    )


class PromptConfig(Section):
    """The text in front of every sample."""

    template: str = option(
        PROMPT_TEMPLATE,
        "Text with the fields " + " ".join(f"{{{name}}}" for name in PROMPT_FIELDS) + ".",
        flag="--prompt-template",
    )
    description: str | None = option(None, "What the data are, in a sentence. Default: the known dataset's own text.")
    decimals: Annotated[int, Field(ge=0, le=9)] | Literal["all"] = option(
        3, "Decimals of the statistics; 'all' prints every digit, as the original does."
    )
    top_lags: int = option(5, "How many lags of highest autocorrelation the prompt names.", ge=1, le=1000)


class TrainConfig(Section):
    """How the trainable part learns."""

    epochs: int = option(10, "Passes over the training samples.", ge=1)
    max_steps: int | None = option(None, "Stop after so many steps in all, even inside an epoch.", ge=1)
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = option(
        8,
        f"Samples in one step (B). auto: as many as fit, {SAMPLES_PER_UPDATE} at most, "
        f"with accumulate so that a change of the weights sees {SAMPLES_PER_UPDATE}.",
    )
    accumulate: int = option(
        1, "Steps whose gradients are summed before the weights change; a batch_size of 'auto' chooses it.", ge=1
    )
    optimizer: Literal["adam", "adamw", "adam8bit", "adamw8bit"] = option("adam", "The optimizer; 8bit needs a GPU.")
    learning_rate: float = option(1e-3, "Highest learning rate of the schedule.", gt=0)
    weight_decay: float = option(0.0, "Weight decay.", ge=0)
    schedule: Literal["onecycle", "cosine", "type1", "constant"] = option(
        "onecycle", "How the learning rate moves; type1 halves it after every epoch."
    )
    average: bool = option(
        False, "Score and keep an average of the weights, in which newer ones weigh more, instead of the last ones."
    )
    loss: Literal["mse", "mae", "huber", "smape"] = option(
        "mse", "What training minimises, in loss_units. smape: of raw values; MAE then selects the best epoch."
    )
    loss_units: Literal["standardised", "window"] = option(
        "standardised",
        "Units of the errors that training minimises. window: each divided by its history's standard deviation.",
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = option(
        "auto",
        "Number format of the LLM's arithmetic. auto: bf16 where the card has it, fp16 on older ones, fp32 on a CPU.",
    )
    clip: float = option(0.0, "Largest gradient norm; 0 does not clip.", ge=0)
    patience: int = option(3, "Stop after so many epochs without a lower validation loss; 0 never stops early.", ge=0)
    bands: Literal["auto", "each", "pooled"] = option(
        "auto",
        "Which validation errors calibrate a band. each: those of its own channel. pooled: those of all. "
        "auto: pooled for a table with an id column.",
    )
    seed: int = option(2021, "Seed of initial weights, order and dropout.", ge=0)
    workers: int = option(0, "Processes that prepare batches; 0 prepares them in the main process.", ge=0)

    @model_validator(mode="after")
    def _choose_one_way_to_accumulate(self) -> Self:
        if self.loss == "smape" and self.loss_units == "window":
            raise ValueError("loss 'smape' is relative already: leave out loss_units 'window'")
        if self.batch_size == "auto" and self.accumulate > 1:
            raise ValueError(
                f"accumulate {self.accumulate} cannot be kept with batch_size 'auto', which chooses it: "
                f"a change of the weights sees {SAMPLES_PER_UPDATE} samples; name a batch_size, or leave accumulate out"
            )
        return self

    @property
    def batch(self) -> int:
        """B of a resolved configuration (see `planning/automatic.py`)."""
        assert self.batch_size != "auto"
        return self.batch_size


class RunConfig(Section):
    """Where a run leaves its files, and how often."""

    name: str = option(
        "{dataset}_{features}_{seq_len}_{pred_len}_{llm}",
        "Name of the run's folder. Any configuration key may stand in braces, such as {seq_len}.",
        flag="--run-name",
    )
    directory: Path = option(Path("checkpoints"), "Folder that holds the runs.", flag="--checkpoints")
    save_steps: int = option(
        1000, "Save step-N.pt after every so many steps; 0 saves at the end of an epoch only.", ge=0
    )
    save_total_limit: int = option(3, "Keep the newest so many step-N.pt files.", ge=1)
    log_steps: int = option(100, "Steps between two log lines and loss records.", ge=1)


class Config(Section):
    """Everything that defines a run."""

    data: DataConfig = DataConfig()
    window: WindowConfig = WindowConfig()
    model: ModelConfig = ModelConfig()
    llm: LLMConfig = LLMConfig()
    prompt: PromptConfig = PromptConfig()
    ahead: AheadConfig = AheadConfig()
    train: TrainConfig = TrainConfig()
    run: RunConfig = RunConfig()
    hardware: HardwareConfig = HardwareConfig()

    @property
    def reads_ahead(self) -> bool:
        """Whether anything is known of the steps ahead."""
        return self.ahead.has_text or bool(self.data.future_columns)

    @property
    def text_llm(self) -> str | None:
        """The LLM that reads the text of the days; None where none does."""
        if not self.ahead.has_text or self.ahead.reader != "llm":
            return None
        return self.ahead.llm or (self.llm.name if self.llm.name != "none" else "smollm2-135m")

    @model_validator(mode="after")
    def _know_the_days(self) -> Self:
        if self.reads_ahead and self.data.is_wide:
            raise ValueError("a table without dates (date_column none) has no days that text or columns could be of")
        return self

    @model_validator(mode="after")
    def _pool_bands_of_series(self) -> Self:
        if self.data.id_column is not None and self.train.bands == "each":
            raise ValueError("train.bands 'each' needs many windows of each series; with an id column use 'pooled'")
        return self

    @model_validator(mode="after")
    def _fit_the_window(self) -> Self:
        model, rows, lags = self.model, self.window.seq_len, self.prompt.top_lags
        padded, period = rows + model.patch_stride, f"model.shortcut_period {model.shortcut_period}"
        has_no_shortcut = model.shortcut_period > 0 and model.shortcut == "none"
        if model.patch_len > padded:
            raise ValueError(
                f"model.patch_len {model.patch_len} is longer than the padded window of {padded} rows (window.seq_len "
                f"{rows} + model.patch_stride {model.patch_stride})"
            )
        if has_no_shortcut:
            raise ValueError(
                f"{period} is of a shortcut, but model.shortcut is none: name one (--shortcut linear or fitted), or "
                "set the period to 0"
            )
        if model.shortcut_period > rows:
            raise ValueError(f"{period} is longer than the window of {rows} rows (window.seq_len)")
        if lags > rows:
            raise ValueError(f"prompt.top_lags {lags} is more than the {rows} lags of a window")
        return self

    def values(self) -> dict[str, Any]:
        """Every value by its key, `section.name`."""
        return {f"{section}.{name}": value for section, part in self for name, value in part}

    def with_values(self, values: Mapping[str, Any]) -> Self:
        """The same configuration with other values for some keys, checked like any other."""
        return self.model_validate(nest({**self.values(), **values}))


SECTIONS: dict[str, type[Section]] = {
    name: field.annotation for name, field in Config.model_fields.items() if isinstance(field.annotation, type)
}
FIELDS: dict[str, FieldInfo] = {
    f"{section}.{name}": field for section, model in SECTIONS.items() for name, field in model.model_fields.items()
}
"""Every key, as `section.name`, in the order of the documentation."""
