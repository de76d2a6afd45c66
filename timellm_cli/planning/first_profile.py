"""A commented profile for a table, with what was understood of it, for its owner to check and complete. Light."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import tomli_w

from timellm_cli.config import Config
from timellm_cli.errors import listed
from timellm_cli.planning.plan import DataSource
from timellm_cli.settings import Settings
from timellm_cli.units import format_count

_MINUTE, _HOUR, _DAY = (timedelta(**{unit: 1}) for unit in ("minutes", "hours", "days"))
_WINDOWS = (
    (_MINUTE, 240, 60, 0, "four hours, then one"),
    (15 * _MINUTE, 672, 96, 96, "a week, then a day"),
    (30 * _MINUTE, 336, 48, 48, "a week, then a day"),
    (_HOUR, 168, 24, 24, "a week, then a day"),
    (_DAY, 56, 7, 7, "eight weeks, then one"),
    (7 * _DAY, 104, 13, 52, "two years, then a quarter"),
    (28 * _DAY, 36, 12, 12, "three years, then one"),
)
"""Step up to which it applies, rows of history and of forecast, rows of a season, and what that is."""
_SHARE, _FEWEST = 10, 8
"""A history takes a tenth of the rows at most, so that windows are left to train, validate and test on."""


def windows_for(step: timedelta | None, rows: int) -> tuple[int, int, int, str]:
    """Rows of history and forecast and of a season for rows that lie a `step` apart, and why. Short tables get less."""
    fits = [window for window in _WINDOWS if step is not None and step >= window[0]]
    _, seq_len, pred_len, season, why = fits[-1] if fits else (None, 96, 24, 0, "a few of the longest cycles, then one")
    most = max(rows // _SHARE, _FEWEST)
    if seq_len <= most:
        return seq_len, pred_len, season, why
    short = most // season * season if 0 < season <= most else most
    return short, max(min(pred_len, short // 3), 1), season if season <= short else 0, f"about a tenth of {rows:,} rows"


def profile_of(settings: Settings, data: DataSource, path: Path) -> str:
    """The profile as TOML. `path` is how the table is named in it."""
    config, table = settings.config, data.table
    step = getattr(table.cadence, "step", None) if table else None
    seq_len, pred_len, season, why = windows_for(step, data.rows)
    lines = [
        f"# {path.name}: what was understood of it. Check each line, and write a description.",
        f"# {format_count(data.rows, 'row')}{_span(data)}",
        *(f"# note: {note}" for note in data.notes),
        "",
        "[data]",
        'dataset = "custom"',
        _line("path", str(path), "the table"),
        _line("date_column", config.data.date_column, f"the timestamps{_cadence(data)}"),
        _line("target", config.data.target, "the column of main interest; --target names another"),
        f"# columns = {_plain_list(data.columns)}  # all of these are forecast; name fewer to leave some out",
        'features = "M"  # M: every column is forecast from itself. S: the target only. MS: all, the target is scored',
        *_reading(config),
        '# fill = "linear"  # interpolate gaps and empty cells of histories instead of refusing them',
        "",
        "[window]",
        f"seq_len = {seq_len}  # rows of history: {why}",
        f"pred_len = {pred_len}  # rows to forecast",
        "",
        "[prompt]",
        "# Fill this in: one sentence that tells the LLM what the numbers are, where from, and what moves them.",
        '# description = "Loaves that a bakery in Lyon sells each day; closed on Mondays, more before holidays."',
        "",
        "[model]",
        'shortcut = "fitted"  # start from the linear map in closed form; best.pt is that map if training adds nothing',
        *([f"shortcut_period = {season}  # rows of a season"] if 0 < season <= seq_len else []),
        "",
        "[llm]",
        'name = "smollm2-135m"  # small enough for a CPU; on a GPU try "Qwen/Qwen2.5-3B"',
        "",
        "[train]",
        "epochs = 5",
        "batch_size = 16  # samples in one step; with less memory, fewer",
        "",
        "[run]",
        _line("name", f"{path.stem}_{{seq_len}}_{{pred_len}}_{{llm}}", "the folder in checkpoints/"),
    ]
    return "\n".join(lines) + "\n"


def _line(key: str, value: object, why: str) -> str:
    return f"{tomli_w.dumps({key: value}).strip()}  # {why}"


def _plain_list(names: Sequence[str]) -> str:
    return "[" + listed((f'"{name}"' for name in names), 12) + "]"


def _span(data: DataSource) -> str:
    stamps = data.read.stamps if data.read else None
    return "" if stamps is None or not len(stamps) else f", from {stamps[0]} to {stamps[-1]}"


def _cadence(data: DataSource) -> str:
    return f", every {str(data.table.cadence).removeprefix('1 ')}" if data.table else ""


def _reading(config: Config) -> list[str]:
    """Options of reading that are set."""
    default = Config().data
    names = ("date_format", "timezone", "decimal", "thousands", "na", "skip_rows", "encoding", "calendar", "id_column")
    values = {name: getattr(config.data, name) for name in names}
    changed = {name: value for name, value in values.items() if value != getattr(default, name)}
    return [
        _line(name, list(value) if isinstance(value, tuple) else value, "as you said")
        for name, value in changed.items()
    ]
