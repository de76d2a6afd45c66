"""A checkpoint: one small file with the trained weights, without the LLM's weights and without pickled code.

It holds tensors, text, numbers and containers of them, so it loads with `weights_only=True`: nothing in it can run.
Not here: which checkpoint a run continues from (`resume.py`), and which files of a folder stay (`run_directory.py`).
"""

import io
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import ValidationError
from torch import Tensor

from timellm_cli import __version__
from timellm_cli.config import Config
from timellm_cli.data.ahead import LearnedDays
from timellm_cli.data.cadence import parse_cadence, to_text
from timellm_cli.data.day_axis import DAY, MOST_SLOTS, Clock
from timellm_cli.data.scale import Scaler
from timellm_cli.data.windows import ForecastData
from timellm_cli.errors import ModelError
from timellm_cli.evaluation.bands import Intervals
from timellm_cli.files import disk_faults_of, replacing
from timellm_cli.model.day_reader import put_back_day_map
from timellm_cli.model.load import load_model
from timellm_cli.model.runner import Runner
from timellm_cli.splits import SPLITS, RowsIdentity
from timellm_cli.training.run_directory import nearby_checkpoints, require_checkpoint
from timellm_cli.training.state import RunState, TrainingState

FORMAT = "timellm checkpoint"
FORMAT_VERSION = 6


@dataclass(frozen=True)
class Checkpoint:
    """A trained model without its LLM. With `training`, a run can continue from it.

    `columns` are the value columns, target last, `ids` those of the series; the scaler has each column of every series,
    the first column first. `cadence` is the text of one
    (`data/cadence.py`). `date_format` says how the trained file writes its timestamps, `rows` which rows each split
    had. `training_id` is the same in every file of one training, resumed or not; empty for imported weights.
    `intervals` are there where these very weights were scored on the validation windows, `days` with a day map.
    """

    weights: dict[str, Tensor]
    config: Config
    scaler: Scaler
    columns: tuple[str, ...]
    ids: tuple[str, ...]
    cadence: str
    date_format: str
    rows: dict[str, RowsIdentity]
    metrics: dict[str, float]
    llm_fingerprint: str
    training_id: str = ""
    version: str = __version__
    training: TrainingState | None = field(default=None, repr=False)
    intervals: Intervals | None = field(default=None, repr=False)
    days: LearnedDays | None = None

    @property
    def stage(self) -> str:
        """Which weights of a training these are: those of its best epoch, of its end, or of a step on the way."""
        if self.training is None:
            return "best"
        return "end" if self.training.run.finished else f"step {self.training.run.step}"

    @property
    def epoch(self) -> int | None:
        """After how many epochs these weights are, a begun one counted; 0 for an untrained model. None if imported."""
        if self.training is not None:
            return self.training.run.scored_epoch
        return int(self.metrics["epoch"]) if "epoch" in self.metrics else None

    @classmethod
    def of(
        cls,
        runner: Runner,
        data: ForecastData,
        config: Config,
        metrics: dict[str, float],
        training: TrainingState | None = None,
        intervals: Intervals | None = None,
        training_id: str = "",
    ) -> Self:
        """What is kept of a model and of the data that it learned from, under their configuration."""
        return cls(
            weights=runner.model.own_state(),
            config=config,
            scaler=data.scaler,
            columns=data.table.columns,
            ids=data.table.series.ids,
            cadence=to_text(data.table.cadence),
            date_format=data.table.date_format,
            rows=data.identity,
            metrics=metrics,
            llm_fingerprint=runner.llm_fingerprint,
            training_id=training_id,
            training=training,
            intervals=intervals,
            days=runner.days,
        )


def clock_of(checkpoint: Checkpoint | None) -> Clock | None:
    """How the day map of a checkpoint cuts the day; None without one."""
    return checkpoint.days.clock if checkpoint and checkpoint.days else None


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write `path` so that at every moment it is the whole old file or the whole new one.

    Raises ModelError where the disk refuses; whatever stood at `path` before is then untouched.
    """
    content = io.BytesIO()
    torch.save(_to_plain(checkpoint), content)  # not into the file: torch's writer would hide why the disk refuses
    with disk_faults_of(path), replacing(path) as file:
        file.write(content.getbuffer())


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint onto the CPU; pickled code never runs. Raises ModelError where it is not one of ours."""
    _refuse_unless_archive(path)
    try:
        with warnings.catch_warnings(action="ignore"):  # torch wonders at pickles of other makes, which are refused
            plain = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ModelError(
            f"'{path}' holds pickled Python objects, which could run code when loaded: refused",
            "only checkpoints that `timellm train` or `timellm import` wrote are loaded",
        ) from None
    except Exception as error:  # a damaged archive can raise almost anything
        raise ModelError(
            f"'{path}' is damaged: {str(error).splitlines()[0] if str(error) else error!r}", nearby_checkpoints(path)
        ) from None
    if not isinstance(plain, Mapping) or plain.get("format") != FORMAT:
        raise ModelError(
            f"'{path}' is no timellm checkpoint",
            "`timellm import` converts checkpoints of the original implementation; " + nearby_checkpoints(path),
        )
    return _from_plain(path, plain)


