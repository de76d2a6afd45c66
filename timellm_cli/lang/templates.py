"""English templates: from a text to the parts that were put into it. Light.

A placeholder is a name and a kind: `{rows:n}` is a number, `{size:s}` a size or a duration, `{first:d}` a date,
`{path:q}` is shown as it is, `{names:l}` is a list such as 'a, b and 7 more', `{noun:w}` may be a single word of the
catalogue, and `{why}` is a message of its own.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

PLACE = re.compile(r"\{([a-z_]\w*)(?::([nqlwsd]))?\}", re.IGNORECASE)
_KINDS = re.compile(r":[nqlwsd]\}")
_WORD = re.compile(r"\w*\{\w+(?::[nqlwsd])?\}\w*|([A-Za-z]+)")
_NUMBER = r"[-+]?[\d.,]*\d(?:e[-+]?\d+)?%?|[-+]?(?:nan|inf)%?"
_SIZE = r"[\d.,]+ [KMG]iB|(?:\d+ days?, )?\d+:\d\d:\d\d"
_DATE = r"\d[\d:./T Z+年月日季-]*"
_ANY = {"n": _NUMBER, "s": _SIZE, "d": _DATE, "q": r"[^\n]+?", "l": r"[^\n]+?", "w": ".*?", "": ".*?"}


@dataclass(frozen=True)
class Part:
    """What a placeholder stood for, and its kind."""

    name: str
    kind: str
    text: str


class Template:
    """One entry with placeholders."""

    def __init__(self, english: str, translated: str) -> None:
        self.english, self.translated = english, translated
        first, last = english.find("{"), english.rfind("}")
        self.head, self.tail = english[:first], english[last + 1 :]

    @property
    def anchor(self) -> str:
        """A word that is in every text of this template; empty where there is none."""
        whole = [*self.head.rpartition(" ")[0].split(" "), *self.tail.partition(" ")[2].split(" ")]
        words = [word for word in whole if word.isalpha() and word.isascii()]
        return max(words or _WORD.findall(self.english), key=len, default="")

    @cached_property
    def weight(self) -> int:
        """How many letters are its own: the more, the surer a match is."""
        return len(PLACE.sub("", self.english))

    @cached_property
    def pairs(self) -> list[tuple[str, str]]:
        """Placeholders that follow each other, where only the catalogue can tell where one ends."""
        places = list(PLACE.finditer(self.english))
        return [(one[1], other[1]) for one, other in pairwise(places) if one.end() == other.start()]

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        parts, end, taken = [], 0, set[str]()
        for match in PLACE.finditer(self.english):
            parts.append(re.escape(self.english[end : match.start()]))
            name, end = match[1], match.end()
            some = _ANY[match[2] or ""]
            if self.english[end : end + 1] == "{" and match[2] in ("q", "l"):  # what follows may be nothing
                some = some.removesuffix("?")
            parts.append(f"(?P={name})" if name in taken else f"(?P<{name}>{some})")
            taken.add(name)
        return re.compile("".join([*parts, re.escape(self.english[end:])]), re.DOTALL)

    def match(self, text: str) -> list[Part] | None:
        """The parts of a text of this template, else None."""
        if not (text.startswith(self.head) and text.endswith(self.tail)):
            return None
        found = self._pattern.fullmatch(text)
        if found is None:
            return None
        kinds = {match[1]: match[2] or "" for match in PLACE.finditer(self.english)}
        return [Part(name, kinds[name], value) for name, value in found.groupdict().items()]


class Templates:
    """All entries, found by a word they must have."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self.exact: dict[str, str] = {}
        self._by_word: dict[str, list[Template]] = {}
        for english, translated in pairs:
            bare, shown = without_stop(english), translated.removesuffix("。")
            if shown.isascii() and _KINDS.sub("}", bare) == shown:
                continue  # the same in both languages explains nothing
            if "{" in bare:
                template = Template(bare, shown)
                self._by_word.setdefault(template.anchor, []).append(template)
            else:
                self.exact[bare] = shown

    def find(self, text: str) -> Iterator[tuple[Template, list[Part]]]:
        """The templates that can give this text, with its parts."""
        for template in self._candidates(text):
            if (parts := template.match(text)) is not None:
                yield template, parts

    def _candidates(self, text: str) -> Iterator[Template]:
        for word in {"", *re.findall("[A-Za-z]+", text)}:
            yield from self._by_word.get(word, ())


def without_stop(text: str) -> str:
    """Without the full stop of a sentence, so that it is found with and without."""
    return text[:-1] if text.endswith(".") and not text.endswith("..") else text
