"""What keeps Triton from compiling kernels here, found without importing it. Light.

`inspect` asks this before a run. Loading asks it too, and then tries one kernel (`ops.choose_ops`).
"""

import os
import shutil
import sys
from importlib.util import find_spec

OLDEST_CAPABILITY = (8, 0)
"""CUDA's capability of the oldest cards that Triton compiles for; a T4 has 7.5."""


def find_obstacle(capability: tuple[int, int] | None) -> str | None:
    """Why Triton will not run on a card of this capability (None: not known); None where nothing is found.

    On Windows the package is `triton-windows`, which imports as `triton` and brings a compiler with it.
    """
    if find_spec("triton") is None:
        return "Triton is not installed"
    if capability is not None and capability < OLDEST_CAPABILITY:
        found, oldest = (".".join(map(str, version)) for version in (capability, OLDEST_CAPABILITY))
        return f"Triton needs a card of capability {oldest}, and this one has {found}"
    if sys.platform != "win32" and not _has_compiler():
        return "Triton finds no C compiler (gcc or clang)"
    return None


def remedy_for(obstacle: str) -> str:
    """What mends an obstacle; empty where nothing does."""
    if "installed" in obstacle:
        return f"pip install {'triton-windows' if sys.platform == 'win32' else 'triton'}"
    return "install gcc, or name a compiler in the environment variable CC" if "compiler" in obstacle else ""


def _has_compiler() -> bool:
    """As Triton looks for it (`triton/runtime/build.py`)."""
    return bool(os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang"))
