"""`timellm push`, `pull` and `fetch --source modelscope`, against stand-ins for the hub and for ModelScope."""

import json
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import huggingface_hub
import pytest

from tests.commands.conftest import Arguments, arguments  # noqa: F401  a fixture
from tests.conftest import Cli
from timellm_cli.llm_files import find_llm
from timellm_cli.training.checkpoint import load_checkpoint

NAME = "someone/sales"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the hub: uploads are copied into it, downloads out of it."""
    store = tmp_path / "hub"

    class Api:
        def create_repo(self, name: str, *, private: bool, exist_ok: bool) -> str:
            (store / name).mkdir(parents=True, exist_ok=exist_ok)
            (store / "private").write_text(str(private), encoding="utf-8")
            return f"https://hub.example/{name}"

        def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> None:
            shutil.copytree(folder_path, store / repo_id, dirs_exist_ok=True)

    def snapshot_download(name: str, *, allow_patterns: list[str], local_dir: str) -> str:
        if not (store / name).is_dir():
            raise OSError("404: no such repository")
        shutil.copytree(store / name, local_dir)
        return local_dir

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return store


def test_a_run_goes_to_the_hub_with_its_figures_and_comes_back_to_forecast(
    cli: Cli,
    arguments: Arguments,  # noqa: F811
    hub: Path,
    small_csv: Path,
    tmp_path: Path,
    tiny_llm: Path,
) -> None:
    assert cli(*arguments("--max-steps", 3)).returncode == 0
    scored = cli("eval", "checkpoints/run/best.pt", "--json", "--device", "cpu")
    (tmp_path / "checkpoints" / "run" / "eval.json").write_text(scored.stdout, encoding="utf-8")
    pushed = cli("push", "checkpoints/run", NAME, "--private")
    assert pushed.returncode == 0, pushed.stderr
    assert pushed.stdout.strip().endswith(f"https://hub.example/{NAME}")
    assert (hub / "private").read_text(encoding="utf-8") == "True"
    shared = hub / NAME
    assert sorted(path.name for path in shared.iterdir()) == ["README.md", "best.pt", "config.toml", "eval.json"]
    card = (shared / "README.md").read_text(encoding="utf-8")
    entries = json.loads(scored.stdout)["entries"]
    assert all(f"| {entry['name']} | {entry['mse']:.4f} |" in card for entry in entries) and len(entries) > 2
    verdicts = json.loads(scored.stdout)["verdicts"]
    assert verdicts and all(verdict["sentence"] in card for verdict in verdicts)
    assert f"timellm pull {NAME}" in card
    for path in ("README.md", "config.toml", "eval.json"):
        assert str(tmp_path) not in (shared / path).read_text(encoding="utf-8"), "no paths of this computer"
    assert load_checkpoint(shared / "best.pt").config.data.path == Path("small.csv")

    pulled = cli("pull", NAME)
    assert pulled.returncode == 0, pulled.stderr
    assert pulled.stdout.strip() == str(Path("checkpoints/sales/best.pt"))
    forecast = cli("predict", "checkpoints/sales/best.pt", small_csv, "--llm", tiny_llm, "--device", "cpu")
    assert forecast.returncode == 0, forecast.stderr
    again = cli("pull", NAME)
    assert again.returncode == 2 and "exists already" in again.stderr


def test_a_card_without_figures_says_that_nothing_was_compared(
    cli: Cli,
    arguments: Arguments,  # noqa: F811
    hub: Path,
) -> None:
    assert cli(*arguments("--max-steps", 2)).returncode == 0
    finished = cli("push", "checkpoints/run", NAME, "--card-only")
    assert "not compared with baselines" in finished.stdout and "val mse" in finished.stdout
    assert "timellm eval" in finished.stderr
    assert not hub.exists(), "nothing was uploaded"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("pull", "nobody/nothing"), 4, "404: no such repository"),
        (("pull", "nothing"), 2, "owner/name"),
        (("push", "checkpoints/none", NAME), 4, "not found"),
    ],
)
def test_a_wrong_name_is_one_clear_message(cli: Cli, hub: Path, words: tuple[str, ...], code: int, said: str) -> None:
    finished = cli(*words)
    assert finished.returncode == code and said in finished.stderr, finished.stderr
    assert not list(Path.cwd().glob("checkpoints/.pull-*"))


def offer_modelscope(monkeypatch: pytest.MonkeyPatch, files: Path | None) -> list[dict]:
    """A stand-in for ModelScope's library that copies a folder, or fails."""
    calls: list[dict] = []

    def snapshot_download(name: str, **options: object) -> None:
        calls.append({"name": name, **options})
        if files is None:
            raise RuntimeError("no such model")
        shutil.copytree(files, str(options["local_dir"]), dirs_exist_ok=True)

    module = ModuleType("modelscope.hub.snapshot_download")
    module.snapshot_download = snapshot_download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "modelscope", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "modelscope.hub", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "modelscope.hub.snapshot_download", module)
    return calls


def test_an_llm_comes_from_modelscope(cli: Cli, tiny_llm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = offer_modelscope(monkeypatch, tiny_llm)
    finished = cli("fetch", "Qwen/tiny", "--source", "modelscope")
    assert finished.returncode == 0, finished.stderr
    folder = find_llm("Qwen/tiny")
    assert folder is not None and finished.stdout.strip() == f"Qwen/tiny: {folder}"
    assert "*.safetensors" in calls[0]["allow_patterns"] and not any("bin" in one for one in calls[0]["allow_patterns"])
    assert cli("fetch", "Qwen/tiny", "--source", "modelscope").returncode == 0
    assert len(calls) == 1, "it is here already"


def test_a_failed_download_from_modelscope_leaves_nothing(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    offer_modelscope(monkeypatch, None)
    finished = cli("fetch", "Qwen/tiny", "--source", "modelscope")
    assert finished.returncode == 4 and "no such model" in finished.stderr
    assert find_llm("Qwen/tiny") is None
    monkeypatch.setitem(sys.modules, "modelscope.hub.snapshot_download", None)
    absent = cli("fetch", "Qwen/tiny", "--source", "modelscope")
    assert absent.returncode == 4 and "pip install modelscope" in absent.stderr
