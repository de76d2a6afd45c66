"""`timellm eval --report` on a run that was really trained."""

import html
import re
import shlex
from pathlib import Path

import torch

from tests.commands.conftest import Arguments
from tests.conftest import Cli
from timellm_cli.training.checkpoint import load_checkpoint


def test_a_trained_runs_page_has_losses_memory_and_bands_and_its_command_repeats_the_run(
    cli: Cli, arguments: Arguments, tmp_path: Path
) -> None:
    assert cli(*arguments()).returncode == 0
    finished = cli("eval", "checkpoints/run/best.pt", "--report", "report.html")
    assert finished.returncode == 0, finished.stderr
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for words in ("run: loss", 'class="line validation"', "of RAM at most", "80 % bands held", "80 % band</span>"):
        assert words in page
    assert "one seed" in page

    train, evaluate = (html.unescape(command) for command in re.findall(r"<pre>(.*?)</pre>", page))
    assert evaluate == f"timellm eval {Path('checkpoints/run/best.pt')} --report report.html"
    again = cli(*shlex.split(train.replace("\\", "/"))[1:])
    assert again.returncode == 0, again.stderr
    ours, theirs = (load_checkpoint(tmp_path / "checkpoints" / name / "best.pt") for name in ("run", "run-again"))
    assert ours.weights.keys() == theirs.weights.keys()
    assert all(torch.equal(weight, theirs.weights[name]) for name, weight in ours.weights.items())
