"""The commands that a script of the original would start, with every variable and loop replaced. Light.

Nothing is run. What is not understood is said in `notes`.
"""

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from timellm_cli.errors import ConfigError, listed
from timellm_cli.importing.script_lines import Script, Word, read_script
from timellm_cli.old_flags import old_flag

MOST_COMMANDS = 200


@dataclass(frozen=True)
class Argument:
    """A flag without its dashes, its value (None of a switch), and the comment beside it or beside its variable."""

    name: str
    value: str | None
    comment: str = ""


@dataclass(frozen=True)
class OldCommand:
    """A start of the original's `script`. `launcher` are the words before it, `stray` those that belong to no flag."""

    script: str
    launcher: tuple[str, ...]
    arguments: tuple[Argument, ...]
    stray: tuple[str, ...]

    @property
    def text(self) -> str:
        """The command on one line, variables replaced."""
        flags = [word for one in self.arguments for word in (f"--{one.name}", one.value) if word is not None]
        return shlex.join(["python", self.script, *flags])

    def launched_with(self, name: str) -> str | None:
        """The value of an option of accelerate or torchrun, such as num_processes."""
        words = [word.replace("=", " ", 1) for word in self.launcher]
        flat = " ".join(words).split()
        places = [place for place, word in enumerate(flat[:-1]) if word.lstrip("-").replace("-", "_") == name]
        return flat[places[-1] + 1] if places else None


@dataclass(frozen=True)
class _Value:
    """A variable's text, and the comment beside its assignment."""

    text: str
    comment: str = ""


@dataclass
class _Reader:
    script: Script
    variables: dict[str, _Value] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    used: str = ""

    def run(self, rows: Sequence[tuple[Word, ...]]) -> Iterator[OldCommand]:
        place = 0
        while place < len(rows):
            row = _without_keyword(rows[place])
            place += 1
            if not row:
                continue
            if loop := self._loop(row):
                name, values, first = loop
                end = self._end_of_loop(rows, place, first)
                body = [first, *rows[place:end]] if first else rows[place:end]
                for value in values:
                    self.variables[name.lower()] = _Value(value)
                    yield from self.run(body)
                place = end
            elif not self._assign(row) and (command := self._command(row)):
                yield command

    def _loop(self, row: tuple[Word, ...]) -> tuple[str, list[str], tuple[Word, ...]] | None:
        """Variable, values and the first statement of the body, where a row begins a loop."""
        text = " ".join(word.raw for word in row)
        patterns = {
            "sh": r"for\s+(\w+)\s+in\s+(.*)()",
            "ps1": r"foreach\s*\(\s*\$(\w+)\s+in\s+(.*?)\)\s*(?:\{\s*(.*))?",
            "bat": r"for\s+(?:/l\s+)?%%?(\w)\s+in\s+\((.*?)\)\s+do\s*\(?\s*(.*)",
        }
        found = re.fullmatch(patterns[self.script.dialect], text, re.IGNORECASE | re.DOTALL)
        if not found:
            return None
        name = found[1] if self.script.dialect != "bat" else f"%{found[1]}"
        listed_values = self._values(found[2], counts=" /l " in text.lower()[:10])
        body = found[3].rstrip(" )") if self.script.dialect == "bat" else found[3]
        first = read_script(body, f".{self.script.dialect}").statements if body else ()
        return name, listed_values, first[0] if first else ()

    def _values(self, text: str, counts: bool) -> list[str]:
        text = self._expand(text.strip()).strip()
        text = re.sub(r"^@?\((.*)\)$", r"\1", text)
        if counted := re.fullmatch(r"\{?(-?\d+)\.\.(-?\d+)\}?", text):
            first, last = int(counted[1]), int(counted[2])
            return [str(number) for number in range(first, last + 1)][:MOST_COMMANDS]
        values = [value.strip("\"'") for value in re.split(r"[\s,]+", text) if value]
        if counts and len(values) == 3:
            first, step, last = map(int, values)
            return [str(number) for number in range(first, last + 1, step or 1)][:MOST_COMMANDS]
        return values

    def _end_of_loop(self, rows: Sequence[tuple[Word, ...]], start: int, first: tuple[Word, ...]) -> int:
        """The place behind the body's last row, which closes the loop."""
        opens = {"sh": r"(do\s+)?for\b", "ps1": r"foreach\b", "bat": r"for\b"}[self.script.dialect]
        closes = {"sh": "done", "ps1": "}", "bat": ")"}[self.script.dialect]
        if self.script.dialect == "bat" and first:
            return start
        depth = 1
        for place in range(start, len(rows)):
            text = " ".join(word.raw for word in rows[place])
            depth += bool(re.match(opens, text, re.IGNORECASE))
            depth -= bool(text == closes or (self.script.dialect == "ps1" and text.endswith("}") and "${" not in text))
            if depth == 0:
                return place + 1
        return len(rows)

    def _assign(self, row: tuple[Word, ...]) -> bool:
        text, comment = " ".join(word.raw for word in row), self.script.comments.get(row[-1].line, "")
        patterns = {
            "sh": r"(?:export\s+|local\s+|declare\s+(?:-\w+\s+)?)?(\w+)=(.*)",
            "ps1": r"\$(?:env:)?(\w+)\s*=\s*(.*)",
            "bat": r"set\s+(?:/a\s+)?(\w+)\s*=(.*)",
        }
        found = re.fullmatch(patterns[self.script.dialect], text, re.IGNORECASE | re.DOTALL)
        if not found or (self.script.dialect == "sh" and self._has_script(row)):
            return False
        self.variables[found[1].lower()] = _Value(self._expand(found[2].strip()), comment)
        return True

    def _has_script(self, row: tuple[Word, ...]) -> bool:
        return any(word.raw.endswith(".py") for word in row)

    def _command(self, row: tuple[Word, ...]) -> OldCommand | None:
        words = [(text, word.line, comment) for word in row for text, comment in self._texts(word)]
        place = next((place for place, (text, _, _) in enumerate(words) if text.lower().endswith(".py")), None)
        if place is None:
            return None
        launcher = tuple(text for text, _, _ in words[:place])
        arguments, stray = self._arguments([word for word in words[place + 1 :] if word[0] not in ("}", ")")])
        return OldCommand(words[place][0], launcher, tuple(arguments), tuple(stray))

    def _texts(self, word: Word) -> list[tuple[str, str]]:
        """A word with its variables replaced, and the comment of the last one; several words, or none, of a list."""
        self.used = ""
        text = "".join(self._expand(part) if expands else part for part, expands in word.parts)
        if word.quoted or text == word.raw:
            return [(text, self.used)]
        return [(piece, self.used) for piece in text.split()]

    def _arguments(self, words: list[tuple[str, int, str]]) -> tuple[list[Argument], list[str]]:
        arguments: list[Argument] = []
        stray: list[str] = []
        place = 0
        while place < len(words):
            text, line, comment = words[place]
            place += 1
            if not re.match(r"--?[A-Za-z]", text):
                stray.append(text)
                continue
            name, equals, given = text.lstrip("-").partition("=")
            value: str | None = given if equals else None
            following = words[place] if place < len(words) else ("--", line, "")
            known = old_flag(name)
            takes = not (known and known.switch) or following[0].lower() in ("true", "false", "0", "1")
            if value is None and takes and not re.match(r"--?[A-Za-z]|--$", following[0]):
                value, line, comment = following
                place += 1
            comment = comment or self.script.comments.get(line, "")
            arguments.append(Argument(name.replace("-", "_"), value, comment))
        return arguments, stray

    def _expand(self, text: str) -> str:
        """The text with its variables replaced; one that is not set becomes empty, and is noted."""
        if self.script.dialect == "bat":
            return re.sub(r"%(%\w)|[%!](\w+)[%!]", lambda name: self._variable(name[1] or name[2]), text)
        text = re.sub(r"\$\(\((.*?)\)\)", lambda sum_: _calculate(self._expand(_named(sum_[1]))), text)
        text = re.sub(r"\$\(seq\s+([^)]*)\)", lambda count: _count(self._expand(count[1])), text)
        text = re.sub(r"\$\(\$(\w+)\)", r"${\1}", text)
        return re.sub(
            r"\$\{(\w+)(?:\[[@*]\])?(?::?-([^}]*))?\}|\$(?:env:)?(\w+)",
            lambda name: self._variable(name[1] or name[3], name[2]),
            text,
        )

    def _variable(self, name: str, default: str | None = None) -> str:
        value = self.variables.get(name.lower())
        if value is None:
            if default is None:
                self.notes.append(f"the variable {name} has no value in this text")
            return default or ""
        self.used = value.comment or self.used
        return re.sub(r"^\((.*)\)$", r"\1", value.text.strip("\"'"))