def load_runner(
    checkpoint: Checkpoint, config: Config, device: torch.device, on_note: Callable[[str], None] = lambda _: None
) -> Runner:
    """The model of a checkpoint, on `device`. `config` is the checkpoint's own, resolved for this machine.

    Raises ModelError where the LLM found here is another one than the weights were trained with.
    """
    runner = load_model(config, device, on_note)
    if runner.llm_fingerprint != checkpoint.llm_fingerprint:
        raise ModelError(
            f"the LLM '{config.llm.name}' found here is not the one of the checkpoint: fingerprint "
            f"{runner.llm_fingerprint}, but the checkpoint was trained with {checkpoint.llm_fingerprint}",
            "put the same LLM files back; the trained weights mean nothing to another LLM",
        )
    if checkpoint.days is not None:
        shapes = {name: weight.shape for name, weight in checkpoint.weights.items()}
        put_back_day_map(runner, checkpoint.days, shapes, config)
    runner.model.load_own_state(checkpoint.weights)
    return runner


def _to_plain(checkpoint: Checkpoint) -> dict[str, Any]:
    training, bands = checkpoint.training, checkpoint.intervals
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "version": checkpoint.version,
        "config": checkpoint.config.model_dump_json(),
        "weights": {name: tensor.detach().cpu() for name, tensor in checkpoint.weights.items()},
        "scaler": {
            "mean": torch.as_tensor(checkpoint.scaler.mean_C, dtype=torch.float64),
            "std": torch.as_tensor(checkpoint.scaler.std_C, dtype=torch.float64),
        },
        "columns": list(checkpoint.columns),
        "ids": list(checkpoint.ids),
        "cadence": checkpoint.cadence,
        "date_format": checkpoint.date_format,
        "rows": {split: asdict(identity) for split, identity in checkpoint.rows.items()},
        "metrics": {name: float(value) for name, value in checkpoint.metrics.items()},
        "llm_fingerprint": checkpoint.llm_fingerprint,
        "training_id": checkpoint.training_id,
        "training": training and {"run": asdict(training.run), "step": training.step, "random": training.random},
        "days": checkpoint.days and {**asdict(checkpoint.days), "facts": list(checkpoint.days.facts)},
        "intervals": bands and {**vars(bands), **_tensors_of(bands)},
    }


