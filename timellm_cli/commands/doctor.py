"""`timellm doctor`: what this computer has for timellm, and what to mend with which command. Light."""

from dataclasses import asdict

from rich.text import Text

from timellm_cli.console import out, print_json
from timellm_cli.planning.examination import Finding, examine
from timellm_cli.planning.hardware import look_at_machine
from timellm_cli.report.tables import line_up
from timellm_cli.units import format_count


def run(*, as_json: bool) -> None:
    """Print what was found, then what is to mend."""
    found = examine(look_at_machine())
    faults = [one for one in found if one.remedy]
    if as_json:
        print_json({"healthy": not faults, "findings": [asdict(one) for one in found]})
        return
    out.print(line_up(map(_row, found), "left", "left", "left"))
    if not faults:
        out.print("\nNothing to mend.")
        return
    out.print(f"\n{format_count(len(faults), 'thing')} to mend:")
    for one in faults:
        out.print(Text(f"  {one.name}: {one.remedy}"), soft_wrap=True)


def _row(one: Finding) -> tuple[Text, Text, Text]:
    mark = Text("mend", style="bold yellow") if one.remedy else Text("ok", style="green")
    return mark, Text(one.name), Text(one.state)