def read_commands(text: str, ending: str = "") -> tuple[list[OldCommand], list[str]]:
    """The commands of a text that start a Python script, in order, and what was not understood.

    `ending` is that of the file's name. Raises ConfigError where there is none, or more than 200.
    """
    reader = _Reader(read_script(text, ending))
    commands = list(islice(reader.run(reader.script.statements), MOST_COMMANDS + 1))
    if not commands:
        raise ConfigError(
            "no command of run_main.py is in this text",
            "give the command as you type it, in quotation marks, the path of a .sh, .ps1 or .bat file, or '-' and the "
            "text on standard input",
        )
    if len(commands) > MOST_COMMANDS:
        raise ConfigError(f"this text starts more than {MOST_COMMANDS} commands", "shorten its loops")
    notes = list(dict.fromkeys(reader.notes))
    scripts = {command.script.replace("\\", "/").rpartition("/")[2] for command in commands}
    if odd := sorted(name for name in scripts if not re.search("run|main|train|pretrain|m4", name, re.IGNORECASE)):
        notes.append(f"read like run_main.py: {listed(odd, 3)}")
    return commands, notes


_KEYWORDS = ("do", "then", "else", "time", "!", "{", "(", "&", "call", "start", "nohup", "sudo", "env", "exec")


def _without_keyword(row: tuple[Word, ...]) -> tuple[Word, ...]:
    while row and not row[0].quoted and row[0].raw.lower() in _KEYWORDS:
        row = row[1:]
    return row


def _named(sum_: str) -> str:
    """An arithmetic text whose names are variables, as bash reads it."""
    return re.sub(r"(?<![\w$])([A-Za-z_]\w*)", r"$\1", sum_)


def _calculate(sum_: str) -> str:
    """A sum, difference, product or whole quotient of two numbers; anything else as it is."""
    found = re.fullmatch(r"\s*(-?\d+)\s*([-+*/])\s*(-?\d+)\s*", sum_)
    if not found or (found[2] == "/" and int(found[3]) == 0):
        return sum_.strip()
    left, right = int(found[1]), int(found[3])
    return str({"+": left + right, "-": left - right, "*": left * right}.get(found[2], left // (right or 1)))


def _count(bounds: str) -> str:
    numbers = [int(number) for number in bounds.split() if re.fullmatch(r"-?\d+", number)]
    if not 1 <= len(numbers) <= 3:
        return ""
    first, step, last = {1: (1, 1, numbers[0]), 2: (numbers[0], 1, numbers[-1])}.get(len(numbers), tuple(numbers))
    return " ".join(map(str, range(first, last + 1, step or 1)[:MOST_COMMANDS]))
