"""The arms of a comparison with and without what is known ahead, as a table on a terminal."""

from rich.table import Table
from rich.text import Text

from timellm_cli.console import translated
from timellm_cli.evaluation.arms import ARMS, FEWEST_DAYS, PARTS, ArmTable
from timellm_cli.report.tables import titled_table


def render_arms(arms: ArmTable) -> Table:
    """A line for each arm: its MSE, and the change against A, for all, event and ordinary days."""
    table = titled_table("what is known of the days ahead, MSE")
    table.add_column("arm", overflow="fold")
    for part, count in arms.days.items():
        few = f" ({translated('open')})" if part == "event" and count < FEWEST_DAYS else ""
        table.add_column(f"{PARTS[part]}\n{count:,}{few}", justify="right")
    for arm, name in arms.models.items():
        cells = []
        for part in arms.days:
            against = arms.of(arm, "A", part)
            figure = f"{arms.mse[arm][part]:.4f}"
            cells.append(Text(figure if against is None else f"{figure}\n{against.relative:+.1%}"))
        table.add_row(Text.assemble((f"{arm} {translated(ARMS[arm])}", "bold"), "\n", (name, "dim")), *cells)
    return table
