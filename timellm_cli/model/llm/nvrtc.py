"""Compile and launch CUDA kernels with what PyTorch brings: NVIDIA's NVRTC, and the driver.

No compiler and no header has to be installed, so this works on Windows and on cards that Triton does not know.
PyTorch's own `torch.cuda._compile_kernel` is private and needs the CUDA toolkit's folder. API: NVRTC and CUDA driver
reference manuals of NVIDIA.
"""

import ctypes
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

Argument = Tensor | int | float | None
_BINARY_OPTIONS = ("--std=c++17", "--restrict")


class Kernel:
    """A compiled function of a GPU. Call it once before a CUDA graph records it, as that loads it."""

    def __init__(self, function: ctypes.c_void_p) -> None:
        self._function = function

    def __call__(self, grid: Sequence[int], block: Sequence[int], *arguments: Argument) -> None:
        """Launch on the current stream. Integers are 64-bit in the kernel, floats 32-bit; None is a null pointer.

        Raises RuntimeError where the driver refuses.
        """
        values = [_to_c(argument) for argument in arguments]
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        sizes = (*_padded(grid), *_padded(block))
        _check(_driver().cuLaunchKernel(self._function, *sizes, 0, stream, pointers, None), "launch a kernel")


def compile_kernels(source: Path, names: Iterable[str], constants: dict[str, int]) -> dict[str, Kernel]:
    """The functions of a CUDA file for the current device, by name. `constants` are defined before it is compiled.

    Raises OSError where NVRTC or the driver is not found, RuntimeError where one of them refuses.
    """
    major, minor = torch.cuda.get_device_capability()
    image = compile_source(source, f"sm_{major}{minor}", constants)
    torch.zeros((), device="cuda")  # makes the context that the module is loaded into
    module = ctypes.c_void_p()
    _check(_driver().cuModuleLoadData(ctypes.byref(module), image), "load a compiled file")
    kernels = {}
    for name in names:
        function = ctypes.c_void_p()
        _check(_driver().cuModuleGetFunction(ctypes.byref(function), module, name.encode()), f"find the kernel {name}")
        kernels[name] = Kernel(function)
    return kernels


def compile_source(source: Path, architecture: str, constants: dict[str, int]) -> bytes:
    """The binary of a CUDA file for an architecture such as 'sm_86'. Needs no GPU. Raises as `compile_kernels`."""
    library = _nvrtc()
    options = [
        f"--gpu-architecture={architecture}",
        *_BINARY_OPTIONS,
        *(f"-D{name}={value}" for name, value in constants.items()),
    ]
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    text, name = source.read_bytes(), source.name.encode()
    _check_nvrtc(library.nvrtcCreateProgram(ctypes.byref(program), text, name, 0, None, None))
    try:
        given = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        if library.nvrtcCompileProgram(program, len(options), given):
            raise RuntimeError(f"NVRTC compiles no kernel here ({_first_error(program)})")
        _check_nvrtc(library.nvrtcGetCUBINSize(program, ctypes.byref(size)))
        image = ctypes.create_string_buffer(size.value)
        _check_nvrtc(library.nvrtcGetCUBIN(program, image))
        return image.raw
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def _first_error(program: ctypes.c_void_p) -> str:
    size = ctypes.c_size_t()
    _nvrtc().nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value or 1)
    _nvrtc().nvrtcGetProgramLog(program, log)
    lines = [line for line in log.value.decode(errors="replace").splitlines() if "error" in line]
    return (lines or ["no reason given"])[0][:120]


def _to_c(argument: Argument) -> ctypes.c_void_p | ctypes.c_longlong | ctypes.c_float:
    if argument is None or isinstance(argument, Tensor):
        return ctypes.c_void_p(None if argument is None else argument.data_ptr())
    return ctypes.c_longlong(argument) if isinstance(argument, int) else ctypes.c_float(argument)


def _padded(sizes: Sequence[int]) -> tuple[int, ...]:
    return (*sizes, *(1,) * (3 - len(sizes)))


@cache
def _nvrtc() -> ctypes.CDLL:
    """NVRTC of the CUDA version that PyTorch was built for."""
    major = (torch.version.cuda or "13").split(".")[0]
    name = f"nvrtc64_{major}0_0.dll" if sys.platform == "win32" else f"libnvrtc.so.{major}"
    home = Path(torch.__file__).parent
    found = [path for folder in (home / "lib", home.parent / "nvidia") for path in sorted(folder.rglob(name))]
    return ctypes.CDLL(str(found[0]) if found else name)


@cache
def _driver() -> ctypes.CDLL:
    return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")


def _check(status: int, what: str) -> None:
    if status:
        text = ctypes.c_char_p()
        _driver().cuGetErrorString(status, ctypes.byref(text))
        raise RuntimeError(f"the CUDA driver cannot {what}: {(text.value or b'no reason given').decode()}")


def _check_nvrtc(status: int) -> None:
    if status:
        _nvrtc().nvrtcGetErrorString.restype = ctypes.c_char_p
        raise RuntimeError(f"NVRTC fails: {_nvrtc().nvrtcGetErrorString(status).decode()}")
