"""Why rows are no regular table: gaps, empty cells, repeated and irregular timestamps, each with line and remedy."""

from datetime import timedelta

import polars as pl

from timellm_cli.data.cadence import Cadence, Every, show_length
from timellm_cli.data.numbers import quote
from timellm_cli.data.rows import Rows
from timellm_cli.errors import DataError

ZONE_HINT = "local times with daylight saving: say --timezone Europe/Berlin (your zone)"


def gap(rows: Rows, cadence: Cadence, absent: int, numbers: pl.Series) -> DataError:
    is_gap = numbers.diff() > 1
    if rows.series is not None:
        is_gap &= rows.series.to_physical().cast(pl.Int64).diff() == 0
    row = int(is_gap.arg_true()[0])
    before, here = rows.style.write(rows.stamps[row - 1]), rows.style.write(rows.stamps[row])
    of = "" if rows.series is None else f" of {rows.series[row]}"
    return DataError(
        f"{rows.where(row)}: a gap: {here}{of} comes after {before}, "
        f"but the step is {cadence}; absent timestamps in all: {absent:,}",
        f"--fill linear fills histories, and absent times are no targets{_zone_hint(rows, row)}",
    )


def _zone_hint(rows: Rows, row: int) -> str:
    """What to say where the fault lies in a Sunday's night, when clocks change."""
    at = rows.stamps[row]
    is_night = at.weekday() == 6 and at.hour <= 4 and not rows.style.is_utc and not rows.style.offset
    return f"; {ZONE_HINT}" if is_night else ""


def empty_cell(rows: Rows, empty: int) -> DataError:
    found = [(int(column.is_null().arg_true()[0]), column.name) for column in rows.frame if column.null_count()]
    row, name = min(found, key=lambda pair: pair[0])
    return DataError(
        f"{rows.where(row)}, column '{name}': the cell is empty; empty cells in all: {empty:,}",
        "--fill linear fills histories, and empty cells are no targets",
    )


def repeated(rows: Rows, is_repeat: pl.Series, count: int, same: bool) -> DataError:
    row = int(is_repeat.arg_true()[0])
    line = rows.where(row)
    more = f" ({count:,} rows repeat a timestamp)" if count > 1 else ""
    remedy = "--duplicates first, last or mean keeps one row for each timestamp"
    return DataError(
        f"{line}: the timestamp {rows.style.write(rows.stamps[row])} is that of another row{more}",
        f"{remedy}{_zone_hint(rows, row)}"
        + ("; the rows are equal, so --fill linear drops them too" if same else "")
        + (f"; {_ids(rows)}" if rows.series is None else ""),
    )


def _ids(rows: Rows) -> str:
    """What to say where rows may be of several series: the columns that tell rows of one timestamp apart."""
    pairs = [name for name in rows.frame.columns if _is_id(rows.frame[name], rows.stamps)]
    if not pairs:
        return "if the file holds several series, name their column with --id-column"
    return f"if the file holds several series, --id-column {quote(pairs[0])}: it tells rows of one timestamp apart"


def _is_id(column: pl.Series, stamps: pl.Series) -> bool:
    """Whether a column has few whole numbers, none of them twice at a timestamp."""
    is_few = column.n_unique() * 2 <= len(column) and bool((column.drop_nulls() % 1 == 0).all())
    return is_few and pl.DataFrame({"at": stamps, "id": column}).n_unique() == len(column)


def irregular_steps(rows: Rows) -> DataError:
    steps = rows.stamps.diff()
    usual: timedelta = steps.drop_nulls().value_counts(sort=True)[steps.name][0]
    off_step = (steps.cast(pl.Int64) % (usual // timedelta(microseconds=1)) != 0).fill_null(False)
    odd = off_step if off_step.any() else (steps != usual).fill_null(False)
    return irregular(rows, int(odd.arg_true()[0]), Every(usual, rows.stamps[0]))


def irregular(rows: Rows, row: int, cadence: Cadence) -> DataError:
    """The error of a row that a cadence does not make."""
    since, usual = rows.stamps[row] - rows.stamps[max(row - 1, 0)], cadence.step
    is_late = min(since % usual, usual - since % usual) * 10 <= usual
    return DataError(
        f"{rows.where(row)}: irregular timestamps: {rows.style.write(rows.stamps[row])} comes "
        f"{show_length(since)} after the row before; the usual step is {cadence}",
        f"--snap rounds times, such as --snap {_snap_of(usual)}"
        if is_late
        else "resample the file to equal steps of time, or take rows as steps with --calendar rows",
    )


def _snap_of(step: timedelta) -> str:
    """The round length nearest to a step, as `--snap` takes it."""
    lengths = {
        "s": (1, 1, 5, 10, 15, 30),
        "min": (60, 1, 5, 10, 15, 30),
        "h": (3600, 1, 2, 3, 6, 12),
        "d": (86400, 1, 7),
    }
    rounds = {f"{count}{unit}": count * size for unit, (size, *counts) in lengths.items() for count in counts}
    return min(rounds, key=lambda name: abs(rounds[name] - step.total_seconds()))
