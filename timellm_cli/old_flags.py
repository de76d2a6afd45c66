"""The flags of the original's scripts and what became of each (`old_flags.toml`). Light.

One table: `timellm import`, the answers of the command line and docs/from-run-main.md are made from it.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from timellm_cli.config import flag_of


@dataclass(frozen=True)
class OldFlag:
    """One flag. `key` takes its value; or `no_use` says why none does; or `became` what happens instead.

    `default` is the original's. A `switch` has no value.
    """

    name: str
    key: str | None = None
    default: str | None = None
    no_use: str = ""
    became: str = ""
    switch: bool = False

    @property
    def is_renamed(self) -> bool:
        """Whether the flag of its key is spelt otherwise, underscores aside."""
        return self.key is not None and flag_of(self.key) != f"--{self.name.replace('_', '-')}"

    @property
    def answer(self) -> str:
        """What became of it, in a few words."""
        if self.key is not None:
            return f"`{flag_of(self.key)}`"
        return self.became or f"No use: {self.no_use}."


def _read() -> dict[str, OldFlag]:
    text = Path(__file__).with_name("old_flags.toml").read_text(encoding="utf-8")
    return {entry["name"]: OldFlag(**entry) for entry in tomllib.loads(text)["flag"]}


OLD_FLAGS = _read()


def old_flag(word: str) -> OldFlag | None:
    """The old flag of a word such as `--seq_len`, `--seq-len=96` or `seq_len`; None if there is none."""
    return OLD_FLAGS.get(word.removeprefix("--").partition("=")[0].replace("-", "_"))


def markdown_table() -> str:
    """The table of docs/from-run-main.md."""
    lines = ["| old flag | what became of it |", "|---|---|"]
    return "\n".join([*lines, *(f"| `--{flag.name}` | {flag.answer} |" for flag in OLD_FLAGS.values())]) + "\n"
