"""Help pages: ten options that matter first, nothing cut at 80 and at 60 columns; what the shell is offered."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from tests.conftest import Cli
from timellm_cli import completion
from timellm_cli.cli import app
from timellm_cli.config import FIELDS, flag_of
from timellm_cli.report.help_page import EXAMPLES, FIRST

COMMANDS = dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("verb", sorted(FIRST))
@pytest.mark.parametrize("columns", ["80", "60"])
def test_a_page_shows_ten_options_whole_with_an_example(cli: Cli, verb: str, columns: str) -> None:
    page = cli(verb, "--help", COLUMNS=columns).stdout
    shown = re.findall(r"^  (?:-\w, )?(--[\w-]+)", page, re.MULTILINE)
    assert shown[:10] == list(FIRST[verb])
    assert len(FIRST[verb]) == 10
    assert EXAMPLES[verb] in page
    assert "--help-all" in page
    assert max(map(len, page.splitlines())) <= int(columns)
    assert "…" not in page


@pytest.mark.parametrize("columns", ["80", "60"])
def test_help_all_shows_every_option_and_what_it_takes(cli: Cli, columns: str) -> None:
    for verb, command in COMMANDS.items():
        page = cli(verb, "--help-all", COLUMNS=columns).stdout
        words = set(re.findall(r"--?[\w-]+", page))
        named = {name for one in command.params if one.param_type_name == "option" for name in one.opts}
        assert named <= words, verb
        assert "…" not in page and "INT" not in page.split()
    page = cli("train", "--help-all", COLUMNS=columns).stdout
    for key in FIELDS:
        assert flag_of(key) in page
    assert "--batch-size auto|NUMBER" in page and "--learning-rate NUMBER" in page and "--features M|S|MS" in page


def test_every_verb_has_an_example(cli: Cli) -> None:
    assert COMMANDS.keys() <= EXAMPLES.keys()
    overview = cli("--help").stdout
    for verb in COMMANDS:
        assert f"\n  {verb}\n" in overview
    assert "quickstart" in cli("profiles", "show", "--help").stdout


def test_the_shell_is_offered_what_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sales.csv").write_text("", encoding="utf-8")
    (tmp_path / "notes.md").write_text("", encoding="utf-8")
    run = tmp_path / "checkpoints" / "run"
    run.mkdir(parents=True)
    for name in ("best.pt", "last.pt", "config.toml"):
        (run / name).write_text("", encoding="utf-8")
    assert completion.tables("sa") == ["sales.csv"]
    assert "ETTm1" in completion.tables("ett") and "notes.md" not in completion.tables("")
    assert [Path(path) for path in completion.checkpoints("checkpoints/run/b")] == [Path("checkpoints/run/best.pt")]
    assert "auto" in completion.resumable("") and not any("best" in path for path in completion.resumable(""))
    assert [Path(path).name for path in completion.configurations("checkpoints/run/")] == ["config.toml"]
    assert completion.profiles_that("quick") == ["quickstart"]
    assert "RTX 4060" in completion.cards("rtx 40")
    assert "Qwen/Qwen2.5-3B" in completion.llms("qwen/qwen2.5-3")
    assert "smollm2-135m" in completion.fetchable("smol")
    assert completion.files("no/such/folder/x", (".csv",)) == []


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("timellm inspect --gpu RTX", "RTX 4060"),
        ("timellm train --dataset ETTh", "ETTh1"),
        ("timellm train --schedule ", "onecycle"),
        ("timellm train -p quick", "quickstart"),
    ],
)
def test_the_shell_completes_the_words_of_a_command(words: str, offered: str) -> None:
    program = "import sys; sys.argv = ['timellm']; from timellm_cli.cli import main; main()"
    variables = {**os.environ, "_TIMELLM_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": words}
    finished = subprocess.run(
        [sys.executable, "-c", program], env=variables, capture_output=True, encoding="utf-8", check=False
    )
    assert offered in finished.stdout, finished.stderr
