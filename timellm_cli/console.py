"""The two streams: results on stdout, progress and logs on stderr. Light.

Nothing printed is taken for markup, for the names of files and columns may hold brackets and colons.
"""

import json
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.text import Text

out = Console(markup=False, emoji=False, highlight=False)
err = Console(stderr=True, markup=False, emoji=False, highlight=False)


def print_json(content: dict[str, Any]) -> None:
    """The one object that `--json` promises, on stdout."""
    print(json.dumps(content, indent=2, ensure_ascii=False))


def say(text: str) -> None:
    """One line about what happens now, on stderr."""
    err.print(Text(text), soft_wrap=True)


def say_now_and_then(sentence: Callable[[int], str], seconds: float = 10.0) -> Callable[[int], None]:
    """Takes the place of a bar where stderr is no terminal: call it with each count, and it says few of them."""
    last = time.monotonic()

    def update(count: int) -> None:
        nonlocal last
        if time.monotonic() - last >= seconds:
            last = time.monotonic()
            say(sentence(count))

    return update


def print_note(note: str) -> None:
    """What a reader of the results has to know, on stderr."""
    err.print(Text(f"note: {note}", style="yellow"), soft_wrap=True)
