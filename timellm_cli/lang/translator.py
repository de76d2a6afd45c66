"""From an English text to Chinese: the whole, else its sentences; what is no message stays as it is. Light."""

import re
from dataclasses import replace
from functools import lru_cache

from timellm_cli.lang.po import catalogue_path, read_pairs
from timellm_cli.lang.templates import PLACE, Part, Template, Templates, without_stop

_EDGES = re.compile(r"([\s;,:.|]*)(.*?)([\s;,:|]*)", re.DOTALL)
_BREAKS = re.compile(r"[;.:,]\s+|\s\|\s|\s(?=[(\[])")
_QUOTED = re.compile(r"(?<!\w)'[^'\n]*'(?!\w)|`[^`\n]*`")
_SIGNS = {";": "；", ",": "，", ":": "：", ".": "。"}
_MORE = re.compile(r"(.*) and ([\d,]+) more", re.DOTALL)
_MOST_PIECES = 14
_MOST_WORDS = 24
_DEEPEST = 6


class Translator:
    """Translates texts by a catalogue."""

    def __init__(self, templates: Templates) -> None:
        self._templates = templates
        self.whole = lru_cache(4096)(self._whole)

    def _whole(self, text: str) -> str:
        """The text of a line or a cell in Chinese, where the catalogue has it; single words count as messages."""
        lead, core, trail = _edges(text)
        if (word := self._templates.exact.get(core)) is not None:
            return lead + word + _signs(trail)
        return self._passage(text, 0)

    def _passage(self, text: str, depth: int) -> str:
        """A text that may be a message, several, or none."""
        if not text.strip() or depth > _DEEPEST:
            return text
        if (found := self._message(text, depth)) is not None:
            return found
        if "\n" in text:
            return "\n".join(self._passage(line, depth) for line in text.split("\n"))
        return self._sentences(text, depth)

    def _message(self, text: str, depth: int) -> str | None:
        """One whole message, else None. Outer blanks and signs are kept."""
        lead, core, trail = _edges(text)
        shown = None
        if without_stop(core) != core and (shown := self._look_up(without_stop(core), depth)) is not None:
            shown += "。"  # tried first: the last placeholder would take the stop
        shown = self._look_up(core, depth) if shown is None else shown
        return None if shown is None else _signs(lead) + shown + _signs(trail)

    def _look_up(self, core: str, depth: int) -> str | None:
        for text in (core, core[:1].swapcase() + core[1:]):
            exact = self._templates.exact.get(text)
            if exact is not None and " " in text:
                return exact
            if found := self._templates.find(text):
                return self._fill(*found, depth)
        return None

    def _fill(self, template: Template, parts: list[Part], depth: int) -> str:
        by_name = {part.name: part for part in parts}
        for one, other in template.pairs:
            by_name[one], by_name[other] = self._divided(by_name[one], by_name[other], depth + 1)
        shown = {name: self._part(part, depth + 1) for name, part in by_name.items()}
        return PLACE.sub(lambda match: shown.get(match[1], match[0]), template.translated)

    def _divided(self, one: Part, other: Part, depth: int) -> tuple[Part, Part]:
        """Two parts that follow each other: the second begins where a message does, else it is empty."""
        text = one.text + other.text
        for match in re.finditer(r"[;,:.]? +|(?=[(\[])", text):
            if match.start() and other.kind == "" and self._message(text[match.start() :], depth) is not None:
                at = match.start()
                return replace(one, text=text[:at]), replace(other, text=text[at:])
        return replace(one, text=text), replace(other, text="")

    def _part(self, part: Part, depth: int) -> str:
        if part.kind in ("q", "n"):
            return part.text
        if part.kind == "l":
            more = _MORE.fullmatch(part.text)
            return f"{more[1]} 等（另有 {more[2]} 个）" if more else part.text
        if part.kind == "w" and (word := self._templates.exact.get(part.text.strip())) is not None:
            return word
        shown = self._passage(part.text, depth)
        return shown if shown != part.text else self._joined(part.text, depth) or shown

    def _joined(self, text: str, depth: int) -> str | None:
        """Messages that follow each other without a sign, such as ' of 20 series x 7 channels', or None."""
        blanks = [match.start() for match in re.finditer(r" +", text.rstrip())]
        if len(blanks) > _MOST_WORDS:
            return None
        for at in blanks:
            if at and (left := self._message(text[:at], depth)) is not None:
                right = self._message(text[at:], depth) or self._joined(text[at:], depth)
                if right is not None:
                    return left + right
        return None

    def _sentences(self, text: str, depth: int) -> str:
        """Translate as much as possible of a row of sentences, in as few pieces as possible."""
        ends = _ends(text)
        if len(ends) == 1:
            return text
        starts = [0, *ends[:-1]]
        best: list[tuple[int, int, str]] = [(0, 0, "")]  # letters translated, pieces (negative), text; for each end
        for place, end in enumerate(ends):
            piece = text[starts[place] : end]
            done, pieces, before = best[place]
            options = [(done, pieces - 1, before + piece)]
            for first in range(max(place - _MOST_PIECES, 0), place + 1):
                if first == 0 and place == len(ends) - 1:
                    continue  # the whole is known to be none
                passage = text[starts[first] : end]
                if (shown := self._message(passage, depth)) is not None:
                    done, pieces, before = best[first]
                    options.append((done + len(passage), pieces - 1, before + shown))
            best.append(max(options, key=lambda option: option[:2]))
        return best[-1][2]


@lru_cache(1)
def chinese() -> Translator:
    """The translator of the shipped catalogue, read once."""
    return Translator(Templates(read_pairs(catalogue_path())))


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
