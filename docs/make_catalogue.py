"""Brings the catalogue of messages up to date with the sources: python docs/make_catalogue.py

New messages get an entry without a translation, and those that are gone are removed. A translation is kept where only a
placeholder's name has changed. Entries stand in the order of the files, so that branches seldom meet.
"""

import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

from extract_templates import EDGES, is_message, templates_of, words_of  # noqa: E402

from timellm_cli.lang.po import catalogue_path, escape, unescape  # noqa: E402
from timellm_cli.lang.templates import PLACE  # noqa: E402

PACKAGE = ROOT / "timellm_cli"
CATALOGUE = catalogue_path()
BY_HAND = "(by hand)"
"""Where messages stand that no template is found for: those of Typer, and numbers with a noun that a table holds."""

HEAD = r"""# Messages of timellm in Chinese. `python docs/make_catalogue.py` adds new messages and removes old ones.
# Kinds of placeholders: n a number, s a size or a duration, d a date, q shown as it is, l a list, w perhaps a word of
# this file; without one, a message.
# A single word is added by hand, and stays while a source has it. What stands under "(by hand)" stays always.
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
    r"|^--[\w-]+ (\{?\w+(:\w)?\}?)+$|^\S*\.\{\w+(:\w)?\}\S*$|^\{\w+(:\w)?\}\S*\.\w+$"
    r"|^[\w.-]*-?\{\w+(:\w)?\}([-_.][\w{}:.]*)*$|^pip install [^(]*$|<\|start_prompt|^\w+ = |^# "
)
"""Texts that no console shows as a message: patterns, types, styles, names of files and tensors, commands, TOML."""
NO_MESSAGE = {
    "bold", "Value error", "old flag | what became of it", "CC BY 4.0", "CC BY-ND 4.0", "GBK (GB18030)",
    "{size:n} GiB", "{size:n} MiB", "{size:n} KiB", "timellm {version:q}", "timellm {get}", "timellm/{version:q}",
    "{package}=={version:q} --hash=sha256:{sha256}", "--gpu-architecture={architecture}", "nvrtc64_{major}0_0.dll",
    "an ordinary day", "public holiday", "exchange holiday", "A week earlier", "{when}: something", "hour ending",
    "{length} days from {dated}", "date value out of range", "no cadence: {text:q}", "no step: {micros}",
    "DejaVu Sans", "Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "Microsoft YaHei", "PingFang SC",
    "Hiragino Sans GB", "WenQuanYi Micro Hei", "Arial Unicode MS", "Last Resort", "model-1 band-{number:q}",
    "outside upper right",
    "pip: {line:n}", "{ranks} {weekdays} of the {name:q}",
    "Measurements taken at equal steps of time.", "A run of timellm", "A profile of timellm",
}  # fmt: skip
"""Units, names, fonts and licences; texts for files, for the hub and for the LLM, which stay English."""
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
    """An entry for each message of the sources, by its English, in the order of the files.

    Templates that differ in the names of their placeholders alone are one entry, with the names of the first.
    """
    entries: dict[str, Entry] = {}
    by_shape: dict[str, Entry] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if name.startswith(WRITTEN):
            continue
        for template in templates_of(path):
            if template not in NO_MESSAGE and not NOT_SHOWN.search(template):
                entry = by_shape.setdefault(_shape(template), Entry(template))
                entries.setdefault(entry.english, entry).files.append(name)
    for path in sorted((ROOT / "profiles").glob("*.toml")):
        summary = path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
        entries.setdefault(summary, Entry(summary)).files.append(f"profiles/{path.name}")
    for english in _old_flags():
        entries.setdefault(english, Entry(english)).files.append("old_flags.toml")
    return entries


def _old_flags() -> Iterator[str]:
    """What became of the original's flags, but for those that are only another option."""
    for flag in tomllib.loads((PACKAGE / "old_flags.toml").read_text(encoding="utf-8"))["flag"]:
        text = flag.get("became") or flag.get("no_use", "")
        if not re.fullmatch("`[^`]*`|", text):
            yield text


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
    translated = {entry.english: entry for entry in old if entry.translated}
    by_shape = {shape(english): entry for english, entry in translated.items() for shape in (_bare, _shape)}
    for entry in entries.values():
        shapes = _shape(entry.english), _bare(entry.english)
        if before := translated.get(entry.english) or by_shape.get(shapes[0]) or by_shape.get(shapes[1]):
            entry.translated = _renamed(before, entry.english)
    for entry in old:
        if (
            entry.english in entries
            or not entry.translated
            or (is_message(entry.english) and entry.files[:1] != [BY_HAND])
        ):
            continue
        files = [name for name in entry.files if name == BY_HAND or _has(name, entry.english)]
        if files:
            entries[entry.english] = Entry(entry.english, files, entry.translated)
    ordered = sorted(entries.values(), key=lambda entry: (entry.files[0] == BY_HAND, entry.files[0]))
    return HEAD + "".join(f"\n{_written(entry)}" for entry in ordered)


def _has(name: str, word: str) -> bool:
    path = PACKAGE / name
    return path.is_file() and word in {text.strip(EDGES) for text in words_of(path)}


def _written(entry: Entry) -> str:
    lines = [f"#: {name}\n" for name in entry.files[:3]]
    return "".join(lines) + f'msgid "{escape(entry.english)}"\nmsgstr "{escape(entry.translated)}"\n'


def _shape(template: str) -> str:
    """A template without the names of its placeholders; one that is named twice keeps its place."""
    names = list(dict.fromkeys(match[1] for match in PLACE.finditer(template)))
    return PLACE.sub(lambda match: f"{{{names.index(match[1])}:{match[2] or ''}}}", template)


def _bare(template: str) -> str:
    """A template without the kinds of its placeholders."""
    return re.sub(r"\{(\d+):\w?\}", r"{\1}", _shape(template))


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
