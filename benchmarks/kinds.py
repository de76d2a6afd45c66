"""Count the kinds of files (tests/data/kinds.py) that are read, before and after a change.

    python benchmarks/kinds.py [--before CHECKOUT]

Each kind is read as `train` reads it: options to a configuration, date column and target, table, next timestamp.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent

READ, REFUSED, UNCLEAR = "read", "refused clearly", "refused unclearly"
NEEDLESS, WRONG = "refused needlessly", "wrong in part or a traceback"


def all_kinds() -> list[Any]:
    """The catalogue of this checkout, whatever checkout Python imports."""
    spec = spec_from_file_location("kinds", ROOT / "tests" / "data" / "kinds.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules["kinds"] = module
    spec.loader.exec_module(module)
    kinds: list[Any] = module.KINDS
    return kinds


def outcome(kind: Any, folder: Path) -> tuple[str, str]:
    """What became of a kind, and what was said or found instead of the right answer."""
    from timellm_cli.errors import TimellmError

    path = folder / f"file{kind.ending}"
    path.write_bytes(kind.content)
    try:
        found = read(path, kind.options)
    except TimellmError as error:
        said = f"{error.message} | {error.hint}"
        clear = REFUSED if kind.refused in said else UNCLEAR
        return clear if kind.refused else NEEDLESS, said
    except Exception as error:
        return WRONG, f"{type(error).__name__}: {error}"
    fault = _fault(kind, *found)
    return (WRONG, fault) if fault else (READ, "")


def _fault(kind: Any, after: str, last: float, notes: str) -> str:
    """What is wrong with what was read; empty where all is right."""
    if kind.refused:
        return f"read, and continued at {after}"
    if after != kind.next:
        return f"continued at {after}, not at {kind.next}"
    if kind.last is not None and abs(last - kind.last) > 1e-9:
        return f"the last value is {last}, not {kind.last}"
    return "" if kind.note in notes else f"not said: {kind.note}; {notes}"


def read(path: Path, options: dict[str, Any]) -> tuple[str, float, str]:
    """The next timestamp, the target's last value, and the notes. Raises TimellmError."""
    from timellm_cli.data.cadence import continue_stamps
    from timellm_cli.settings import resolve

    try:
        from timellm_cli.data.read_table import read_table
    except ImportError:  # where it stood before
        from timellm_cli.data.table import read_table

    flags = {f"data.{key}": str(value) for key, value in options.items()}
    settings = resolve(None, None, {"data.dataset": "custom", "data.path": path, **flags})
    notes: tuple[str, ...] = ()
    try:
        from timellm_cli.data.guess import settle
    except ImportError:  # before, date column and target had to be named
        pass
    else:
        settings = settle(settings)
        notes = settings.notes
    data = settings.config.data
    table = read_table(path, data)
    after = table.style.write(continue_stamps(table.stamps[-1], table.cadence, 1)[0])
    return after, table.frame[table.columns[-1]][-1], "\n".join((*notes, *table.notes))


def count_all() -> dict[str, tuple[str, str]]:
    """The outcome of every kind in the checkout that Python imports."""
    with tempfile.TemporaryDirectory() as folder:
        return {kind.name: outcome(kind, Path(folder)) for kind in all_kinds()}


def count_in(checkout: Path) -> dict[str, tuple[str, str]]:
    """As `count_all`, in another checkout."""
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    finished = subprocess.run(
        [sys.executable, __file__, "--json"], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    )
    return {name: tuple(found) for name, found in json.loads(finished.stdout).items()}


def main() -> None:
    """Print a Markdown table of all kinds, and the totals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, help="a checkout of an earlier version")
    parser.add_argument("--json", action="store_true", help="print outcomes alone")
    arguments = parser.parse_args()
    if arguments.json:
        print(json.dumps(count_all()))
        return
    kinds = all_kinds()
    columns = {"before": count_in(arguments.before)} if arguments.before else {}
    columns["after"] = count_in(ROOT)
    print(f"| kind | command | {' | '.join(columns)} |\n|{'---|' * (2 + len(columns))}")
    for kind in kinds:
        outcomes = " | ".join(found[kind.name][0] for found in columns.values())
        print(f"| {kind.name} | `{kind.command}` | {outcomes} |".replace("--thousands '|'", "--thousands '\\|'"))
    print(f"\n| of {len(kinds)} kinds | {' | '.join(columns)} |\n|{'---|' * (1 + len(columns))}")
    for what in (READ, REFUSED, UNCLEAR, NEEDLESS, WRONG):
        totals = [sum(one[0] == what for one in found.values()) for found in columns.values()]
        print(f"| {what} | {' | '.join(map(str, totals))} |")
    print("\nNot as it should be after:")
    for name, (what, said) in columns["after"].items():
        if what not in (READ, REFUSED):
            print(f"- {name}: {what}: {said}")


if __name__ == "__main__":
    main()
