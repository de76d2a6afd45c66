"""LLMs by hub id, through the real huggingface_hub and the real command line, from a fake hub on loopback."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Cli
from tests.loopback import Answer, Server, offer_repository, refuse_repository, serving
from timellm_cli.llm_files import find_llm, has_weights

NAME = "owner/small-llm"
LEFT_OUT = (
    "pytorch_model.bin", "consolidated.safetensors", "onnx/model.safetensors", "original/params.json", "README.md",
)  # fmt: skip


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A fake hub that HF_ENDPOINT points to."""
    with serving() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.address)
        monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        for variable in ("HF_HUB_OFFLINE", "HF_TOKEN", "TRANSFORMERS_OFFLINE"):
            monkeypatch.delenv(variable, raising=False)
        yield running


def repository(tiny_llm: Path) -> dict[str, bytes]:
    """A model repository as they come: the files to fetch, and the same weights again in other formats."""
    files = {path.name: path.read_bytes() for path in tiny_llm.iterdir() if path.is_file()}
    return files | dict.fromkeys(LEFT_OUT, b"other formats")


def test_configuration_tokenizer_and_safetensors_are_fetched_and_nothing_else(
    hub: Server, cli_process: Cli, tiny_llm: Path
) -> None:
    offer_repository(hub, NAME, repository(tiny_llm))
    finished = cli_process("fetch", NAME)
    assert finished.returncode == 0, finished.stderr
    folder = find_llm(NAME)
    assert folder is not None
    assert has_weights(folder)
    assert finished.stdout == f"{NAME}: {folder}\n"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        path.name: path.read_bytes() for path in tiny_llm.iterdir()
    }
    assert not any(request.endswith(LEFT_OUT) for request in hub.requests)
    downloads = [request for request in hub.requests if request.startswith(f"GET /{NAME}/resolve")]
    assert cli_process("fetch", NAME).returncode == 0
    assert [request for request in hub.requests if request.startswith(f"GET /{NAME}/resolve")] == downloads


def test_an_interrupted_download_does_not_count_as_an_llm_and_continues(
    hub: Server, cli_process: Cli, tiny_llm: Path
) -> None:
    offer_repository(hub, NAME, repository(tiny_llm))
    (path,) = [route for route in hub.routes if route.endswith("/model.safetensors") and "onnx" not in route]
    (whole,) = hub.routes[path]
    hub.routes[path] = [Answer(b"gone", 404)]
    finished = cli_process("fetch", NAME)
    assert finished.returncode == 4
    assert f"timellm fetch {NAME}" in finished.stderr
    assert "Traceback" not in finished.stderr
    folder = find_llm(NAME)
    assert folder is not None
    assert not has_weights(folder)
    hub.routes[path] = [whole]
    assert cli_process("fetch", NAME).returncode == 0
    assert has_weights(folder)


@pytest.mark.parametrize(
    ("status", "code", "message", "remedy"),
    [
        (403, "GatedRepo", "is gated", "accept the terms"),
        (404, "RepoNotFound", "is not on the hub", "check the spelling"),
        (500, "", "cannot be reached", "HF_ENDPOINT"),
    ],
    ids=["gated", "missing", "down"],
)
def test_a_refusal_says_what_to_do(
    hub: Server, cli_process: Cli, status: int, code: str, message: str, remedy: str
) -> None:
    refuse_repository(hub, NAME, status, code)
    finished = cli_process("fetch", NAME)
    assert finished.returncode == 4
    assert f"{NAME}" in finished.stderr
    assert message in finished.stderr
    assert remedy in finished.stderr
    assert "Traceback" not in finished.stderr


def test_a_repository_without_safetensors_is_refused(hub: Server, cli_process: Cli) -> None:
    offer_repository(hub, NAME, {"config.json": b"{}", "pytorch_model.bin": b"pickle"})
    finished = cli_process("fetch", NAME)
    assert finished.returncode == 4
    assert "no safetensors weights" in finished.stderr


def test_a_repository_that_holds_no_model_is_refused_before_its_weights(hub: Server, cli_process: Cli) -> None:
    offer_repository(hub, NAME, {"README.md": b"", "weights.safetensors": b"large"})
    finished = cli_process("fetch", NAME)
    assert finished.returncode == 4
    assert "no config.json" in finished.stderr
    assert not any("weights.safetensors" in request for request in hub.requests)


@pytest.mark.parametrize("where", ["api", "header", "etag"])
def test_an_endpoint_that_names_folders_by_a_path_writes_nothing_outside_the_cache(
    hub: Server, cli_process: Cli, tiny_llm: Path, private_cache: Path, where: str
) -> None:
    offer_repository(hub, NAME, repository(tiny_llm))
    for route, (answer,) in hub.routes.items():
        if where == "api" and route.startswith("/api/models"):
            answer.body = answer.body.replace(b'"sha": "', b'"sha": "../../../../outside/')
        if "X-Repo-Commit" in answer.headers and where != "api":
            name = "X-Repo-Commit" if where == "header" else "ETag"
            answer.headers[name] = "../../../../outside"
        assert route
    finished = cli_process("fetch", NAME)
    assert finished.returncode == 4
    assert "no commit or tag of the Hugging Face hub" in finished.stderr
    assert "Traceback" not in finished.stderr
    outside = [path for path in private_cache.parent.rglob("*outside*") if path.exists()]
    assert outside == []


@pytest.mark.parametrize("commit", ["../../../elsewhere", "0" * 39, "main", ""])
def test_a_cache_that_names_a_folder_by_a_path_holds_no_llm(private_cache: Path, commit: str) -> None:
    repository = private_cache / "huggingface" / "hub" / "models--owner--small-llm"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit, encoding="utf-8")
    folder = repository / "snapshots" / commit
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}", encoding="utf-8")
    assert find_llm(NAME) is None
