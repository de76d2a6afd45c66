"""Everything that is wrong in a way of its own gets its exit code and one clear message, and leaves nothing behind."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import write_small_csv
from tests.hostile.checkpoint_cases import CHECKPOINT_CASES
from tests.hostile.csv_cases import CSV_CASES
from tests.hostile.llm_cases import LLM_CASES
from tests.hostile.settings_cases import SETTINGS_CASES
from tests.untrained import make_config, save_untrained

CASES = {
    f"{kind}: {case.name}": case
    for kind, cases in (
        ("CSV", CSV_CASES), ("settings", SETTINGS_CASES), ("LLM", LLM_CASES), ("checkpoint", CHECKPOINT_CASES),
    )
    for case in cases
}  # fmt: skip
Answer = dict[str, object]
Run = Callable[[tuple[str, ...], Path], Answer]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Runs the command line in a process that stays."""
    cache = tmp_path_factory.mktemp("cache")
    environment = {
        **os.environ, "COLUMNS": "200", "NO_COLOR": "1", "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1",
        "TIMELLM_CACHE": str(cache), "HF_HOME": str(cache), "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.hostile.server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, encoding="utf-8", env=environment,
    )  # fmt: skip
    assert server.stdin
    assert server.stdout

    def ask(arguments: tuple[str, ...], folder: Path) -> Answer:
        assert server.stdin
        assert server.stdout
        server.stdin.write(json.dumps({"arguments": arguments, "folder": str(folder)}) + "\n")
        server.stdin.flush()
        answer: Answer = json.loads(server.stdout.readline())
        return answer

    yield ask
    server.stdin.close()
    server.wait(timeout=60)


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
def test_a_bad_input_is_one_clear_message(name: str, run: Run, right_files: Path, tmp_path: Path) -> None:
    case = CASES[name]
    folder = Path(shutil.copytree(right_files, tmp_path / "here"))
    case.spoil(folder)
    before = paths_in(folder)
    answer = run(case.command, folder)
    text = " ".join(f"{answer['err']} {answer['out'] if case.command[0] == 'inspect' else ''}".split())
    assert "Traceback" not in text, answer["err"]
    assert answer["code"] == case.code, text
    for word in case.words:
        assert word in text, text
    assert paths_in(folder) - before <= {"checkpoints", "checkpoints/run/.lock"}, "a file was left"
    assert case.command[0] == "inspect" or not answer["out"], "results on stdout"


def test_the_catalogue_is_large_and_names_each_case_once() -> None:
    assert len(CASES) == len(CSV_CASES) + len(SETTINGS_CASES) + len(LLM_CASES) + len(CHECKPOINT_CASES) >= 100


def test_the_right_files_are_right(run: Run, right_files: Path, tmp_path: Path) -> None:
    """Else every case would fail for another reason than its own."""
    folder = Path(shutil.copytree(right_files, tmp_path / "here"))
    for command in (("predict", "best.pt", "data.csv", "-o", "out.csv"), ("eval", "best.pt", "--limit", "1")):
        answer = run(command, folder)
        assert answer["code"] == 0, answer["err"]
    assert (folder / "out.csv").read_text(encoding="utf-8").startswith("date,OT,load\n")
