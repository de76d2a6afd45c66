"""The habits of the project, checked: lint, format, types, layers, file sizes, and a wheel that works on its own."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from timellm_cli.settings import profile_names


def run_tool(*command: str) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", *command], cwd=REPOSITORY, capture_output=True, text=True, encoding="utf-8", check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr


@pytest.mark.parametrize("command", [("ruff", "check"), ("ruff", "format", "--check"), ("mypy",)])
def test_lint_format_and_types_are_clean(command: tuple[str, ...]) -> None:
    run_tool(*command)


def test_every_module_imports_only_from_the_layers_below_it() -> None:
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, encoding="utf-8", check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr


def test_no_file_has_outgrown_its_job() -> None:
    files = [*REPOSITORY.glob("timellm_cli/**/*.py"), *REPOSITORY.glob("benchmarks/*.py")]
    assert len(files) > 40
    lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert {name: length for name, length in lengths.items() if length > 350} == {}


def test_dependencies_are_ranges_and_constraints_pin_each_of_them() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    }
    for requirement in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
        name = requirement.split(">=")[0]
        assert "==" not in requirement
        assert name in pins or name == "pip", f"{name} has no tested version in constraints.txt"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run_tool("build", "--wheel", "--no-isolation", "--outdir", str(folder), str(REPOSITORY))
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_package_and_profiles_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"timellm_cli"}
    assert {f"timellm_cli/profiles/{name}.toml" for name in profile_names()} <= set(names)
    assert "timellm_cli/planning/known_llms.toml" in names


def test_the_wheel_alone_inspects_and_lists_profiles(wheel: Path, tmp_path: Path) -> None:
    """In a process that sees the wheel's files and not this checkout."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    program = (
        "import sys; sys.path[:] = [p for p in sys.path if 'timellm' not in p.lower()];"
        f"sys.path.insert(0, {str(tmp_path / 'site')!r});"
        f"sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in getattr(f, '__module__', '').lower()];"
        "import timellm_cli; assert timellm_cli.__file__.startswith(sys.path[0]), timellm_cli.__file__;"
        "from timellm_cli.cli import main; main()"
    )
    for arguments, word in ((["profiles"], "quickstart"), (["inspect", "--json"], '"dataset_len": 237671')):
        finished = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            cwd=tmp_path, capture_output=True, text=True, encoding="utf-8", check=False,
        )  # fmt: skip
        assert finished.returncode == 0, finished.stderr
        assert word in finished.stdout
