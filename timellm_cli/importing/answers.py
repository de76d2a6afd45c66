"""Old flags on the command line: each becomes the option it is now, or is answered by its name. Light.

Underscores are read as dashes in every option. `modernise` works on the words before they are parsed.
"""

import re
import shlex
from collections.abc import Collection, Iterator, Sequence

from timellm_cli.config import flag_of
from timellm_cli.errors import ConfigError
from timellm_cli.importing.commands import Argument, OldCommand
from timellm_cli.importing.translate import Outcome, translate
from timellm_cli.old_flags import OLD_FLAGS, OldFlag, old_flag

_STARTERS = ("python", "python3", "py", "accelerate", "torchrun", "deepspeed", "python.exe")
_AS_THEY_ARE = ("learning_rate",)
"""Flags that mean on our command line what they say, whatever a whole command of the original makes of them."""
_OF_THE_DATA = ("data", "root_path", "data_path")
_OF_THE_NAME = ("model_id", "model_comment", "des")
_ENDS = ("task_name", "model", "is_training")
"""Flags whose wrong value ends a training before it starts."""


def modernise(verb: str, words: Sequence[str], known: Collection[str]) -> tuple[list[str], list[str]]:
    """The words of a command line with old flags replaced, and sentences on what became of them.

    `known` are the options of the verb. Raises ConfigError that names the flags which mean nothing to it.
    """
    if verb == "import":
        return _whole_command(words), []
    kept, old = _sort_out(verb, words, known)
    if not old:
        return kept, []
    if verb in ("train", "inspect"):
        return _for_training(kept, old)
    return _for_a_checkpoint(verb, kept, old)


def _whole_command(words: Sequence[str]) -> list[str]:
    """A command of the original without quotation marks, or in those that cmd.exe does not know, as one word."""
    first = words[0].removeprefix("'") if words else ""
    if first not in _STARTERS:
        return list(words)
    last = len(words) - 1
    if first != words[0]:
        last = next((place for place, word in enumerate(words) if word.endswith("'")), last)
    command = shlex.join([first, *words[1:last], *(word.removesuffix("'") for word in words[max(last, 1) : last + 1])])
    return [command, *words[last + 1 :]]


def _sort_out(verb: str, words: Sequence[str], known: Collection[str]) -> tuple[list[str], list[Argument]]:
    """The words that stay, underscores replaced, and the old flags with their values."""
    kept: list[str] = []
    old: list[Argument] = []
    has_root = any(re.match(r"--root[_-]path(=|$)", word) for word in words)
    place = 0
    while place < len(words):
        word = words[place]
        place += 1
        if word == "--":
            return [*kept, *words[place - 1 :]], old
        name, equals, value = word.partition("=")
        flag = old_flag(word) if word.startswith("--") else None
        dashed = name.replace("_", "-")
        following = words[place] if place < len(words) else None
        is_ours = dashed in known and not (flag and _is_special(verb, flag, value or following or "", has_root))
        if not word.startswith("--") or is_ours or flag is None:
            kept.append(dashed + equals + value if word.startswith("--") and dashed in known else word)
            continue
        given: str | None = value if equals else None
        takes = not flag.switch or str(following).lower() in ("true", "false", "0", "1")
        if given is None and takes and following is not None and not following.startswith("--"):
            given, place = following, place + 1
        old.append(Argument(flag.name, given))
    return kept, old


def _is_special(verb: str, flag: OldFlag, value: str, has_root: bool) -> bool:
    """Whether a flag with the name of one of our options had another meaning."""
    if flag.name == "data_path":
        return has_root
    return (flag.name == "loss" and value.isupper()) or (flag.name == "data" and verb in ("train", "inspect"))


def _for_training(kept: list[str], old: list[Argument]) -> tuple[list[str], list[str]]:
    command = OldCommand("run_main.py", (), tuple(one for one in old if one.name not in _AS_THEY_ARE), ())
    found = translate(command, keeps_defaults=False)
    if ends := [one for one in found.wrong if one.argument.name in _ENDS]:
        raise ConfigError("; ".join(f"--{one.argument.name}: {one.said}" for one in ends), _HINT)
    if "model_id" not in {one.name for one in old}:
        found.values.pop("run.name", None)
    stated = {word.partition("=")[0] for word in kept}
    values = {key: value for key, value in found.values.items() if flag_of(key) not in stated}
    return [*_as_flags(values), *kept], list(_sentences(found.outcomes))


def _as_flags(values: dict[str, object]) -> Iterator[str]:
    for key, value in values.items():
        yield f"{flag_of(key)}={value}"


def _sentences(outcomes: Sequence[Outcome]) -> Iterator[str]:
    for one in outcomes:
        if one.what in ("renamed", "wrong") and one.argument.name not in _OF_THE_NAME:
            yield f"--{one.argument.name}: {one.said}"
    idle = [f"--{one.argument.name}" for one in outcomes if one.what == "no use" or one.argument.name in _OF_THE_NAME]
    if idle:
        yield f"of no use here: {', '.join(idle)} (docs/from-run-main.md says why)"


def _for_a_checkpoint(verb: str, kept: list[str], old: list[Argument]) -> tuple[list[str], list[str]]:
    given = {one.name: one.value or "" for one in old}
    stored = [f"--{name}" for name in given if OLD_FLAGS[name].key or name in _STORED]
    if stored:
        raise ConfigError(
            f"{', '.join(stored)}: the checkpoint knows {'this' if len(stored) == 1 else 'these'} from its training",
            f"leave {'it' if len(stored) == 1 else 'them'} out of `timellm {verb}`; `timellm train` takes them",
        )
    notes = []
    file = "/".join(filter(None, (given.get("root_path", "").rstrip("/\\"), given.get("data_path", ""))))
    if file := file if given.get("data_path") else given.get("data", ""):
        kept = [*kept, file] if verb == "predict" else [*kept, f"--csv={file}"]
        notes.append(
            f"{' and '.join(f'--{name}' for name in _OF_THE_DATA if name in given)}: "
            + (f"the input is {file}" if verb == "predict" else f"--csv {file}")
        )
    if folder := given.get("llm_model_path"):
        kept.append(f"--llm={folder}")
        notes.append(f"--llm_model_path: --llm {folder}")
    idle = [f"--{name}" for name in given if name not in (*_OF_THE_DATA, "llm_model_path")]
    if idle:
        notes.append(f"of no use here: {', '.join(idle)} (docs/from-run-main.md says why)")
    return kept, notes


_STORED = ("load_in_4bit", "load_in_8bit", "llm_model", "loss", "lradj", "learning_rate", "prompt_domain")
_HINT = "docs/from-run-main.md lists every old flag"
