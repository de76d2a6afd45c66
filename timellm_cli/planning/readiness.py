"""Is everything there that a run needs? Each answer comes with the command that mends it. Light: nothing is imported
or opened that would take time; packages are looked for without importing them.
"""

import importlib.util
import shutil
from dataclasses import dataclass
from pathlib import Path

from timellm_cli.config import Config
from timellm_cli.datasets import data_path, known_dataset
from timellm_cli.errors import DataError, ModelError
from timellm_cli.fetching.catalogue import CATALOGUE, remedy_for_data, remedy_for_llm
from timellm_cli.llm_files import NO_LLM, find_llm, has_weights, hub_cache_directory
from timellm_cli.paths import cache_directory
from timellm_cli.planning.llm_shape import hub_id_of, look_up_llm, unknown_llm
from timellm_cli.planning.machine import Machine
from timellm_cli.units import format_memory

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
_CUDA_TORCH = "install the CUDA build of torch (pytorch.org/get-started)"
_SPARE_DISK = 200 * 10**6
"""Room for the checkpoints and logs of a run, in bytes: the trainable part is a few MB, thrice with optimizer state."""


@dataclass(frozen=True)
class Check:
    """One answer. `remedy` is what mends it; with `ok` it is advice, for instance that a GPU lies idle."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


def check_readiness(config: Config, machine: Machine) -> list[Check]:
    """Everything a run of a settled configuration needs on this machine: data, LLM, GPU, bitsandbytes, free disk."""
    checks = [_check_data(config), _check_llm(config), _check_gpu(config, machine)]
    if reason := _reason_for_bitsandbytes(config):
        checks.append(_check_bitsandbytes(reason))
    return [*checks, _check_disk(config)]


def require_ready(checks: list[Check]) -> None:
    """Raise one error that names everything missing: DataError if it is data alone, else ModelError."""
    missing = [check for check in checks if not check.ok]
    if not missing:
        return
    kind = DataError if all(check.name == "data" for check in missing) else ModelError
    raise kind(
        "the run cannot start:\n" + "\n".join(f"  - {check.name}: {check.detail}" for check in missing),
        "; ".join(check.remedy for check in missing if check.remedy),
    )


def _check_data(config: Config) -> Check:
    path = data_path(config.data)
    if path.is_file():
        return Check("data", True, str(path))
    return Check("data", False, f"no file {path}", remedy_for_data(config.data))


def _check_llm(config: Config) -> Check:
    name = config.llm.name
    if name == NO_LLM:
        return Check("LLM", True, "none is used")
    folder, remedy = find_llm(name), _remedy_for_llm(name)
    if folder is None:
        detail = f"{name} is not on this computer" if look_up_llm(name) else unknown_llm(name)
        return Check("LLM", False, detail, remedy)
    lacking = [] if any((folder / file).is_file() for file in _TOKENIZER_FILES) else ["tokenizer"]
    lacking += [] if has_weights(folder) else ["weights"]
    if lacking:
        return Check("LLM", False, f"{folder} has no {' and no '.join(lacking)}", remedy)
    return Check("LLM", True, str(folder))


def _remedy_for_llm(name: str) -> str:
    hub_id = name if name in CATALOGUE else hub_id_of(name)
    return remedy_for_llm(hub_id) + (f", then --llm {hub_id}" if hub_id != name else "")


def _check_gpu(config: Config, machine: Machine) -> Check:
    wanted = config.hardware.device == "cuda"
    if machine.gpu is None:
        remedy = "use --device cpu, or a computer with an NVIDIA card and its driver" if wanted else ""
        return Check("GPU", not wanted, "none found" + ("" if wanted else "; the run uses the CPU"), remedy)
    if not machine.torch_has_cuda:
        return Check("GPU", not wanted, f"{machine.gpu.name} is here, but torch is installed without CUDA", _CUDA_TORCH)
    free = f"{format_memory(machine.gpu.free_bytes)} of {format_memory(machine.gpu.total_bytes)} free"
    return Check("GPU", True, f"{machine.gpu.name}, {free}" + ("" if wanted else "; not used, as --device cpu says"))


def _reason_for_bitsandbytes(config: Config) -> str:
    if config.llm.quantization != "none" and config.llm.name != NO_LLM:
        return f"llm.quantization {config.llm.quantization}"
    return f"train.optimizer {config.train.optimizer}" if "8bit" in config.train.optimizer else ""


def _check_bitsandbytes(reason: str) -> Check:
    if importlib.util.find_spec("bitsandbytes"):
        return Check("bitsandbytes", True, f"installed ({reason})")
    return Check("bitsandbytes", False, f"not installed, but {reason} needs it", "pip install bitsandbytes")


def _check_disk(config: Config) -> Check:
    """Room for what must still be downloaded and for the run's own files, disk by disk."""
    needs = [(config.run.directory, _SPARE_DISK), *_downloads(config)]
    need_by_disk: dict[int, int] = {}
    folder_by_disk: dict[int, Path] = {}
    for wanted, need in needs:
        folder = _nearest_existing(wanted)
        disk = folder.stat().st_dev
        need_by_disk[disk] = need_by_disk.get(disk, 0) + need
        folder_by_disk.setdefault(disk, folder)
    details, ok = [], True
    for disk, need in need_by_disk.items():
        free = shutil.disk_usage(folder_by_disk[disk]).free
        ok = ok and free >= need
        details.append(f"{format_memory(need)} needed, {format_memory(free)} free in {folder_by_disk[disk]}")
    remedy = "" if ok else "free some space, or move the cache with the environment variable TIMELLM_CACHE"
    return Check("disk", ok, "; ".join(details), remedy)


def _downloads(config: Config) -> list[tuple[Path, int]]:
    """Where something must still be downloaded to, and how many bytes it takes there, unpacked beside its archive."""
    downloads = []
    dataset = known_dataset(config.data)
    if dataset and config.data.path is None and not data_path(config.data).is_file():
        downloads.append((cache_directory(), 2 * CATALOGUE[dataset.name].size))
    name = config.llm.name
    if name == NO_LLM or find_llm(name) is not None:
        return downloads
    shape = look_up_llm(name)
    unpacked = shape.file_bytes if shape else 0
    if name in CATALOGUE:
        downloads.append((cache_directory(), CATALOGUE[name].size + unpacked))
    else:
        downloads.append((hub_cache_directory(), unpacked))
    return downloads


def _nearest_existing(folder: Path) -> Path:
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder
