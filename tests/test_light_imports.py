"""What answers at once imports nothing that takes long, seen in a fresh interpreter's `sys.modules`, not on a clock."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from timellm_cli.cli import app

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
        ("inspect", "--show-patches"),
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
    shows = ("--show-prompt", "--show-patches", "--explain")
    assert heavy_modules_of("inspect", *files, *window, *shows) == ["polars"], "the table reader"


def test_a_verb_that_computes_is_seen_to_import_heavy_packages(tmp_path: Path) -> None:
    (tmp_path / "original.pt").write_bytes(b"")
    finished = run_and_list("import", str(tmp_path / "original.pt"), "-o", str(tmp_path / "original.pt"))
    assert finished.returncode == 2, "the output exists already"
    assert "torch" in loaded(finished)


VERBS = [*sorted(command.name or "" for command in app.registered_commands), "profiles"]


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb_imports_nothing_heavy(verb: str) -> None:
    assert heavy_modules_of(verb, "--help") == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "absent.csv"),
        ("train", "--profile", "absent"),
        ("train", "--config", "absent.toml"),
        ("train", "--resume", "absent.pt"),
        ("train", "--from", "absent.pt"),
        ("inspect", "absent.csv"),
        ("eval", "absent.pt"),
        ("eval", "present.pt", "--csv", "absent.csv"),
        ("predict", "absent.pt", "absent.csv"),
        ("predict", "present.pt", "absent.csv"),
        ("import", "absent.pt"),
        ("fetch", "absent"),
        ("profiles", "show", "absent"),
        ("train", "--seq-lne", "96"),
    ],
    ids=" ".join,
)
def test_a_wrong_path_or_name_is_said_before_anything_heavy_is_imported(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    (tmp_path / "present.pt").write_bytes(b"")
    finished = run_and_list(*arguments)
    assert finished.returncode in (2, 3, 4), finished.stderr
    assert [name for name in loaded(finished) if name != "polars"] == []


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


CATALOGUE_CODE = ("timellm_cli.lang.shown", "timellm_cli.lang.translator", "timellm_cli.lang.templates")


@pytest.mark.parametrize(("language", "loads"), [("en", False), ("zh", True)])
def test_english_imports_no_code_of_the_catalogue_and_chinese_nothing_heavy(
    language: str, loads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIMELLM_LANG", language)
    program = _PROGRAM.format(heavy=(*HEAVY, *CATALOGUE_CODE))
    command = [sys.executable, "-c", program, "inspect", "--explain"]
    finished = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    assert finished.returncode == 0, finished.stderr
    assert loaded(finished) == (list(CATALOGUE_CODE) if loads else [])
