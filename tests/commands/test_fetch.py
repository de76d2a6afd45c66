"""The command `fetch`, as a person types it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Cli, last_json
from timellm_cli.fetching.catalogue import CATALOGUE


def test_without_names_it_lists_what_there_is_and_what_is_here(cli: Cli, private_cache: Path) -> None:
    (private_cache / "data").mkdir()
    (private_cache / "data" / "ETTm1.csv").write_text("", encoding="utf-8")
    finished = cli("fetch")
    assert finished.returncode == 0
    rows = {line.split()[0]: line.split() for line in finished.stdout.splitlines() if line.strip()}
    assert set(CATALOGUE) <= set(rows)
    assert rows["smollm2-135m"][1:] == ["LLM", "89", "MiB", "Apache-2.0", "no", "llms/smollm2-135m"]
    assert rows["ETTm1"][-2:] == ["yes", "data/ETTm1.csv"]
    assert "owner/name" in finished.stdout


def test_the_list_as_json_is_one_object(cli: Cli, private_cache: Path) -> None:
    listing = last_json(cli("fetch", "--json"))
    assert listing["cache"] == str(private_cache)
    assert [entry["name"] for entry in listing["catalogue"]] == list(CATALOGUE)
    assert listing["catalogue"][1] == {
        "name": "auckland-pedestrians",
        "kind": "data",
        "download_bytes": 2_390_271,
        "licence": "CC BY 4.0",
        "credit": CATALOGUE["auckland-pedestrians"].credit,
        "path": str(private_cache / "data" / "auckland-pedestrians.csv"),
        "present": False,
    }


def test_the_list_fits_a_terminal_of_80_columns(cli: Cli) -> None:
    assert max(map(len, cli("fetch", COLUMNS="80", TIMELLM_CACHE="cache").stdout.splitlines())) <= 80


def test_unknown_names_are_refused_before_anything_is_downloaded(cli: Cli, private_cache: Path) -> None:
    finished = cli("fetch", "ETTh1", "smolm2", "gpt2", "--mirror", "http://127.0.0.1:9/")
    assert finished.returncode == 2
    assert "'smolm2' is not known; did you mean 'smollm2-135m'?" in finished.stderr
    assert "'gpt2' is not known" in finished.stderr
    for name in (*CATALOGUE, "owner/name"):
        assert name in finished.stderr
    assert "Downloading" not in finished.stderr
    assert list(private_cache.iterdir()) == []


def test_a_mirror_serves_the_ett_files(cli: Cli, shared_dir: Path, private_cache: Path) -> None:
    mirror = (shared_dir / "data" / "ETT-small").as_uri()
    finished = cli("fetch", "ETTh1", "ETTh2", "--mirror", mirror)
    paths = {name: private_cache / "data" / f"{name}.csv" for name in ("ETTh1", "ETTh2")}
    assert finished.stdout == "".join(f"{name}: {path}\n" for name, path in paths.items())
    assert "Downloading ETTh1 (2 MiB)" in finished.stderr
    assert "CC BY-ND 4.0" in finished.stderr
    again = last_json(cli("fetch", "ETTh1", "--json", TIMELLM_MIRROR="http://127.0.0.1:9"))
    assert again == {"fetched": [{"name": "ETTh1", "path": str(paths["ETTh1"])}]}


def test_the_list_imports_nothing_heavy() -> None:
    program = (
        "import sys; from timellm_cli.commands import fetch; fetch.run([], mirror=None, offline=False, as_json=False); "
        "heavy = {'torch', 'transformers', 'numpy', 'pandas', 'matplotlib', 'huggingface_hub', 'gguf'}; "
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="a pseudo-terminal needs a POSIX system")
def test_a_terminal_gets_a_bar(shared_dir: Path, private_cache: Path) -> None:
    import os
    import pty

    mirror = (shared_dir / "data" / "ETT-small").as_uri()
    terminal, end = pty.openpty()
    command = [sys.executable, "-m", "timellm_cli", "fetch", "ETTh1", "--mirror", mirror]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120"}
    finished = subprocess.run(command, stdout=subprocess.PIPE, stderr=end, env=environment, check=False)
    seen = os.read(terminal, 1 << 16).decode()
    os.close(end)
    os.close(terminal)
    assert finished.returncode == 0
    assert "Downloading ETTh1" in seen
    assert "━" in seen
    assert "2.5/2.5 MiB" in seen


def test_nothing_is_fetched_offline(cli: Cli) -> None:
    for finished in (cli("fetch", "ETTh1", "--offline"), cli("fetch", "ETTh1", TIMELLM_OFFLINE="1")):
        assert finished.returncode == 2
        assert "nothing is fetched" in finished.stderr
    assert cli("fetch", TIMELLM_OFFLINE="1").returncode == 0
