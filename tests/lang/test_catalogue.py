"""The catalogue has every message of the sources, each with a translation that has the same placeholders."""

import re
import sys

from tests.conftest import REPOSITORY
from timellm_cli.lang.templates import PLACE

sys.path.insert(0, str(REPOSITORY / "docs"))

from make_catalogue import CATALOGUE, read, updated

TEXT = CATALOGUE.read_text(encoding="utf-8")
ENTRIES = read(TEXT)


def test_the_catalogue_is_that_of_the_sources() -> None:
    assert updated(TEXT) == TEXT, "run: python docs/make_catalogue.py"


def test_every_message_has_a_translation() -> None:
    missing = [entry for entry in ENTRIES if not entry.translated]
    assert [f"{entry.files[0]}: {entry.english}" for entry in missing] == []


def test_both_sides_have_the_same_placeholders_options_and_commands() -> None:
    faults = [
        entry.english for entry in ENTRIES if entry.translated and _parts(entry.english) != _parts(entry.translated)
    ]
    assert faults == []


def _parts(text: str) -> list[list[str]]:
    """The names of placeholders, each once; options, commands, variables and addresses."""
    plain = PLACE.sub("{}", text)
    patterns = (r"--[a-z][\w-]+", r"`[^`]*`", r"\b[A-Z]+_[A-Z_]+\b", r"https?://[\w./-]+")
    names = sorted({match[1] for match in PLACE.finditer(text)})
    return [names, *(sorted(re.findall(pattern, plain, re.ASCII)) for pattern in patterns)]


def test_what_is_gone_is_removed_and_what_is_new_gets_an_empty_entry() -> None:
    stale = TEXT + '\n#: errors.py\nmsgid "nobody says {this:q} any more"\nmsgstr "没有了 {this}"\n'
    assert updated(stale) == TEXT
    entry = re.search(r'#: errors.py\nmsgid "check the path and its permissions"\nmsgstr ".*"\n\n', TEXT)
    assert entry and updated(TEXT.replace(entry[0], "")) == TEXT.replace(
        entry[0], re.sub('msgstr ".*"', 'msgstr ""', entry[0])
    )


def test_a_renamed_placeholder_keeps_the_translation() -> None:
    line = "msgid \"did you mean '{by_lower:q}'?\""
    assert line in TEXT
    before = re.sub(re.escape(line) + r'\nmsgstr ".*"', line.replace("by_lower", "old") + '\nmsgstr "“{old}”？"', TEXT)
    assert line + '\nmsgstr "“{by_lower}”？"' in updated(before)
