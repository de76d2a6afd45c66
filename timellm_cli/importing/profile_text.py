"""A TOML profile from what an old command means: each value with the flag it came from. Light."""

import re
import textwrap
from collections.abc import Iterator

import tomli_w

from timellm_cli.config import FIELDS, SECTIONS
from timellm_cli.importing.commands import OldCommand
from timellm_cli.importing.translate import Translation

_WIDTH = 100


def profile_text(command: OldCommand, translation: Translation) -> str:
    """The profile of a command, to be read with `--config`."""
    lines = textwrap.wrap(f"From: {command.text}", _WIDTH, initial_indent="# ", subsequent_indent="#   ")
    for note in translation.notes:
        lines += textwrap.wrap(f"Note: {note}.", _WIDTH, initial_indent="# ", subsequent_indent="#   ")
    for section in SECTIONS:
        entries = list(_entries(section, translation))
        lines += ["", f"[{section}]", *entries] if entries else []
    return "\n".join(lines) + "\n"


def _entries(section: str, translation: Translation) -> Iterator[str]:
    values = {**translation.left_open, **translation.values}
    for key in FIELDS:
        if key.startswith(f"{section}.") and key in values:
            text = tomli_w.dumps({key.split(".")[1]: values[key]}).strip()
            yield f"{text}  # {_origin(key, translation)}"


def _origin(key: str, translation: Translation) -> str:
    sources = [one.argument for one in translation.outcomes if one.key == key]
    if not sources:
        return "the original's default" if key in translation.left_open else "follows from the others"
    comments = [f'"{one.comment}"' for one in sources if one.comment]
    return "; ".join([", ".join(f"--{one.name}" for one in sources), *dict.fromkeys(comments)])


def file_name(command: OldCommand, taken: set[str]) -> str:
    """A name for the profile of a command: its model_id, else data and lengths; another number where it is taken."""
    given = {one.name: one.value for one in command.arguments if one.value}
    parts = [given.get(name, "") for name in ("data", "seq_len", "pred_len")]
    stem = given.get("model_id") or "_".join(filter(None, parts)) or "imported"
    stem = re.sub(r"[^\w.-]+", "_", stem).strip("._") or "imported"
    names = (stem if number == 1 else f"{stem}_{number}" for number in range(1, len(taken) + 2))
    return next(f"{name}.toml" for name in names if f"{name}.toml" not in taken)
