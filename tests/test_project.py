"""The habits of the project, checked: lint, format, types, layers, file sizes, and a wheel that works on its own."""

import ast
import os
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.docs.test_commands_run import write_stand_ins
from timellm_cli.settings import profile_names


def run(*command: str | Path, cwd: Path = REPOSITORY) -> str:
    finished = subprocess.run(
        list(map(str, command)), cwd=cwd, capture_output=True, text=True, encoding="utf-8", check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


@pytest.mark.parametrize("command", [("ruff", "check"), ("ruff", "format", "--check"), ("mypy",)])
def test_lint_format_and_types_are_clean(command: tuple[str, ...]) -> None:
    run(sys.executable, "-m", *command)


def test_every_module_imports_only_from_the_layers_below_it() -> None:
    run(sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()")


def test_no_file_has_outgrown_its_job() -> None:
    files = [*REPOSITORY.glob("timellm_cli/**/*.py"), *REPOSITORY.glob("benchmarks/*.py")]
    assert len(files) > 40
    lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert {name: length for name, length in lengths.items() if length > 350} == {}


def test_no_function_has_outgrown_its_job() -> None:
    lengths = {
        f"{path.name}: {node.name}": node.end_lineno - node.lineno + 1
        for path in REPOSITORY.glob("timellm_cli/**/*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.end_lineno is not None
    }
    assert len(lengths) > 1000
    assert {name: length for name, length in lengths.items() if length > 50} == {}


UNPINNED = ("pip", "nvidia-cuda-nvrtc")
"""What is there already, and what a PyTorch for CUDA brings in its own version."""


def test_dependencies_are_ranges_and_constraints_pin_each_of_them() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    }
    extras = project["optional-dependencies"]
    for requirement in [*project["dependencies"], *extras["docs"], *extras["dev"]]:
        if requirement == "timellm[docs]":
            continue
        name = requirement.split(";")[0].split(">=")[0]
        assert "==" not in requirement.split(";")[0]
        assert name in pins or name in UNPINNED, f"{name} has no tested version in constraints.txt"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the sdist, which lies beside it."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(REPOSITORY))
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_package_and_profiles_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"timellm_cli"}
    assert {f"timellm_cli/profiles/{name}.toml" for name in profile_names()} <= set(names)
    beside = (
        "known_datasets.toml",
        "planning/known_llms.toml",
        "evaluation/published.toml",
        "report/report.html.jinja",
    )
    assert {f"timellm_cli/{name}" for name in beside} <= set(names)


def test_the_wheel_installed_in_an_environment_of_its_own_runs_the_quickstart(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment borrows this one's dependencies; a .pth file does not pass on this one's editable install."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=True)
    scripts = environment / ("Scripts" if os.name == "nt" else "bin")
    (site,) = environment.glob("**/site-packages")
    run(scripts / "python", "-m", "pip", "install", "--no-deps", "--no-index", str(wheel))
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    where = run(scripts / "python", "-c", "import timellm_cli; print(timellm_cli.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(site)
    assert "quickstart" in run(scripts / "timellm", "profiles", cwd=tmp_path)
    assert '"dataset_len": 237671' in run(scripts / "timellm", "inspect", "--json", cwd=tmp_path)

    write_stand_ins(tmp_path / "cache")
    monkeypatch.setenv("TIMELLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TIMELLM_OFFLINE", "1")
    short = ("--max-steps", "2", "--window-stride", "2")
    assert "2 steps" in run(scripts / "timellm", "train", "--profile", "quickstart", *short, cwd=tmp_path)
    best = tmp_path / "checkpoints" / "quickstart" / "best.pt"
    forecast = run(scripts / "timellm", "predict", best, "auckland-pedestrians", "--levels", "80", cwd=tmp_path)
    assert len(forecast.splitlines()) == 25


def test_the_sdist_has_what_its_own_suite_needs(wheel: Path) -> None:
    (sdist,) = wheel.parent.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    beside = ("README.md", "README.zh-CN.md", "constraints.txt", "zensical.toml", "docs/zh/tutorial.md")
    assert {*beside, "examples/sales.csv", "profiles/quickstart.toml", "tests/conftest.py"} <= names