def _sound(name: str, tensor: Any) -> Tensor:
    """A plain tensor of finite real numbers. Raises TypeError or ValueError for anything else."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} is no tensor")
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or not tensor.is_floating_point():
        raise TypeError(f"{name} is a {tensor.layout} tensor of {tensor.dtype} on {tensor.device}")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise ValueError(f"{name} claims {tuple(tensor.shape)} numbers, more than the file holds")
    if not bool(tensor.isfinite().all()):
        raise ValueError(f"{name} has numbers that are not finite")
    return tensor.detach()


def _scaler_from(plain: Mapping[str, Any], columns: Sequence[Any], ids: Sequence[Any]) -> Scaler:
    """Raises ValueError where a mean or a deviation is missing, or a column or series has no name."""
    scaler = Scaler(_sound("mean", plain["mean"]).numpy(), _sound("std", plain["std"]).numpy())
    if (scaler.std_C <= 0).any():
        raise ValueError("a deviation is not above 0")
    if not isinstance(ids, list) or not all(isinstance(name, str) for name in (*columns, *ids)):
        raise ValueError("the name of a column or series is no text")
    channels = len(columns) * len(ids)
    if not scaler.mean_C.shape == scaler.std_C.shape == (channels,):
        raise ValueError(f"{scaler.mean_C.shape} means and {scaler.std_C.shape} deviations of {channels} channels")
    return scaler


def _intervals_from(plain: Mapping[str, Any], columns: Sequence[str], pred_len: int) -> Intervals:
    """Raises ValueError where the numbers are not of these channels and steps."""
    channels, levels, halves_LCH = tuple(plain["channels"]), tuple(plain["levels"]), plain["halves_LCH"]
    known = plain["pooled"] or set(channels) <= set(columns)
    if tuple(halves_LCH.shape) != (len(levels), len(channels), pred_len) or not known:
        raise ValueError(f"bands of shape {tuple(halves_LCH.shape)}")
    errors = tuple(map(float, plain["errors"]))
    if len(errors) != len(levels):
        raise ValueError(f"{len(errors)} standard errors of {len(levels)} bands")
    halves = _sound("bands", halves_LCH).float().numpy()
    sums = plain.get("sums_LCH")
    if sums is not None and sums.shape != halves_LCH.shape:
        raise ValueError(f"bands of sums of shape {tuple(sums.shape)}")
    sums = None if sums is None else _sound("bands of sums", sums).float().numpy()
    pooled = bool(plain["pooled"])
    return Intervals(channels, plain["period"], plain["windows"], levels, halves, errors, pooled, sums)


def _tensors_of(bands: Intervals) -> dict[str, torch.Tensor | None]:
    sums = bands.sums_LCH
    return {
        "halves_LCH": torch.from_numpy(bands.halves_LCH),
        "sums_LCH": None if sums is None else torch.from_numpy(sums),
    }


def _text(plain: Mapping[str, Any], key: str) -> str:
    """Raises TypeError where it is no text."""
    if not isinstance(plain[key], str):
        raise TypeError(f"{key} is no text")
    return str(plain[key])


def _rows_from(plain: Mapping[str, Any]) -> RowsIdentity:
    """Raises TypeError where the count is no number, or the rest no text."""
    if type(plain["rows"]) is not int or plain["rows"] < 0:
        raise TypeError("a count of rows is no whole number")
    return RowsIdentity(plain["rows"], *(_text(plain, key) for key in ("first", "last", "digest")))


def _days_from(plain: Mapping[str, Any]) -> LearnedDays:
    """Raises TypeError or ValueError where the clock is none, or a fact no text."""
    unit, first, facts = plain["clock"]["unit"], plain["clock"]["first"], plain["facts"]
    if type(unit) is not int or type(first) is not int or not 0 <= first < unit or DAY % unit:
        raise ValueError(f"a day cut into parts of {unit} microseconds from {first} on")
    if DAY // unit > MOST_SLOTS or not all(isinstance(fact, str) for fact in facts):
        raise ValueError(f"a day of {DAY // unit} parts, or a fact that is no text")
    return LearnedDays(Clock(unit, first), tuple(facts), _text(plain, "fingerprint"), _text(plain, "digest"))


def _training_from(plain: Mapping[str, Any]) -> TrainingState:
    """Raises KeyError or TypeError where something is missing or unknown."""
    return TrainingState(RunState(**plain["run"]), dict(plain["step"]), dict(plain["random"]))


def _from_plain(path: Path, plain: Mapping[str, Any]) -> Checkpoint:
    made_by = f"timellm {plain.get('version', '(unknown)')}"
    version = plain.get("format_version")
    if type(version) is not int or version != FORMAT_VERSION:
        raise ModelError(
            f"'{path}' has checkpoint format {repr(version)[:40]}, made by {made_by}; "
            f"this is timellm {__version__}, which reads format {FORMAT_VERSION}",
            f"use {made_by} for it",
        )
    try:
        weights = {name: _sound(str(name), weight) for name, weight in plain["weights"].items()}
        config, bands = Config.model_validate_json(plain["config"]), plain["intervals"]
        scaler = _scaler_from(plain["scaler"], plain["columns"], plain["ids"])
        parse_cadence(plain["cadence"])
        return Checkpoint(
            weights=weights,
            config=config,
            scaler=scaler,
            columns=tuple(plain["columns"]),
            ids=tuple(plain["ids"]),
            cadence=plain["cadence"],
            date_format=_text(plain, "date_format"),
            rows={split: _rows_from(plain["rows"][split]) for split in SPLITS},
            metrics={str(name): float(value) for name, value in plain["metrics"].items()},
            llm_fingerprint=_text(plain, "llm_fingerprint"),
            training_id=_text(plain, "training_id"),
            version=_text(plain, "version"),
            days=None if plain["days"] is None else _days_from(plain["days"]),
            training=None if plain["training"] is None else _training_from(plain["training"]),
            intervals=None if bands is None else _intervals_from(bands, plain["columns"], config.window.pred_len),
        )
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        key = ".".join(map(str, fault["loc"]))
        raise ModelError(
            f"'{path}' was made by {made_by}, whose configuration timellm {__version__} does not read: "
            f"{key}: {fault['msg']}",
            f"use {made_by} for it",
        ) from None
    except (LookupError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        raise ModelError(f"'{path}' is a damaged checkpoint: {error!r}", nearby_checkpoints(path)) from None


def _refuse_unless_archive(path: Path) -> None:
    """A checkpoint is an uncompressed archive; anything else is recognised by its first bytes and never unpickled."""
    require_checkpoint(path)
    try:
        with path.open("rb") as file:
            first = file.read(2)
        with zipfile.ZipFile(path) as archive:
            packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist())
            changed = None if packed else archive.testzip()
    except OSError as error:
        raise ModelError(f"checkpoint '{path}' cannot be read: {error.strerror}", nearby_checkpoints(path)) from None
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, RuntimeError, struct.error):
        if first == b"PK":
            raise ModelError(
                f"'{path}' is damaged: its end is missing or overwritten", nearby_checkpoints(path)
            ) from None
        is_pickle = first.startswith(b"\x80")
        kind = "a Python pickle, which could run code when loaded: refused" if is_pickle else "no timellm checkpoint"
        raise ModelError(f"'{path}' is {kind}", nearby_checkpoints(path)) from None
    if changed is not None:
        raise ModelError(
            f"'{path}' is damaged: the bytes of '{changed}' are not those that were written", nearby_checkpoints(path)
        )
    if packed:  # a few kilobytes could unpack to terabytes
        raise ModelError(f"'{path}' is no timellm checkpoint: it is a compressed archive", nearby_checkpoints(path))
