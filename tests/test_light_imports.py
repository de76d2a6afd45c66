"""What answers at once imports nothing that takes long, seen in a fresh interpreter's `sys.modules`, not on a clock."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = (
    "torch", "transformers", "numpy", "pandas", "matplotlib", "huggingface_hub", "accelerate", "bitsandbytes",
    "polars", "holidays",
)  # fmt: skip

_PROGRAM = """
import sys
from timellm_cli.cli import main
try:
    main()
except SystemExit as end:
    code = end.code
print("LOADED", *[name for name in {heavy} if name in sys.modules])
sys.exit(code)
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("--version",),
        ("inspect", "--help"),
        ("inspect",),
        ("inspect", "--json"),
        ("inspect", "--explain"),
        ("inspect", "--show-prompt"),
        ("profiles",),
        ("profiles", "show", "quickstart"),
        ("train", "--help"),
        ("fetch", "--help"),
        ("fetch",),
        ("doctor",),
        ("runs", "."),
        ("import", "--help"),
    ],
    ids=" ".join,
)
def test_light_verbs_import_nothing_heavy(arguments: tuple[str, ...]) -> None:
    assert heavy_modules_of(*arguments) == []


def test_inspect_reads_a_file_a_tokenizer_and_a_prompt_without_anything_heavy(small_csv: Path, tiny_llm: Path) -> None:
    files = ("--dataset", "custom", "--data-path", str(small_csv), "--llm", str(tiny_llm), "--layers", "2")
    window = ("--seq-len", "48", "--pred-len", "12", "--d-ff", "16")
    assert heavy_modules_of("inspect", *files, *window, "--show-prompt", "--explain") == ["polars"], "the table reader"


def test_a_verb_that_computes_is_seen_to_import_heavy_packages(tmp_path: Path) -> None:
    (tmp_path / "original.pt").write_bytes(b"")
    finished = run_and_list("import", str(tmp_path / "original.pt"), "-o", str(tmp_path / "original.pt"))
    assert finished.returncode == 2, "the output exists already"
    assert "torch" in loaded(finished)


def heavy_modules_of(*arguments: str) -> list[str]:
    finished = run_and_list(*arguments)
    assert finished.returncode == 0, finished.stderr
    return loaded(finished)


def run_and_list(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = _PROGRAM.format(heavy=HEAVY)
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, encoding="utf-8", check=False
    )


def loaded(finished: subprocess.CompletedProcess[str]) -> list[str]:
    return finished.stdout.splitlines()[-1].split()[1:]
