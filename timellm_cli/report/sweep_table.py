"""The values of a sweep, a line each, as a table and as plain data. Light."""

from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Group
from rich.text import Text

from timellm_cli.console import as_is
from timellm_cli.planning.plan import Swept
from timellm_cli.report.inspect_tables import figures_table, fits_or_not
from timellm_cli.units import format_duration, format_memory

_SWEPT: dict[str, Callable[[Any], str]] = {
    "total": format_memory, "largest_batch": "{:,}".format, "steps_per_epoch": "{:,}".format, "epoch": format_duration,
}  # fmt: skip
_IMPOSSIBLE = Text("cannot be", style="red")


def sweep_table(key: str, swept: Sequence[Swept]) -> Group:
    """A line for each value of a key; below, whether largest batches need `recompute`, and why a value cannot be."""
    table = figures_table(f" {key}", "total", "largest\nbatch", "steps/\nepoch", "time/\nepoch")
    table.add_column("", no_wrap=True)
    for line in swept:
        record = _record(line)
        cells = ("-" if record[name] is None else show(record[name]) for name, show in _SWEPT.items())
        known = fits_or_not(record["fits"]) if record["total"] is not None else Text("not known", style="dim")
        table.add_row(as_is(f" {line.value}"), *cells, known if line.plan else _IMPOSSIBLE)
    memories = [line.plan.memory for line in swept if line.plan and line.plan.memory]
    recomputed = any((memory.largest_batch or 0) > (memory.largest_keeping or 0) > 0 for memory in memories)
    note = [Text(" largest batch: with recompute, where that gives more", style="dim")] if recomputed else []
    faults = [Text(f" {line.value}: {line.fault}", style="red") for line in swept if line.fault]
    return Group(table, *note, *faults)


def sweep_record(key: str, swept: Sequence[Swept]) -> dict[str, Any]:
    """The object of `inspect --sweep --json`: memory in bytes, an epoch in seconds, null for what is not known."""
    return {"key": key, "values": [_record(line) for line in swept]}


def _record(line: Swept) -> dict[str, Any]:
    memory = line.plan.memory if line.plan else None
    time = line.plan.time if line.plan else None
    return {
        "value": line.value,
        "total": memory.bill.total if memory else None,
        "fits": memory.fits if memory else None,
        "largest_batch": memory.largest_batch if memory else None,
        "steps_per_epoch": line.plan.counts.steps_per_epoch if line.plan else None,
        "epoch": time.epoch if time else None,
        "fault": line.fault or None,
    }
