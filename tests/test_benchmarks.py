"""Every script of benchmarks/ can be imported here, says what it measures and answers --help."""

import sys
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType

import pytest

from tests.conftest import REPOSITORY

FOLDER = REPOSITORY / "benchmarks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))
SCRIPTS = [name for name in NAMES if "__main__" in (FOLDER / f"{name}.py").read_text(encoding="utf-8")]


@pytest.fixture(scope="module")
def modules() -> Iterator[dict[str, ModuleType]]:
    """They import each other by their bare names."""
    sys.path.insert(0, str(FOLDER))
    yield {name: import_module(name) for name in NAMES}
    sys.path.remove(str(FOLDER))
    for name in NAMES:
        del sys.modules[name]


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_answers_help_with_what_it_measures(
    name: str, modules: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
    with pytest.raises(SystemExit) as ended:
        modules[name].main()
    assert not ended.value.code
    first = (modules[name].__doc__ or "").splitlines()[0]
    assert " ".join(first.split()) in " ".join(capsys.readouterr().out.split())


def test_what_is_no_script_is_used_by_one(modules: dict[str, ModuleType]) -> None:
    sources = {name: (FOLDER / f"{name}.py").read_text(encoding="utf-8") for name in SCRIPTS}
    for name in set(NAMES) - set(SCRIPTS):
        assert modules[name].__doc__
        assert any(f"from {name} import" in source for source in sources.values()), name


def test_the_grid_of_memory_names_runs_that_can_be_measured_again(modules: dict[str, ModuleType]) -> None:
    groups = modules["memory"].read_jobs()
    jobs = [job for group in groups.values() for job in group]
    assert len(jobs) == 113
    assert set(modules["memory"].OWN_ALLOCATOR) <= set(groups)
    assert all(job.shape in modules["random_llm"].SHAPES for job in jobs)
    assert any(job.settings.get("llm.name") == "none" for job in jobs)
