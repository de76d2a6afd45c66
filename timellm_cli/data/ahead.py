"""What is known of the steps ahead, row by row, and the part of it that each sample reads.

Lines of text are numbers of lines here; `model/line_reader.py` gives each line a vector.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from hashlib import sha256
from typing import Self

import polars as pl
import torch
from torch import Tensor

from timellm_cli.config import Config
from timellm_cli.data.batch import AheadBatch
from timellm_cli.data.day_axis import Clock, Days, walls_of
from timellm_cli.data.day_lines import Calendar, DayLines, notes_on_events
from timellm_cli.data.future_columns import read_future_columns
from timellm_cli.data.table import Table


@dataclass(frozen=True)
class LearnedDays:
    """What a model with a day map has to be used with; a checkpoint keeps it.

    `clock` cuts the day; `facts` are what columns of 0 and 1 stand for; `fingerprint` is that of the LLM that read the
    text, empty without one; `digest` is of what was known of the trained table's rows.
    """

    clock: Clock
    facts: tuple[str, ...]
    fingerprint: str
    digest: str


@dataclass(frozen=True, eq=False)
class AheadRows:
    """What is known of every row of a time axis (N), and of the rows of all series, one after the other (V).

    Fields are those of `AheadBatch`.

    `line_GN` has a row for each group of channels that share their lines; `columns_VF` are raw. `true_lines` are of
    their days also where `lines` are dealt out to other days. `known_C` are the channels' numbers in the training.
    """

    lines: DayLines | None
    clock: Clock
    line_GN: Tensor
    slot_N: Tensor
    week_N: Tensor
    columns_VF: Tensor
    group_C: Tensor
    known_C: Tensor
    notes: tuple[str, ...] = ()
    true_lines: DayLines | None = None

    def batch(self, row_B: Tensor, place_B: Tensor, channel_B: Tensor, seq_len: int, pred_len: int) -> AheadBatch:
        """Of samples whose history begins at row `row_B` of the axis, which is place `place_B` of all series' rows."""
        ahead_H = torch.arange(seq_len, seq_len + pred_len)
        row_BH = row_B[:, None] + ahead_H
        return AheadBatch(
            line_BH=self.line_GN[self.group_C[channel_B][:, None], row_BH],
            slot_BH=self.slot_N[row_BH],
            week_BT=self.week_N[row_B[:, None] + torch.arange(seq_len)],
            columns_BHF=self.columns_VF[place_B[:, None] + ahead_H],
            channel_B=self.known_C[channel_B],
        )

    def with_channels_of(self, columns: Sequence[str], ids: Sequence[str], trained: "TrainedChannels") -> Self:
        """The same, with the numbers that the channels (each column of every series) had in a training."""
        return replace(self, known_C=trained.numbers(columns, ids))

    @property
    def digest(self) -> str:
        """A short hash of what is known of each row: of the text of its days, and of the columns."""
        digest = sha256(self.columns_VF.numpy().tobytes())
        if self.lines is not None:
            for line_D in self.lines.line_GD:
                digest.update("\n".join(self.lines.lines[line].text for line in line_D).encode())
        return digest.hexdigest()[:16]

    def of_channels(self, columns_SF: Tensor) -> "AheadOfChannels":
        """The same of each channel of a single series, whose rows these are; `columns_SF` are those of its rows."""
        channels = len(self.group_C)
        return AheadOfChannels(
            self.line_GN[self.group_C],
            self.slot_N.expand(channels, -1),
            self.week_N.expand(channels, -1),
            columns_SF.expand(channels, -1, -1),
            self.known_C,
        )


NEW, BESIDE = -1, -2
"""Numbers of channels that a training did not score: one that it did not have, and a column beside the target of MS."""


@dataclass(frozen=True)
class TrainedChannels:
    """The channels of a training that are scored: the last `scored` columns of every series."""

    columns: tuple[str, ...]
    ids: tuple[str, ...]
    scored: int

    @classmethod
    def of(cls, columns: Sequence[str], ids: Sequence[str], features: str) -> Self:
        """Those of a table: of MS, the target alone."""
        return cls(tuple(columns), tuple(ids), 1 if features == "MS" else len(columns))

    def numbers(self, columns: Sequence[str], ids: Sequence[str]) -> Tensor:
        """The number of each column of every series; else `NEW`, or `BESIDE` where MS forecasts another column."""
        scored = self.columns[-self.scored :]
        own = [(column, name) for column in scored for name in self.ids]
        number = {channel: place for place, channel in enumerate(own)}
        other = {column: BESIDE for column in columns if self.scored < len(self.columns) and column not in scored}
        return torch.tensor([number.get((column, name), other.get(column, NEW)) for column in columns for name in ids])


