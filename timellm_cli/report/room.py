"""What memory a run takes with other settings: the changes that buy room, and the values of a sweep. Light."""

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from timellm_cli.planning.savings import Saving
from timellm_cli.planning.sweep import Swept
from timellm_cli.units import format_duration, format_memory

_LITTLE = 0.02
"""A share of the memory that is not worth another setting."""


def savings_table(savings: Sequence[Saving]) -> Group:
    """A line for each change, with what it leaves and costs."""
    table = _table(" change", "total", "largest\nbatch", "time a\nsample")
    for saving in savings:
        largest = "-" if saving.largest_batch is None else f"{saving.largest_batch:,}"
        time = f"x {saving.time:.2f}"
        table.add_row(f" {saving.flags}", format_memory(saving.total), largest, time, _worth(saving))
    others = [saving.flags.split()[0] for saving in savings if not saving.same_model]
    note = [Text(f" {', '.join(others)}: another model", style="dim")] if others else []
    return Group(table, *note)


def _worth(saving: Saving) -> Text:
    if saving.total > (1 - _LITTLE) * saving.before:
        return Text("helps little", style="dim")
    return _verdict(saving.fits)


def sweep_table(key: str, swept: Sequence[Swept]) -> Group:
    """A line for each value of a key; what keeps values from having one; whether largest batches are recomputed."""
    table = _table(f" {key}", "total", "largest\nbatch", "steps an\nepoch", "an epoch\ntakes")
    for line in swept:
        plan = line.plan
        if plan is None:
            table.add_row(f" {line.value}", "-", "-", "-", "-", Text("cannot be", style="red"))
            continue
        memory, time = plan.memory, plan.time
        table.add_row(
            f" {line.value}",
            format_memory(memory.bill.total) if memory else "-",
            f"{memory.largest_batch:,}" if memory and memory.largest_batch is not None else "-",
            f"{plan.geometry.steps_per_epoch:,}",
            format_duration(time.epoch) if time else "-",
            _verdict(memory.fits if memory else None),
        )
    memories = [line.plan.memory for line in swept if line.plan and line.plan.memory]
    recomputed = any((memory.largest_batch or 0) > (memory.largest_keeping or 0) > 0 for memory in memories)
    note = [Text(" largest batch: with recompute, where that gives more", style="dim")] if recomputed else []
    faults = [Text(f" {line.value}: {line.fault}", style="red") for line in swept if line.fault]
    return Group(table, *note, *faults)


def _verdict(fits: bool | None) -> Text:
    if fits is None:
        return Text("")
    return Text("fits", style="green") if fits else Text("does not fit", style="red")


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
        "steps_per_epoch": line.plan.geometry.steps_per_epoch if line.plan else None,
        "epoch": time.epoch if time else None,
        "fault": line.fault or None,
    }


def _table(first: str, *others: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False)
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    return table
