"""The Triton kernels on the CPU, in Triton's interpreter, which must be switched on before Triton is imported."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

FILES = [str(Path(__file__).with_name(name)) for name in ("test_ops.py", "test_attention.py")]
CASES = "fused and triton and not 3-70-45"
"""All but the largest shape, which takes the interpreter as long as all others."""


@pytest.mark.skipif(not find_spec("triton"), reason="Triton is not installed: it exists for Linux alone")
def test_every_kernel_computes_in_the_interpreter_what_pytorch_computes() -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", *FILES, "-o", "addopts=", "-p", "no:cacheprovider", "-k", CASES],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[3],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert " passed" in finished.stdout and "skipped" not in finished.stdout
