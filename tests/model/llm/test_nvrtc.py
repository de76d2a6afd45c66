"""The CUDA kernels compile for every card and number format; a GPU is not needed for that."""

from pathlib import Path

import pytest

from timellm_cli.model.llm.nvrtc import compile_source
from timellm_cli.model.llm.nvrtc_ops import NAMES, SOURCE, TYPES


def compiled(source: Path, architecture: str, constants: dict[str, int]) -> bytes:
    try:
        return compile_source(source, architecture, constants)
    except OSError:
        pytest.skip("NVRTC is not installed")


@pytest.mark.parametrize(("architecture", "vec"), [("sm_75", 8), ("sm_86", 1), ("sm_90", 4)])
@pytest.mark.parametrize("number_type", TYPES.values(), ids=map(str, TYPES))
def test_every_kernel_compiles(architecture: str, vec: int, number_type: int) -> None:
    image = compiled(SOURCE, architecture, {"TYPE": number_type, "VEC": vec})
    for name in NAMES:
        assert f"\0.text.{name}\0".encode() in image


def test_a_fault_in_the_source_is_named_with_its_line(tmp_path: Path) -> None:
    source = tmp_path / "wrong.cu"
    source.write_text('extern "C" __global__ void broken(float* x) { *x = undefined; }', encoding="utf-8")
    with pytest.raises(RuntimeError, match=r"NVRTC compiles no kernel here \(wrong\.cu\(1\): error: identifier"):
        compiled(source, "sm_75", {})


def test_an_architecture_that_nvrtc_does_not_know_is_refused() -> None:
    with pytest.raises(RuntimeError, match="NVRTC compiles no kernel here"):
        compiled(SOURCE, "sm_1", {"TYPE": 0, "VEC": 1})
