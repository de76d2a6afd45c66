"""What `inspect` says of the text of the days and of the columns that are known ahead. Light: polars."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from timellm_cli.config import Config
from timellm_cli.datasets import known_dataset
from timellm_cli.model.day_map_sizes import MOST_MIXES
from timellm_cli.planning.days_case import DaysCase
from timellm_cli.planning.prompt_tokens import count_longest
from timellm_cli.splits import SPLITS, split_series

if TYPE_CHECKING:
    from timellm_cli.data.day_lines import DayLines
    from timellm_cli.data.table import Table

_SHOWN_DAYS = 7


@dataclass(frozen=True)
class DaysAhead:
    """What was understood.

    `lines` are those of all days (or steps, where these are longer) and `distinct` the different ones, each read once
    by `reader`. `special_days` has, for each split, how many days its targets have, and how many of these have an event
    or a holiday. `shown` are the lines of the days after the table,
    for the channels of the first group. `case` says how large the day map is.
    """

    columns: tuple[str, ...]
    reader: str
    lines: int = 0
    distinct: int = 0
    special_days: dict[str, tuple[int, int]] | None = None
    shown: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    case: DaysCase | None = None


def look_ahead(table: "Table | None", config: Config) -> DaysAhead | None:
    """What a run knows of the days of its table; None where it knows nothing.

    Raises DataError for events and columns that cannot be used.
    """
    if not config.reads_ahead:
        return None
    columns = config.data.future_columns
    reader = (config.text_llm or "columns of 0 and 1") if config.ahead.has_text else ""
    usual = DaysCase.usual(config)
    if table is None:
        return DaysAhead(columns, reader, case=usual)
    from timellm_cli.data.day_axis import Clock, walls_of

    slots = Clock.of(walls_of(table.stamps, table.style)).slots
    case = replace(usual, slots=slots, channels=_channels(table, config)) if usual else None
    if columns:
        from timellm_cli.data.future_columns import read_future_columns

        read_future_columns(table, config.data)
    if not config.ahead.has_text:
        return DaysAhead(columns, reader, case=case)
    return _of_text(table, config, reader, case)


def _of_text(table: "Table", config: Config, reader: str, case: DaysCase | None) -> DaysAhead:
    import polars as pl

    from timellm_cli.data.cadence import continue_stamps
    from timellm_cli.data.day_axis import Days, walls_of
    from timellm_cli.data.day_lines import Calendar, notes_on_events

    columns, ids = table.columns, table.series.ids
    calendar = Calendar.of(config.ahead, columns, ids)
    days = Days.of(walls_of(table.stamps, table.style))
    found = calendar.lines(days.dates, days.lengths, columns, ids)
    groups = range(len(found.line_GD))
    special_D = [any(flags) for flags in zip(*(found.special(group) for group in groups), strict=True)]
    steps = _SHOWN_DAYS * max(len(table.stamps) // max(len(days.dates), 1), 1)
    later = pl.Series(continue_stamps(table.stamps[-1], table.cadence, steps), dtype=pl.Datetime("us"))
    after = Days.of(walls_of(later, table.style))
    shown = calendar.lines(after.dates, after.lengths, columns, ids)
    return DaysAhead(
        columns=config.data.future_columns,
        reader=reader,
        lines=len(found.line_GD) * len(days.dates),
        distinct=len(found.lines),
        special_days=_count_special(table, config, days.day_N.to_list(), special_D),
        shown=tuple(shown.lines[line].text for line in shown.line_GD[0])[:_SHOWN_DAYS],
        notes=tuple(notes_on_events(calendar, days.dates[0], days.dates[-1], must_touch=True)),
        case=None if case is None else _with_lines(case, table, config, found),
    )


def _channels(table: "Table", config: Config) -> int:
    """The scored channels, where the day map starts from weights in closed form; else 0."""
    if config.model.shortcut != "fitted":
        return 0
    return len(table.series.ids) * (len(table.columns) if config.data.features == "M" else 1)


def _with_lines(case: DaysCase, table: "Table", config: Config, found: "DayLines") -> DaysCase:
    """The case with what the lines decide: how many directions, or facts, the training days have (`add_day_map`)."""
    from timellm_cli.data.day_axis import walls_of

    spans = split_series(table.series, known_dataset(config.data), config.data, config.window)
    last = max(first + one.train.stop for first, one in zip(table.series.first, spans, strict=True)) - 1
    end = walls_of(table.stamps[last : last + 1], table.style)[0].date()
    trained = {line for line_D in found.line_GD for day, line in zip(found.days, line_D, strict=True) if day <= end}
    if config.ahead.reader == "columns":
        facts = len({fact for line in trained for fact in found.lines[line].facts})
        return replace(case, vector=facts, mixes=facts, lines=len(found.lines))
    tokens = count_longest([line.text for line in found.lines], case.reader) if case.reader else 0
    mixes = max(min(MOST_MIXES, len(trained) - 1, case.vector), 1)
    return replace(case, mixes=mixes, lines=len(found.lines), tokens=tokens)


def _count_special(
    table: "Table", config: Config, day_N: list[int], special_D: list[bool]
) -> dict[str, tuple[int, int]]:
    """Days of the targets of each split, and those with something special."""
    series, seq_len = table.series, config.window.seq_len
    spans = split_series(series, known_dataset(config.data), config.data, config.window)
    counted = {}
    for split in SPLITS:
        days: set[int] = set()
        for first, one in zip(series.first, spans, strict=True):
            days.update(day_N[first + one[split].start + seq_len : first + one[split].stop])
        counted[split] = (len(days), sum(special_D[day] for day in days))
    return counted
