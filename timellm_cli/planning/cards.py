"""Common cards in numbers, for planning without them: memory, capability, and what their data sheets promise. Light."""

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from timellm_cli.errors import ConfigError, did_you_mean
from timellm_cli.planning.machine import Gpu
from timellm_cli.units import GIB

DESKTOP_BYTES = GIB // 2
"""What a screen with a few windows takes of a card, on Windows or Linux: assumed. A browser or a game takes more."""

_MAKERS = re.compile(r"nvidia|geforce|tesla|gpu|[^a-z0-9]")


@dataclass(frozen=True)
class Card:
    """A card. `total_bytes` is what CUDA gives to programs, `desktop_bytes` what its screen takes of that.

    `matrix_rate` (operations a second, 16-bit numbers summed in float32) and `bandwidth` (bytes a second) are the
    peaks of its data sheet.
    """

    name: str
    total_bytes: int
    desktop_bytes: int
    capability: tuple[int, int]
    multiprocessors: int
    matrix_rate: float
    bandwidth: float

    @property
    def gpu(self) -> Gpu:
        """The card as it would be found in a computer where nothing else uses it but the screen."""
        return Gpu(self.name, self.total_bytes, self.total_bytes - self.desktop_bytes, self.capability)


def find_card(name: str) -> Card:
    """A card by a name that people or the driver give it. Raises ConfigError that lists those there are."""
    card = recognise(name)
    if card is None:
        every = [entry["names"][0] for entry in _entries()]
        raise ConfigError(
            f"card '{name}' is not known{did_you_mean(name, _names())}",
            f"known cards are: {', '.join(every)}; of any other, give its memory: --vram 6GiB",
        )
    return card


def recognise(name: str) -> Card | None:
    """The card of a name, such as the driver's 'NVIDIA GeForce RTX 4060 Laptop GPU'; None for an unknown one."""
    entry = _names_by_key().get(_key(name))
    if entry is None:
        return None
    return Card(
        name=entry["names"][0],
        total_bytes=int(entry["memory_gib"] * GIB),
        desktop_bytes=DESKTOP_BYTES if entry["desktop"] else 0,
        capability=(entry["capability"][0], entry["capability"][1]),
        multiprocessors=entry["multiprocessors"],
        matrix_rate=entry["tflops"] * 1e12,
        bandwidth=entry["bandwidth"] * 1e9,
    )


def _key(name: str) -> str:
    """A name without maker, case, blanks and hyphens."""
    return _MAKERS.sub("", name.lower())


def _names() -> list[str]:
    return [name for entry in _entries() for name in entry["names"]]


@cache
def _names_by_key() -> dict[str, dict]:
    return {_key(name): entry for entry in _entries() for name in entry["names"]}


@cache
def _entries() -> list[dict]:
    table = tomllib.loads(Path(__file__).with_name("known_cards.toml").read_text(encoding="utf-8"))
    entries: list[dict] = table["card"]
    return entries
