"""What became of the arguments of an old command, as tables that fit 80 columns. Light."""

from collections.abc import Iterator, Sequence

from rich.console import RenderableType, group
from rich.padding import Padding
from rich.text import Text

from timellm_cli.console import as_is, translated
from timellm_cli.importing.translate import Outcome, Translation
from timellm_cli.report.tables import line_up, section

_TITLES = {
    "wrong": "Wrong: look at these",
    "used": "Used as they are",
    "renamed": "Renamed",
    "no use": "Of no use in Time-LLM",
}


@group()
def outcome_tables(translation: Translation, known: Sequence[Outcome] = ()) -> Iterator[RenderableType]:
    """One table for each kind of outcome, without those in `known`: of an earlier command of the same script."""
    said = {(one.argument.name, one.said) for one in known}
    fresh = [one for one in translation.outcomes if (one.argument.name, one.said) not in said]
    for what, title in _TITLES.items():
        rows = [one for one in fresh if one.what == what]
        if rows:
            style = "yellow" if what == "wrong" else ""
            lines = [(as_is(_written(one), style), Text(one.said)) for one in rows]
            yield section(f"{translated(title)} ({len(rows)})", line_up(lines, "left", "left"))
    if translation.notes and not known:
        yield Padding(Text("\n".join(f"note: {note}" for note in translation.notes)), (1, 0, 0, 1))


def _written(one: Outcome) -> str:
    value = one.argument.value or ""
    is_short = len(value) <= 12
    return f"--{one.argument.name} {value if is_short else ''}".rstrip()
