"""What `timellm doctor` looks at: versions, the GPU, kernels, caches, and the command that mends each fault. Light."""

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from timellm_cli import __version__
from timellm_cli.files import cache_directory
from timellm_cli.llm_files import hub_cache_directory
from timellm_cli.model.llm.triton_check import find_obstacle, remedy_for
from timellm_cli.planning.hardware import Machine
from timellm_cli.units import format_memory

CUDA_INDEX = "https://download.pytorch.org/whl/cu126"
"""Where PyTorch keeps its builds for CUDA; pip on Windows gets one without CUDA from the usual index."""
_LEAST = {"torch": (2, 6), "transformers": (5, 0), "bitsandbytes": (0, 50), "polars": (2, 0)}
_PACKAGES = ("torch", "transformers", "bitsandbytes", "tokenizers", "safetensors", "huggingface-hub", "polars")
_VARIABLES = (
    "TIMELLM_CACHE", "TIMELLM_OFFLINE", "TIMELLM_MIRROR", "HF_HOME", "HF_HUB_CACHE", "HF_ENDPOINT",
    "CUDA_VISIBLE_DEVICES", "HTTPS_PROXY", "WORLD_SIZE",
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `remedy` is a command, or what to do, where something is to mend."""

    name: str
    state: str
    remedy: str = ""


def examine(machine: Machine) -> list[Finding]:
    """Everything, in the order in which a fault would be met."""
    return [
        Finding(
            "timellm", f"{__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
        ),
        *map(_package, _PACKAGES),
        *_gpu(machine),
        *_memory(machine),
        *_caches(),
        *(Finding(name, os.environ[name]) for name in _VARIABLES if name in os.environ),
    ]


def _package(name: str) -> Finding:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "not installed", f"pip install {name}")
    least = _LEAST.get(name)
    if least and _numbers(version) < least:
        wanted = ".".join(map(str, least))
        return Finding(name, f"{version}, but {wanted} or later is needed", f'pip install "{name}>={wanted}"')
    return Finding(name, version)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("+", maxsplit=1)[0].split(".")[:2] if part.isdecimal())


def _gpu(machine: Machine) -> Iterator[Finding]:
    gpu = machine.gpu
    if gpu is None:
        driver = "with an NVIDIA card: install its driver, and `nvidia-smi` lists the card"
        yield Finding("GPU", f"none found, so the CPU is used ({driver})")
        return
    capability = ".".join(map(str, gpu.capability))
    free = f"{format_memory(gpu.free_bytes)} of {format_memory(gpu.total_bytes)} free"
    yield Finding("GPU", f"{gpu.name}, {free}, capability {capability}")
    if not machine.torch_has_cuda:
        why = "pip on Windows installs one" if sys.platform == "win32" else "it was built for the CPU"
        yield Finding(
            "torch and GPU",
            f"this torch has no CUDA ({why}), so the card is not used",
            f"pip install --force-reinstall torch --index-url {CUDA_INDEX}",
        )
        return
    obstacle = find_obstacle(gpu.capability)
    if obstacle:
        yield Finding("kernels", f"{obstacle}: NVRTC, which comes with PyTorch, compiles them", remedy_for(obstacle))
    else:
        yield Finding("kernels", "Triton can compile them")


def _memory(machine: Machine) -> Iterator[Finding]:
    state = f"{format_memory(machine.ram_free)} free"
    low = machine.ram_free < 2 * 2**30
    yield Finding("RAM", state, "close other programs: loading PyTorch and an LLM takes 2 GiB and more" if low else "")


def _caches() -> Iterator[Finding]:
    for name, folder in (("cache", cache_directory()), ("hub cache", hub_cache_directory())):
        existing = next((path for path in (folder, *folder.parents) if path.exists()), Path())
        free = shutil.disk_usage(existing).free
        state = f"{folder}: not there yet, {format_memory(free)} free on its disk"
        if folder.is_dir():
            state = f"{folder}: {format_memory(_size(folder))} in it, {format_memory(free)} free on its disk"
        writable = os.access(existing, os.W_OK)
        remedy = "" if writable else "name a folder that you may write to: TIMELLM_CACHE, HF_HOME"
        if writable and free < 2**30:
            remedy = "free some space, or name another folder: TIMELLM_CACHE, HF_HOME"
        yield Finding(name, state, remedy)


def _size(folder: Path) -> int:
    """Bytes of the files below a folder; links count nothing."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
