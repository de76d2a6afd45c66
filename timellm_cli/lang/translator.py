"""From an English text to Chinese: the whole, else its sentences; what is no message stays as it is. Light.

Of several ways to read a text, the one wins that explains most of its letters: those of the catalogue's own words, and,
a little less, those of names and numbers in their places.
"""

import re
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from timellm_cli.lang.po import catalogue_path, read_pairs
from timellm_cli.lang.templates import PLACE, Part, Template, Templates, without_stop

_EDGES = re.compile(r"([\s;,:.|]*(?:- )?)(.*?)([\s;,:|]*)", re.DOTALL)
_BREAKS = re.compile(r"[;.:,]\s+|\s\|\s|\s\s+|\s(?=[(\[])")
_QUOTED = re.compile(r"(?<!\w)'[^'\n]*'(?!\w)|`[^`\n]*`")
_NAME = re.compile(r"(?<!\w)'([^'\n]*[\s;,:.(][^'\n]*)'(?!\w)")
"""A name in quotation marks that could be read as a sentence: it is hidden before messages are looked for."""
_FIRST_PLACE = 0xE000
_PLACES = re.compile("[\ue000-\uf8ff]")
"""Letters for private use, which stand for hidden names."""
_SENTENCE_ENDS = re.compile(r"\n|\. ")
_SIGNS = {";": "；", ",": "，", ":": "：", ".": "。"}
_MORE = re.compile(r"(.*) and ([\d,]+) more", re.DOTALL)
_MOST_PIECES, _MOST_WORDS = 14, 24
"""Of a text that are tried as one message, so that a long text takes no long time."""
_WORDS, _PLACED, _LONGEST_NAME = 100, 90, 40
"""What a letter of the catalogue counts, what one of a name or number does, and so many of a name at most."""
_LONGEST = 4000
"""Letters of a text that is looked at; a longer one is no message."""
_LEAST_OF_A_PART = 4
"""Letters of its own that a template needs inside of another: ' of 3' means different things in different places."""


class Shown(NamedTuple):
    """A text in Chinese, and how much of the English is explained, in hundredths of a letter."""

    known: int
    text: str


