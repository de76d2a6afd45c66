"""Writes docs/options.md from the command line itself: python docs/make_options.py"""

import re
import sys
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

PAGE = Path(__file__).with_name("options.md")
sys.path.insert(0, str(PAGE.parents[1]))

HEAD = """# Every option

This page is written by `python docs/make_options.py` from the command line itself. `timellm VERB --help-all` shows the same.
A value in square brackets is the default. Every key of a configuration is an option, too, and has the same name.
"""  # noqa: E501


def verbs() -> dict[str, Any]:
    """Each command by its words, such as 'profiles show'; '' is `timellm` itself."""
    import typer

    from timellm_cli.cli import app

    group: Any = typer.main.get_command(app)
    found = {"": group}
    for name, command in group.commands.items():
        found[name] = command
        found |= {f"{name} {inner}": one for inner, one in getattr(command, "commands", {}).items()}
    return found


def options_page() -> str:
    """The page: the options of each verb, then those of the configuration, by its sections."""
    parts: list[str] = [HEAD]
    sections: dict[str, dict[str, tuple[Any, list[str]]]] = {}
    for name, command in verbs().items():
        own = []
        for one in command.params:
            if one.param_type_name == "argument" or getattr(one, "hidden", False):
                continue
            panel = getattr(one, "rich_help_panel", None)
            if panel:
                sections.setdefault(panel, {}).setdefault(_names(one), (one, []))[1].append(name)
            else:
                own.append(f"| {_names(one)} | {_values(one)} | {_text(one)} |")
        parts.append(f"## `{f'timellm {name}'.strip()}`\n\n{_first(command.help)}\n")
        parts.append(_table("option | values | what", own) if own else "It has no options of its own.\n")
    for panel, entries in sections.items():
        rows = [
            f"| {names} | {_values(one)} | {_text(one)} | {', '.join(used)} |" for names, (one, used) in entries.items()
        ]
        parts.append(f"## Section `{panel}`\n\n" + _table("option | values | what | of", rows))
    return "\n".join(parts)


def _table(head: str, rows: list[str]) -> str:
    return f"| {head} |\n|{'---|' * (head.count('|') + 1)}\n" + "\n".join(rows) + "\n"


def _names(option: Any) -> str:
    return ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))


def _values(option: Any) -> str:
    if getattr(option, "is_flag", False):
        return ""
    wanted = option.type_descriptor.annotation
    choices = "|".join(get_args(wanted)) if get_origin(wanted) is Literal else ""
    shown = option.metavar or choices or {int: "NUMBER", float: "NUMBER", Path: "FILE"}.get(wanted, "TEXT")
    return f"`{shown}`".replace("|", "\\|")


def _text(option: Any) -> str:
    return re.sub(r"\s+", " ", option.help or "").strip().replace("\\[", "[").replace("|", "\\|").replace("<", "&lt;")


def _first(text: str | None) -> str:
    return re.sub(r"\s+", " ", text or "").strip().replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(options_page(), encoding="utf-8", newline="\n")
    print(f"wrote {PAGE.name}")