def read_ahead(table: Table, config: Config, clock: Clock | None, in_training: bool) -> AheadRows | None:
    """What a configuration knows of the rows of its table; None for nothing. `clock` is a checkpoint's.

    Raises DataError for events and columns that cannot be used; in training also where no event is of these rows.
    """
    if not config.reads_ahead:
        return None
    walls = walls_of(table.stamps, table.style)
    columns_VF = torch.zeros(table.series.total, 0)
    if config.data.future_columns:
        columns_VF = torch.from_numpy(read_future_columns(table, config.data).to_numpy().astype("float32"))
    calendar = Calendar.of(config.ahead, table.columns, table.series.ids)
    rows = rows_ahead(walls, calendar, table.columns, table.series.ids, columns_VF, clock or Clock.of(walls))
    if rows.lines is None:
        return rows
    true_lines, days = rows.lines, rows.lines.days
    notes = notes_on_events(calendar, days[0], days[-1], must_touch=in_training)
    if config.ahead.shuffle:
        lines = true_lines.shuffled(config.train.seed)
        rows = replace(rows, lines=lines, line_GN=_lines_of_rows(lines, Days.of(walls).day_N))
    return replace(rows, notes=tuple(notes), true_lines=true_lines)


def rows_ahead(
    walls: pl.Series,
    calendar: Calendar,
    columns: Sequence[str],
    ids: Sequence[str],
    columns_VF: Tensor,
    clock: Clock,
) -> AheadRows:
    """What is known of the rows with these wall times, for channels that are each column of every series."""
    lines, line_GN, group_C = None, torch.zeros(1, len(walls), dtype=torch.int64), [0] * (len(columns) * len(ids))
    if calendar.ahead.has_text:
        days = Days.of(walls)
        lines = calendar.lines(days.dates, days.lengths, columns, ids)
        line_GN, group_C = _lines_of_rows(lines, days.day_N), list(lines.group_C)
    return AheadRows(
        lines=lines,
        clock=clock,
        line_GN=line_GN,
        slot_N=torch.tensor(clock.slots_of(walls).to_list()),
        week_N=torch.tensor(clock.places_in_week(walls).to_list()),
        columns_VF=columns_VF,
        group_C=torch.tensor(group_C),
        known_C=torch.arange(len(group_C)),
    )


def _lines_of_rows(lines: DayLines, day_N: pl.Series) -> Tensor:
    return torch.tensor(lines.line_GD)[:, torch.tensor(day_N.to_list())]


def training_lines(rows: AheadRows, last: date) -> list[int]:
    """How often each line is of a day up to `last`, over all groups."""
    assert rows.lines is not None
    counts = [0] * len(rows.lines.lines)
    for line_D in rows.lines.line_GD:
        for day, line in zip(rows.lines.days, line_D, strict=True):
            counts[line] += day <= last
    return counts


@dataclass(frozen=True, eq=False)
class AheadOfChannels:
    """What is known of some channels (C), each from its history's first row to the last step (S) of its forecast."""

    line_CS: Tensor
    slot_CS: Tensor
    week_CS: Tensor
    columns_CSF: Tensor
    known_C: Tensor

    def batch(self, channels: slice, moved: int, seq_len: int, pred_len: int) -> AheadBatch:
        """Of samples of these channels whose history begins `moved` rows after the first one."""
        history, horizon = slice(moved, moved + seq_len), slice(moved + seq_len, moved + seq_len + pred_len)
        return AheadBatch(
            self.line_CS[channels, horizon],
            self.slot_CS[channels, horizon],
            self.week_CS[channels, history],
            self.columns_CSF[channels, horizon],
            self.known_C[channels],
        )

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """The channels of all parts, one after the other."""
        fields = ("line_CS", "slot_CS", "week_CS", "columns_CSF", "known_C")
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in fields))