class Translator:
    """Translates texts by a catalogue."""

    def __init__(self, templates: Templates) -> None:
        self._templates = templates
        self.whole = lru_cache(4096)(self._whole)
        self._message = lru_cache(4096)(self._find_message)

    def _whole(self, text: str) -> str:
        """The text of a line or a cell in Chinese, where the catalogue has it; single words count as messages."""
        if len(text) > _LONGEST:
            return text
        lead, core, trail = _edges(text)
        if (word := self._templates.exact.get(core)) is not None:
            return lead + word + _signs(trail)
        if "\n" in core and self._message(text, False) is None:
            return "\n".join(map(self.whole, text.split("\n")))
        names: list[str] = []
        hidden = _NAME.sub(lambda match: f"'{_place(names, match[1])}'", text)
        shown = self._passage(hidden, False).text
        if shown == hidden or _PLACES.search(text):  # the name may be a part of the message itself
            return self._passage(text, False).text
        return _PLACES.sub(lambda match: names[ord(match[0]) - _FIRST_PLACE], shown)

    def _passage(self, text: str, is_part: bool) -> Shown:
        """A text that may be a message, several, or none."""
        if not text.strip():
            return Shown(0, text)
        whole = self._message(text, is_part)
        if "\n" in text:
            lines = [self._passage(line, is_part) for line in text.split("\n")]
            apart = Shown(sum(line.known for line in lines), "\n".join(line.text for line in lines))
        else:
            apart = self._sentences(text, is_part)
        if whole is None or whole.known < apart.known:
            return apart
        return apart if whole.known == apart.known and _SENTENCE_ENDS.search(text.strip()) else whole

    def _find_message(self, text: str, is_part: bool) -> Shown | None:
        """One whole message, else None. Outer blanks and signs are kept."""
        lead, core, trail = _edges(text)
        found, bare = None, without_stop(core)
        if bare != core and (found := self._look_up(bare, is_part)) is not None:
            found = Shown(found.known, found.text + "。")  # tried first: the last placeholder would take the stop
            trail = trail.lstrip(" ")
        found = self._look_up(core, is_part) if found is None else found
        if found is None and core[:1] == "(" and core[-1:] == ")":
            inner = self._message(core[1:-1], is_part)
            found = inner and Shown(inner.known, f"（{inner.text}）")
        return None if found is None else Shown(found.known, _signs(lead) + found.text + _signs(trail))

    def _look_up(self, core: str, is_part: bool) -> Shown | None:
        # What is known in all; whether the template's own words begin the text; how many are its own.
        best: tuple[tuple[int, bool, int], Shown] | None = None
        for text in (core, core[:1].swapcase() + core[1:]):
            exact = self._templates.exact.get(text)
            if exact is not None and re.search(r"\s", text):
                return Shown(_WORDS * len(text), exact)
            for template, parts in self._templates.find(text):
                if is_part and template.weight < _LEAST_OF_A_PART:
                    continue
                filled = self._fill(template, parts)
                merits = filled.known, bool(template.head), template.weight
                if best is None or merits > best[0]:
                    best = merits, filled
        return best and best[1]

    def _fill(self, template: Template, parts: list[Part]) -> Shown:
        by_name = {part.name: part for part in parts}
        for one, other in template.pairs:
            by_name[one], by_name[other] = self._divided(by_name[one], by_name[other])
        shown = {name: self._part(part) for name, part in by_name.items()}
        text = PLACE.sub(lambda match: shown[match[1]].text if match[1] in shown else match[0], template.translated)
        placed = sum(shown[match[1]].known for match in PLACE.finditer(template.english))
        return Shown(_WORDS * template.weight + placed, text)

    def _divided(self, one: Part, other: Part) -> tuple[Part, Part]:
        """Two parts that follow each other: the second begins where a message does, else it is empty."""
        text = one.text + other.text
        for match in re.finditer(r"[;,:.]? +|(?=[(\[])", text):
            if match.start() and other.kind == "" and self._message(text[match.start() :], True) is not None:
                at = match.start()
                return replace(one, text=text[:at]), replace(other, text=text[at:])
        return replace(one, text=text), replace(other, text="")

    def _part(self, part: Part) -> Shown:
        if part.kind == "l" and (more := _MORE.fullmatch(part.text)):
            return Shown(_PLACED * min(len(part.text), _LONGEST_NAME), f"{more[1]} 等（另有 {more[2]} 个）")
        if part.kind not in ("", "w") or not re.search("[A-Za-z]", part.text):
            return Shown(_PLACED * min(len(part.text), _LONGEST_NAME), part.text)
        if part.kind == "w" and (word := self._templates.exact.get(part.text.strip())) is not None:
            return Shown(_WORDS * len(part.text), word)
        shown = self._passage(part.text, True)
        return shown if shown.known else self._joined(part.text) or shown

    def _joined(self, text: str) -> Shown | None:
        """Messages that follow each other without a sign, such as ' of 20 series x 7 channels', or None."""
        blanks = [match.start() for match in re.finditer(r" +", text.rstrip())]
        if len(blanks) > _MOST_WORDS:
            return None
        for at in blanks:
            if at and (left := self._message(text[:at], True)) is not None:
                right = self._message(text[at:], True) or self._joined(text[at:])
                if right is not None:
                    return Shown(left.known + right.known, left.text + right.text)
        return None

    def _sentences(self, text: str, is_part: bool) -> Shown:
        """Translate as much as possible of a row of sentences, in as few pieces as possible."""
        ends = _ends(text)
        if len(ends) == 1:
            return Shown(0, text)
        starts = [0, *ends[:-1]]
        best: list[tuple[int, int, str]] = [(0, 0, "")]  # letters known, pieces (negative), text; for each end
        for place, end in enumerate(ends):
            known, pieces, before = best[place]
            options = [(known, pieces - 1, before + text[starts[place] : end])]
            for first in range(max(place - _MOST_PIECES, 0), place + 1):
                if first == 0 and place == len(ends) - 1:
                    continue  # the whole is looked at elsewhere
                if (shown := self._message(text[starts[first] : end], is_part)) is not None:
                    known, pieces, before = best[first]
                    options.append((known + shown.known, pieces - 1, before + shown.text))
            best.append(max(options, key=lambda option: option[:2]))
        return Shown(best[-1][0], best[-1][2])


@lru_cache(1)
def chinese() -> Translator:
    """The translator of the shipped catalogue, read once."""
    return Translator(Templates(read_pairs(catalogue_path())))


def _place(names: list[str], name: str) -> str:
    """A letter of no script that stands for a name, which is kept."""
    names.append(name)
    return chr(_FIRST_PLACE + len(names) - 1)


def _edges(text: str) -> tuple[str, str, str]:
    found = _EDGES.fullmatch(text)
    assert found is not None
    return found[1], found[2], found[3]


def _signs(blank: str) -> str:
    """Signs between sentences, as Chinese has them: wide, and without a blank after them."""
    return re.sub(r"([;,:.]) ?", lambda match: _SIGNS[match[1]], blank)


def _ends(text: str) -> list[int]:
    """Where pieces of a text end: behind signs and before brackets, but not inside of quotation marks."""
    quoted = [match.span() for match in _QUOTED.finditer(text)]
    ends = [match.end() for match in _BREAKS.finditer(text)]
    return [*(end for end in ends if not any(first < end < last for first, last in quoted)), len(text)]
