"""Brings the catalogue of messages up to date with the sources: python docs/make_catalogue.py

New messages get an entry without a translation, and those that are gone are removed. A translation is kept where only a
placeholder's name has changed. Entries stand in the order of the files, so that branches seldom meet.
"""

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

from extract_templates import is_message, templates_of, words_of  # noqa: E402

from timellm_cli.lang.po import catalogue_path, escape, unescape  # noqa: E402
from timellm_cli.lang.templates import PLACE  # noqa: E402

PACKAGE = ROOT / "timellm_cli"
CATALOGUE = catalogue_path()
TYPER = "Typer's own"
"""Where messages of the library stand that parses the command line. They are written by hand."""

HEAD = r"""# Messages of timellm in Chinese. `python docs/make_catalogue.py` adds new messages and removes old ones.
# Kinds of placeholders: n a number, q shown as it is, l a list, w perhaps a word of this file; else a message.
# A single word, and what stands under "Typer's own", is added by hand, and stays while a source has it.
msgid ""
msgstr ""
"Language: zh_CN\n"
"Content-Type: text/plain; charset=UTF-8\n"
"Content-Transfer-Encoding: 8bit\n"
"Plural-Forms: nplurals=1; plural=0;\n"
"""

NOT_SHOWN = re.compile(
    r"\\[sdw]|\(\?|^https?://|^\S+\|\S|^\S+ \| \S+( \| None)?$|^(tuple|np)[.\[]|^bold \w+$"
    r"|^timellm (eval|fetch|import|init|inspect|m4|predict|profiles|pull|push|runs|doctor|train)( [^;,:]*)?$"
    r"|^--[\w-]+ \{?\w+(:\w)?\}?$|^\S*\.\{\w+(:\w)?\}\S*$|^\{\w+(:\w)?\}\S*\.\w+$"
    r"|^[\w.-]*-?\{\w+(:\w)?\}([-_.][\w{}:.]*)*$|^pip install [^(]*$|<\|start_prompt|^\w+ = |^# "
)
"""Texts that no console shows as a message: patterns, types, styles, names of files and tensors, commands, TOML."""
WRITTEN = (
    "lang/", "report/html_report.py", "report/model_card.py", "planning/first_profile.py", "importing/profile_text.py",
)  # fmt: skip
"""Sources whose texts go into files, which stay English."""


@dataclass
class Entry:
    """One message: the files it is in, and its translation."""

    english: str
    files: list[str] = field(default_factory=list)
    translated: str = ""


def wanted() -> dict[str, Entry]:
    """An entry for each message of the sources, by its English, in the order of the files."""
    entries: dict[str, Entry] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if name.startswith(WRITTEN):
            continue
        for template in templates_of(path):
            if not NOT_SHOWN.search(template):
                entries.setdefault(template, Entry(template)).files.append(name)
    return entries


def read(text: str) -> list[Entry]:
    """The entries of a catalogue's text."""
    entries = []
    for block in text.split("\n\n")[1:]:
        pair = re.search(r'^msgid "(.*)"\nmsgstr "(.*)"$', block, re.MULTILINE)
        if pair:
            files = re.findall(r"^#: (.+)$", block, re.MULTILINE)
            entries.append(Entry(unescape(pair[1]), files, unescape(pair[2])))
    return entries


def updated(text: str) -> str:
    """The catalogue's text, brought up to date."""
    entries, old = wanted(), read(text)
    by_shape = {_shape(entry.english): entry for entry in old if entry.translated}
    for entry in entries.values():
        if before := by_shape.get(_shape(entry.english)):
            entry.translated = _renamed(before, entry.english)
    for entry in old:
        if (
            entry.english in entries
            or not entry.translated
            or (is_message(entry.english) and entry.files[:1] != [TYPER])
        ):
            continue
        files = [name for name in entry.files if name == TYPER or _has(name, entry.english)]
        if files:
            entries[entry.english] = Entry(entry.english, files, entry.translated)
    ordered = sorted(entries.values(), key=lambda entry: (entry.files[0] == TYPER, entry.files[0]))
    return HEAD + "".join(f"\n{_written(entry)}" for entry in ordered)


def _has(name: str, word: str) -> bool:
    path = PACKAGE / name
    return path.is_file() and word in words_of(path)


def _written(entry: Entry) -> str:
    lines = [f"#: {name}\n" for name in entry.files[:3]]
    return "".join(lines) + f'msgid "{escape(entry.english)}"\nmsgstr "{escape(entry.translated)}"\n'


def _shape(template: str) -> str:
    return PLACE.sub("{}", template)


def _renamed(before: Entry, english: str) -> str:
    """The old translation with the new names of the placeholders."""
    old, new = ([match[1] for match in PLACE.finditer(text)] for text in (before.english, english))
    names = dict(zip(old, new, strict=True))
    return PLACE.sub(lambda match: f"{{{names.get(match[1], match[1])}}}", before.translated)


if __name__ == "__main__":
    text = CATALOGUE.read_text(encoding="utf-8") if CATALOGUE.is_file() else ""
    CATALOGUE.write_text(updated(text), encoding="utf-8", newline="\n")
    left = [entry for entry in read(CATALOGUE.read_text(encoding="utf-8")) if not entry.translated]
    print(f"wrote {CATALOGUE.relative_to(ROOT)}: {len(left)} messages have no translation")
