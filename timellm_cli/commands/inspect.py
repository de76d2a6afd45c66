"""`timellm inspect`: what a run will be before it starts. Light: no weights, no torch, no network."""

import atexit
import gc
from functools import partial
from typing import Any

from timellm_cli.console import out, print_json
from timellm_cli.data.guess import settle
from timellm_cli.errors import ConfigError
from timellm_cli.planning.hardware import Card, find_card, look_at_machine
from timellm_cli.planning.plan import Plan, make_plan, parse_sweep, plan_swept
from timellm_cli.planning.shared import USUAL_NETWORK
from timellm_cli.report.inspect_json import plan_record
from timellm_cli.report.inspect_tables import plan_tables, shown_lines, shown_prompt
from timellm_cli.report.sweep_table import sweep_record, sweep_table
from timellm_cli.settings import Settings


def run(
    settings: Settings,
    *,
    card: str | None,
    swept: str | None,
    as_json: bool,
    explain: bool,
    show_prompt: bool,
    show_patches: bool = False,
    processes: int = 1,
    network: str = USUAL_NETWORK,
) -> None:
    """Plan the run and print it: as tables, in words, with a prompt, with patches, or as one JSON object.

    `swept` is a key with several values; each is planned and printed as one line.

    `card` is the name of one to plan for. What is missing is said, and is no error. Raises DataError where nothing can
    be counted, ConfigError for a card that is not known or has a memory of its own beside it.
    """
    # On the way out the collector would walk every object once more: a fifth of this command's time.
    atexit.register(gc.freeze)
    planned_for = _find_card(card, settings) if card is not None else None
    settings = settle(settings)
    machine = look_at_machine()
    if swept is not None:
        key, values = parse_sweep(swept)
        make = partial(
            make_plan, machine=machine, from_file=False, card=planned_for, processes=processes, network=network
        )
        lines = [plan_swept(settings.config, key, value, make) for value in values]
        print_json(sweep_record(key, lines)) if as_json else out.print(sweep_table(key, lines))
        return
    reads_first = show_prompt or show_patches
    plan = make_plan(settings.config, machine, reads_first, planned_for, explain, settings.notes, processes, network)
    if as_json:
        print_json(_record(plan, explain, show_patches))
        return
    out.print(plan_tables(plan))
    if explain:
        from timellm_cli.report.inspect_explain import explanation

        out.print(explanation(plan))
    if show_prompt:
        out.print(shown_prompt(plan))
        if plan.ahead:
            out.print(shown_lines(plan))
    if show_patches:
        from timellm_cli.report.inspect_patches import shown_patches

        out.print(shown_patches(plan))


def _record(plan: Plan, explain: bool, show_patches: bool) -> dict[str, Any]:
    """The plan as one object, with the answers and the patches where they are asked for."""
    record = plan_record(plan)
    if explain:
        from timellm_cli.report.inspect_answers import answers

        record["answers"] = [{"question": question, "answer": " ".join(text)} for question, text in answers(plan)]
    if show_patches:
        from timellm_cli.report.inspect_patches import patches_record

        record |= patches_record(plan)
    return record


def _find_card(name: str, settings: Settings) -> Card:
    card = find_card(name)
    if settings.origins["hardware.vram"] in ("flag", "--set"):
        vram = settings.config.hardware.vram
        raise ConfigError(f"--gpu {name} and --vram {vram} both say what memory to plan for", "give one of them")
    return card
