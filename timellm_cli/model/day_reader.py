"""Puts a day map into a loaded model, and gives it the lines of a table: in training, scoring and forecasting."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from timellm_cli.config import Config
from timellm_cli.data.ahead import AheadRows, LearnedDays, training_lines
from timellm_cli.data.day_axis import walls_of
from timellm_cli.data.day_lines import Line
from timellm_cli.data.windows import ForecastData
from timellm_cli.errors import ModelError
from timellm_cli.model.cuda_graphs import forget_recordings
from timellm_cli.model.day_map import DayMap, DayMapSizes, basis_of
from timellm_cli.model.line_reader import facts_of, mean_of_lines, read_lines, vectors_of_facts

if TYPE_CHECKING:
    from timellm_cli.model.runner import Runner

OnNote = Callable[[str], None]


def add_day_map(runner: "Runner", data: ForecastData, config: Config, on_note: OnNote = lambda _: None) -> None:
    """Give the model a fresh day map for a table; it adds nothing yet (see `closed_form.py`).

    Directions, facts and the columns' scale are those of the training rows. The weights are drawn from torch's global
    generator. Raises ModelError where the LLM that reads the text is absent.
    """
    ahead = data.ahead
    assert ahead is not None
    lines: tuple[Line, ...] = ahead.lines.lines if ahead.lines else ()
    channels = data.windows("train").channels if config.model.shortcut == "fitted" else 0
    facts: tuple[str, ...] = ()
    fingerprint = ""
    mean_E, basis_EK, vectors_LE = torch.zeros(0), torch.zeros(0, 0), torch.zeros(len(lines), 0)
    if lines:
        counts = training_counts(data, ahead)
        if config.ahead.reader == "columns":
            facts = facts_of(lines, counts)
            vectors_LE = vectors_of_facts(lines, facts)
            mean_E, basis_EK = torch.zeros(len(facts)), torch.eye(len(facts))
            if channels:
                mean_E = mean_of_lines(vectors_LE, counts).float()
        else:
            vectors_LE, fingerprint, runner.lines_read = read_lines(lines, config, runner.device, on_note)
            mean_E, basis_EK = basis_of(vectors_LE, torch.tensor(counts))
    columns_VF, (vector, mixes) = ahead.columns_VF, basis_EK.shape
    rank, seq_len = config.ahead.rank, config.window.seq_len
    sizes = DayMapSizes(ahead.clock.slots, vector, mixes, columns_VF.shape[1], rank, seq_len, channels)
    day_map = DayMap(sizes)
    day_map.fit_vectors(mean_E, basis_EK)
    if sizes.columns:
        offsets = zip(data.table.series.offsets, data.spans, strict=True)
        parts = [columns_VF[offset + one.train.start : offset + one.train.stop] for offset, one in offsets]
        day_map.fit_columns(torch.cat(parts))
    day_map.set_lines(vectors_LE)
    runner.model.day_map = day_map.to(runner.device)
    runner.days = LearnedDays(ahead.clock, facts, fingerprint, ahead.digest)


def put_back_day_map(runner: "Runner", learned: LearnedDays, shapes: dict[str, torch.Size], config: Config) -> None:
    """Give the model an empty day map of a checkpoint's shapes, whose weights are loaded next. Raises ModelError."""
    try:
        vector, mixes = shapes["day_map.basis_EK"]
        (columns,) = shapes["day_map.column_mean_F"]
        rows, _, _ = shapes["day_map.start_CDK"]
    except (KeyError, ValueError):
        raise ModelError("the checkpoint's day map has no weights", "it is damaged: use another one") from None
    rank, seq_len, channels = config.ahead.rank, config.window.seq_len, rows - 1 if rows > 1 else rows
    sizes = DayMapSizes(learned.clock.slots, vector, mixes, columns, rank, seq_len, channels)
    runner.model.day_map = DayMap(sizes).to(runner.device)
    runner.days = learned


def read_days(runner: "Runner", lines: Sequence[Line], config: Config, on_note: OnNote = lambda _: None) -> None:
    """Let a trained model read these lines from now on. Raises ModelError where the LLM is absent or another one."""
    day_map, learned = runner.model.day_map, runner.days
    assert day_map is not None
    assert learned is not None
    if not day_map.sizes.mixes:
        return
    forget_recordings()  # they know where the last lines were
    if config.ahead.reader == "columns":
        new = sorted({fact for line in lines for fact in line.facts if fact not in learned.facts})
        if new:
            on_note(f"not seen in training, and so of no effect: {', '.join(new[:6])}")
        day_map.set_lines(vectors_of_facts(lines, learned.facts))
        return
    vectors_LE, fingerprint, runner.lines_read = read_lines(lines, config, runner.device, on_note)
    if fingerprint != learned.fingerprint:
        raise ModelError(
            f"the LLM '{config.text_llm}' found here is not the one that read the text in training: fingerprint "
            f"{fingerprint}, not {learned.fingerprint}",
            "put the same LLM files back",
        )
    day_map.set_lines(vectors_LE)


def training_counts(data: ForecastData, ahead: AheadRows) -> list[int]:
    """How often each line is of a training day."""
    series = data.table.series
    last = max(first + one.train.stop for first, one in zip(series.first, data.spans, strict=True)) - 1
    wall = walls_of(data.table.stamps[last : last + 1], data.table.style)[0]
    return training_lines(ahead, wall.date())
