"""Everything that is wrong in a way of its own gets its exit code and one clear message, and leaves nothing behind."""

import shutil
from pathlib import Path

import pytest

from tests.command_line import run_here
from tests.conftest import write_small_csv
from tests.hostile.checkpoint_cases import CHECKPOINT_CASES
from tests.hostile.csv_cases import CSV_CASES
from tests.hostile.llm_cases import LLM_CASES
from tests.hostile.settings_cases import SETTINGS_CASES
from tests.hostile.table_cases import TABLE_CASES
from tests.untrained import make_config, save_untrained

CASES = {
    f"{kind}: {case.name}": case
    for kind, cases in (
        ("CSV", CSV_CASES), ("settings", SETTINGS_CASES), ("LLM", LLM_CASES), ("checkpoint", CHECKPOINT_CASES),
        ("table", TABLE_CASES),
    )
    for case in cases
}  # fmt: skip
OFFLINE = {"COLUMNS": "200", "HF_HUB_OFFLINE": "1"}


@pytest.fixture(scope="module")
def right_files(tmp_path_factory: pytest.TempPathFactory, tiny_llm: Path) -> Path:
    """`data.csv`, `llm/` and `best.pt`, which knows the two by relative paths."""
    folder = tmp_path_factory.mktemp("right")
    write_small_csv(folder / "data.csv")
    shutil.copytree(tiny_llm, folder / "llm")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("TIMELLM_CACHE", str(tmp_path_factory.mktemp("cache")))
        save_untrained(Path("best.pt"), make_config(Path("data.csv"), "llm"))
    return folder


def paths_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.mark.parametrize("name", CASES)
def test_a_bad_input_is_one_clear_message(name: str, right_files: Path, tmp_path: Path) -> None:
    case = CASES[name]
    folder = Path(shutil.copytree(right_files, tmp_path / "here"))
    case.spoil(folder)
    before = paths_in(folder)
    finished = run_here(case.command, folder, **OFFLINE)
    text = " ".join(f"{finished.stderr} {finished.stdout if case.command[0] == 'inspect' else ''}".split())
    assert "Traceback" not in text, finished.stderr
    assert finished.returncode == case.code, text
    for word in case.words:
        assert word in text, text
    assert paths_in(folder) - before <= {"checkpoints", "checkpoints/run/.lock"}, "a file was left"
    assert case.command[0] == "inspect" or not finished.stdout, "results on stdout"


def test_the_catalogue_is_large_and_names_each_case_once() -> None:
    lists = (CSV_CASES, SETTINGS_CASES, LLM_CASES, CHECKPOINT_CASES, TABLE_CASES)
    assert len(CASES) == sum(map(len, lists)) >= 300


def test_the_right_files_are_right(right_files: Path, tmp_path: Path) -> None:
    """Else every case would fail for another reason than its own."""
    folder = Path(shutil.copytree(right_files, tmp_path / "here"))
    for command in (("predict", "best.pt", "data.csv", "-o", "out.csv"), ("eval", "best.pt", "--limit", "1")):
        finished = run_here(command, folder, **OFFLINE)
        assert finished.returncode == 0, finished.stderr
    assert (folder / "out.csv").read_text(encoding="utf-8").startswith("date,OT,load\n")
