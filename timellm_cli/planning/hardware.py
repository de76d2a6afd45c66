"""What this computer has (GPU memory by the driver's library, RAM, torch's build), and common cards' data. Light."""

import importlib.util
import os
import re
import sys
import tomllib
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from timellm_cli.errors import ConfigError, did_you_mean
from timellm_cli.units import GIB


@dataclass(frozen=True)
class Gpu:
    """One GPU. Memory in bytes; `capability` is CUDA's, such as (8, 6) for an RTX 30. `others` share its run."""

    name: str
    total_bytes: int
    free_bytes: int
    capability: tuple[int, int]
    others: int = 0


@dataclass(frozen=True)
class Machine:
    """RAM in bytes. `torch_has_cuda` says whether the installed torch was built for CUDA."""

    gpu: Gpu | None
    ram_free: int
    torch_has_cuda: bool

    @property
    def can_use_gpu(self) -> bool:
        """A card is there and torch can compute on it."""
        return self.gpu is not None and self.torch_has_cuda

    def of_several(self, processes: int) -> "Machine":
        """The same for a run that so many processes share, each on a card of its own."""
        return replace(self, gpu=replace(self.gpu, others=processes - 1)) if self.gpu else self


def look_at_machine() -> Machine:
    """Ask the driver and the operating system; without a driver there is simply no GPU. Never raises."""
    import psutil  # takes longer than all of this module

    return Machine(
        gpu=_look_at_gpu(),
        ram_free=min(psutil.virtual_memory().available, _free_in_container()),
        torch_has_cuda=_torch_has_cuda(),
    )


def _look_at_gpu() -> Gpu | None:
    own = _own_card()
    if own in ("", "-1") or not _driver_may_be_here():
        return None
    import pynvml

    try:
        pynvml.nvmlInit()
        by_index, by_uuid = pynvml.nvmlDeviceGetHandleByIndex, pynvml.nvmlDeviceGetHandleByUUID
        handle = by_index(int(own)) if own.isdigit() else by_uuid(own)
        name = pynvml.nvmlDeviceGetName(handle)
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
    except pynvml.NVMLError:
        return None
    return Gpu(str(name), int(memory.total), int(memory.free), (int(major), int(minor)))


def _own_card() -> str:
    """The index or UUID of the card that this process computes on: of several processes, each takes the next."""
    place, visible = int(os.environ.get("LOCAL_RANK", "0") or 0), os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return str(place)
    cards = [card.strip() for card in visible.split(",")]
    return cards[place if place < len(cards) else 0]


def count_cards() -> int:
    """How many different cards torch may use here."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len({card.strip() for card in visible.split(",")} - {"", "-1"})
    if not _driver_may_be_here():
        return 0
    import pynvml

    try:
        pynvml.nvmlInit()
        return int(pynvml.nvmlDeviceGetCount())
    except pynvml.NVMLError:
        return 0


def _driver_may_be_here() -> bool:
    """On Linux the driver shows as a device (under WSL that of Windows); without one, its library is not imported."""
    return sys.platform != "linux" or any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/dxg"))


def _torch_has_cuda() -> bool:
    """Read the CUDA version that torch was built for from its `version.py`: importing torch would take seconds."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    version = Path(spec.origin).with_name("version.py")
    return version.is_file() and bool(
        re.search(r"^cuda\b[^=]*=\s*['\"]", version.read_text(encoding="utf-8"), flags=re.MULTILINE)
    )


def _free_in_container(groups: Path = Path("/sys/fs/cgroup")) -> int:
    """What the limit of a Linux container leaves: the operating system's figures do not include it.

    By whichever version of control groups there is.
    """
    return min(
        _left(groups, "memory.max", "memory.current", "inactive_file"),
        _left(groups / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    )


def _left(folder: Path, limit: str, used: str, inactive: str) -> int:
    """Bytes below the limit; files that are kept in memory count as free, as they do outside of a container."""
    try:
        bytes_limit, bytes_used = (int((folder / name).read_text(encoding="ascii")) for name in (limit, used))
        facts = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
    except (OSError, ValueError):
        return 2**63
    return max(bytes_limit - bytes_used + int(facts.get(inactive, 0)), 0)


DESKTOP_BYTES = GIB // 2
"""What a screen with a few windows needs on a card, on Windows or Linux: assumed. A browser or a game needs more."""

_MAKERS = re.compile(r"nvidia|geforce|tesla|gpu|[^a-z0-9]")


@dataclass(frozen=True)
class Card:
    """A card. `total_bytes` is what CUDA gives to programs, `desktop_bytes` what its screen needs.

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
        raise ConfigError(
            f"card '{name}' is not known{did_you_mean(name, _cards())}",
            f"known cards are: {', '.join(card_names())}; of any other, give its memory: --vram 6GiB",
        )
    return card


def card_names() -> tuple[str, ...]:
    """The first name of each known card."""
    return tuple(dict.fromkeys(known.name for known in _cards().values()))


def recognise(name: str) -> Card | None:
    """The card of a name, such as the driver's 'NVIDIA GeForce RTX 4060 Laptop GPU'; None for an unknown one."""
    return next((card for known, card in _cards().items() if _key(known) == _key(name)), None)


def _key(name: str) -> str:
    """A name without maker, case, blanks and hyphens."""
    return _MAKERS.sub("", name.lower())


@cache
def _cards() -> dict[str, Card]:
    """The well-known cards by each of their names."""
    table = tomllib.loads(Path(__file__).with_name("known_cards.toml").read_text(encoding="utf-8"))
    return {
        name: Card(
            name=entry["names"][0],
            total_bytes=int(entry["memory_gib"] * GIB),
            desktop_bytes=DESKTOP_BYTES if entry["desktop"] else 0,
            capability=(entry["capability"][0], entry["capability"][1]),
            multiprocessors=entry["multiprocessors"],
            matrix_rate=entry["tflops"] * 1e12,
            bandwidth=entry["bandwidth"] * 1e9,
        )
        for entry in table["card"]
        for name in entry["names"]
    }
