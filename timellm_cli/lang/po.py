"""Reads a gettext catalogue (.po) whose texts stand on one line each, as docs/make_catalogue.py writes them. Light."""

import re
from collections.abc import Iterator
from pathlib import Path

_ESCAPE = re.compile(r"\\(.)")
_SIGNS = {"n": "\n", "t": "\t"}


def catalogue_path(language: str = "zh_CN") -> Path:
    """The file of a language."""
    return Path(__file__).parent / language / "LC_MESSAGES" / "timellm.po"


def read_pairs(path: Path) -> Iterator[tuple[str, str]]:
    """Each English template that has a translation, with it."""
    for block in path.read_text(encoding="utf-8").split('\nmsgid "')[1:]:
        english, _, rest = block.partition('"\nmsgstr "')
        translated = rest.partition('"\n')[0]
        if english and translated and not rest.startswith('"'):
            yield unescape(english), unescape(translated)


def unescape(text: str) -> str:
    """The text behind what stands in a .po file."""
    return _ESCAPE.sub(lambda match: _SIGNS.get(match[1], match[1]), text) if "\\" in text else text


def escape(text: str) -> str:
    """The text as it stands in a .po file."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
