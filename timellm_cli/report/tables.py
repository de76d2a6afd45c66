"""The two forms that tables have everywhere: with a title, or as lined-up rows of a section. Light."""

from collections.abc import Iterable
from typing import Any, Literal

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from timellm_cli.console import out
from timellm_cli.units import format_count


def titled_table(title: str, **options: Any) -> Table:
    """An empty table under a bold title on the left. In a pipe it has no lines, so that other programs can read it."""
    if not out.is_terminal:
        options |= {"box": None, "padding": (0, 2, 0, 0), "pad_edge": False}
    return Table(title=Text(title, style="bold"), title_justify="left", **options)


def section(title: str, content: RenderableType) -> Group:
    """A titled part of a report, with a blank line before it."""
    return Group(Text(""), Text(title, style="bold cyan"), content)


def line_up(rows: Iterable[Iterable[Text]], *justify: Literal["left", "right"]) -> Padding:
    """Rows without borders, one `justify` a column; the last column wraps, the others do not."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    for place, side in enumerate(justify, 1):
        table.add_column(justify=side, no_wrap=place < len(justify), overflow="fold")
    for row in rows:
        table.add_row(*row)
    return Padding(table, (0, 0, 0, 1), expand=False)


def describe_samples(windows: int, samples: int, series: int | None, noun: str = "sample") -> str:
    """'8,209 windows x 7 channels = 57,463 samples'; for a panel '8,209 windows of 20 series = 8,209 samples'."""
    columns, counted = samples // windows if windows else 0, format_count(samples, noun)
    if series is None:
        return f"{windows:,} windows x {format_count(columns, 'channel')} = {counted}"
    if columns > 1:
        return f"{windows:,} windows of {series:,} series x {columns} columns = {counted}"
    return f"{windows:,} windows of {series:,} series = {counted}"
