"""Which language messages have: `--lang`, TIMELLM_LANG, else the locale. Light: English imports nothing more."""

import os
import sys
from collections.abc import Mapping

VARIABLE = "TIMELLM_LANG"
_SIMPLIFIED = ("", "cn", "sg", "my", "hans")


def language_of_command() -> str:
    """The language of this process, for which `sys.argv` is put in order, and of those that it starts."""
    sys.argv[1:] = take_option(sys.argv[1:])
    language = choose(sys.argv[1:], os.environ)
    if language != "en":
        os.environ[VARIABLE] = language
    return language


def take_option(arguments: list[str]) -> list[str]:
    """The arguments with `--lang VALUE` in front, wherever it stood: it belongs to `timellm`, not to a verb."""
    for place, word in enumerate(arguments):
        if word == "--":
            break
        if word == "--lang" and place + 1 < len(arguments):
            return [word, arguments[place + 1], *arguments[:place], *arguments[place + 2 :]]
        if word.startswith("--lang="):
            return [word, *arguments[:place], *arguments[place + 1 :]]
    return arguments


def choose(arguments: list[str], variables: Mapping[str, str]) -> str:
    """'zh' or 'en', for arguments as `take_option` gives them. What is neither is for the option's own check."""
    stated = variables.get(VARIABLE, "")
    if arguments[:1] == ["--lang"]:
        stated = arguments[1]
    elif arguments and arguments[0].startswith("--lang="):
        stated = arguments[0].removeprefix("--lang=")
    found = stated or _of_locale(variables)
    return "zh" if is_chinese(found, stated=bool(stated)) and can_show() else "en"


def is_chinese(name: str, stated: bool) -> bool:
    """Whether a name such as 'zh', 'zh_CN.UTF-8' or Windows' 'Chinese (Simplified)_China.936' asks for this catalogue.

    A locale of traditional characters does not; somebody who states `zh` gets simplified ones.
    """
    name = name.lower().replace("-", "_")
    if name.startswith("chinese"):
        return "traditional" not in name
    language, _, place = name.partition(".")[0].partition("_")
    return language == "zh" and (stated or place.partition("@")[0].partition("_")[0] in _SIMPLIFIED)


def can_show() -> bool:
    """Whether stderr and stdout can write Chinese; one that cannot would show question marks."""
    try:
        for stream in (sys.stdout, sys.stderr):
            "中文".encode(getattr(stream, "encoding", None) or "utf-8")
    except (UnicodeError, LookupError):
        return False
    return True


def _of_locale(variables: Mapping[str, str]) -> str:
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if value := variables.get(name):
            return value
    if os.name == "nt":  # Python has set the user's locale at its start; this only asks for it
        import locale

        return locale.setlocale(locale.LC_CTYPE)
    return ""
