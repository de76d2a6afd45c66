"""`train --report-to`: stand-ins for four trackers get the figures of a training; a failing one ends nothing."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.commands.conftest import Arguments, arguments  # noqa: F401  a fixture
from tests.conftest import Cli, last_json


def stand_in(name: str, calls: list[tuple]) -> SimpleNamespace:
    """A module with the functions of a tracker, which writes down its calls."""

    def noted(what: str, result: object = None):
        def call(*words: object, **named: object) -> object:
            calls.append((what, words, named))
            return result

        return call

    run = SimpleNamespace(log=noted("log"), finish=noted("finish"))
    writer = SimpleNamespace(add_scalar=noted("log"), add_text=noted("text"), close=noted("finish"))
    return {
        "tensorboard": SimpleNamespace(SummaryWriter=noted("init", writer)),
        "wandb": SimpleNamespace(init=noted("init", run)),
        "swanlab": SimpleNamespace(init=noted("init"), log=noted("log"), finish=noted("finish")),
        "mlflow": SimpleNamespace(
            set_experiment=noted("project"), start_run=noted("init"), log_params=noted("text"),
            log_metrics=noted("log"), end_run=noted("finish"),
        ),
    }[name]  # fmt: skip


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "swanlab", "mlflow"])
def test_a_tracker_gets_losses_scores_and_the_end(
    cli: Cli,
    arguments: Arguments,  # noqa: F811
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[tuple] = []
    module = "torch.utils.tensorboard" if name == "tensorboard" else name
    monkeypatch.setitem(sys.modules, module, stand_in(name, calls))
    assert cli(*arguments("--max-steps", 3, "--report-to", name)).returncode == 0
    kinds = [what for what, _, _ in calls]
    assert "init" in kinds and kinds[-1] == "finish"
    logged = json.dumps([(words, named) for what, words, named in calls if what == "log"])
    for figure in ("train/loss", "train/learning_rate", "val/mse", "test/mae", "memory/bytes"):
        assert figure in logged
    assert kinds.count("finish") == 1


def test_a_tracker_that_is_absent_is_named_before_anything_is_trained(
    cli: Cli,
    arguments: Arguments,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    finished = cli(*arguments("--report-to", "wandb"))
    assert finished.returncode == 2
    assert "wandb is not installed" in finished.stderr and "pip install wandb" in finished.stderr
    assert not (tmp_path / "checkpoints").exists()


def test_a_tracker_that_fails_is_a_note_and_the_training_goes_on(
    cli: Cli,
    arguments: Arguments,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = stand_in("swanlab", [])

    def fail(*_: object, **__: object) -> None:
        raise OSError("no network")

    module.log = fail
    monkeypatch.setitem(sys.modules, "swanlab", module)
    finished = cli(*arguments("--max-steps", 3, "--report-to", "swanlab"))
    assert finished.returncode == 0
    assert finished.stderr.count("swanlab failed (no network)") == 1


def test_json_is_one_object_and_quiet_prints_errors_alone(
    cli: Cli,
    arguments: Arguments,  # noqa: F811
) -> None:
    finished = cli(*arguments("--max-steps", 3, "--json", "--quiet"))
    record = last_json(finished)
    assert finished.stderr == ""
    assert record["step"] == 3 and record["best"]["val_mse"] > 0 and record["checkpoint"].endswith("best.pt")
    again = cli(*arguments("--quiet"))
    assert again.returncode == 2 and "already holds a run" in again.stderr
    seeds = last_json(cli(*arguments("--max-steps", 2, "--run-name", "s", "--seeds", 2, "--json", "--quiet")))
    assert len(seeds["runs"]) == 2


def test_tables_in_a_pipe_have_no_lines_and_a_prediction_says_where_it_went(
    cli: Cli,
    arguments: Arguments,  # noqa: F811
    small_csv: Path,
) -> None:
    trained = cli(*arguments())
    assert trained.returncode == 0
    assert not set("│┃━─┏└") & set(trained.stdout)
    bands = cli("predict", "checkpoints/run/best.pt", small_csv, "-o", "f.csv", "--levels", "80", "--plot", "f.png")
    assert "wrote f.csv: 12 rows, with bands of 80 %" in bands.stderr and "drew f.png" in bands.stderr
    assert "80 % band," in bands.stderr
    none = cli("predict", "checkpoints/run/best.pt", small_csv, "-o", "g.csv")
    assert "without bands (--levels 80,95 adds them)" in none.stderr


def test_the_schema_has_every_key_with_its_meaning(cli: Cli) -> None:
    schema = last_json(cli("profiles", "--schema"))
    window = schema["$defs"]["WindowConfig"]["properties"]["seq_len"]
    assert window["description"].startswith("Rows of history") and window["minimum"] == 2
    assert schema["$defs"]["DataConfig"]["properties"]["features"]["enum"] == ["M", "S", "MS"]
    assert schema["additionalProperties"] is False
