"""`timellm eval` on checkpoints of small models."""

import shutil
import statistics
from pathlib import Path

import pytest
import torch

from tests.conftest import Cli, last_json
from tests.untrained import CPU, make_config, save_untrained
from timellm_cli.commands.eval import run
from timellm_cli.counts import count_run
from timellm_cli.data.windows import load_data
from timellm_cli.errors import ModelError
from timellm_cli.evaluation.score import score
from timellm_cli.splits import Series
from timellm_cli.training.checkpoint import load_checkpoint, load_runner

torch.set_num_threads(1)


@pytest.fixture
def run_a(small_csv: Path, tmp_path: Path) -> Path:
    return save_untrained(tmp_path / "checkpoints" / "run-a" / "best.pt", make_config(small_csv))


def test_checkpoints_and_baselines_stand_in_one_table(cli: Cli, run_a: Path, small_csv: Path, tiny_llm: Path) -> None:
    longer = make_config(small_csv, tiny_llm, window__seq_len=72)
    run_b = save_untrained(run_a.parent.parent / "run-b" / "best.pt", longer, seed=1)
    finished = cli("eval", run_a, run_b)
    assert finished.returncode == 0, finished.stderr
    assert "69 windows x 2 channels = 138 samples" in finished.stdout
    for word in ("run-a", "no LLM", "run-b", "2 layers", "last value", "seasonal naive", "24 rows (1 day)", "linear"):
        assert word in finished.stdout
    assert finished.stdout.count("best ") >= 1
    for part in ("1 to 3", "10 to 12", "load", "OT", "seq_len differs (run-a 48, run-b 72)"):
        assert part in " ".join(finished.stdout.split())


def test_json_agrees_with_scoring_in_this_process_at_any_batch_size(cli: Cli, run_a: Path) -> None:
    checkpoint = load_checkpoint(run_a)
    data = load_data(checkpoint.config)
    scores = score(load_runner(checkpoint, checkpoint.config, CPU), data, "test", 50)
    plain = last_json(cli("eval", run_a, "--json", "--batch-size", 7))
    assert (plain["windows"], plain["samples"], plain["channels"]) == (69, 138, ["load", "OT"])
    assert [entry["name"] for entry in plain["entries"]] == ["run-a", "last value", "seasonal naive", "linear"]
    ours = plain["entries"][0]
    assert (ours["mse"], ours["mae"]) == pytest.approx((scores.mse, scores.mae), abs=1e-6)
    assert ours["channels"]["OT"]["mse_raw"] == pytest.approx(scores.of_channel(1).mse_raw, abs=1e-6)
    assert ours["channels"]["OT"]["mae_raw"] == pytest.approx(scores.of_channel(1).mae_raw, abs=1e-6)
    assert len(ours["steps"]) == 12
    assert [(part["first"], part["last"]) for part in ours["parts"]] == [(1, 3), (4, 6), (7, 9), (10, 12)]
    assert [(run["name"], run["seed"], run["mse"]) for run in ours["runs"]] == [("run-a", 2021, ours["mse"])]
    assert (ours["mse_raw"], plain["best_baseline"], plain["best"]) == (None, "linear", "linear")


def test_seeds_of_one_run_become_a_mean_and_the_llm_is_judged_against_their_spread(
    cli: Cli, small_csv: Path, tiny_llm: Path, tmp_path: Path
) -> None:
    """Checkpoints given in any order; each seed's own figure stays visible."""
    paths = [
        save_untrained(tmp_path / f"{name}-seed{seed}" / "best.pt", make_config(small_csv, llm, train__seed=seed), seed)
        for seed in (1, 2)
        for name, llm in (("llm", tiny_llm), ("none", "none"))
    ]
    plain = last_json(cli("eval", *paths, "--json", "--limit", 9))
    ours, control = plain["entries"][:2]
    assert (ours["name"], control["name"], plain["entries"][2]["name"]) == ("llm", "none", "last value")
    assert [run["seed"] for run in ours["runs"]] == [1, 2]
    mses = [run["mse"] for run in ours["runs"]]
    assert ours["mse"] == pytest.approx(statistics.mean(mses), rel=1e-9)
    assert ours["mse_std"] == pytest.approx(statistics.stdev(mses), rel=1e-9)
    verdict = next(verdict for verdict in plain["verdicts"] if verdict["about"] == "LLM")
    assert (verdict["ours"], verdict["theirs"]) == ("llm", "none")
    assert verdict["difference"]["mean"] == pytest.approx(ours["mse"] - control["mse"], rel=1e-9)
    finished = cli("eval", *paths, "--limit", 9)
    assert f"± {ours['mse_std']:.4f}" in finished.stdout
    assert "deviation of 2 seeds" in " ".join(finished.stdout.split())
    assert f"{verdict['sentence']} ({verdict['evidence']})" in " ".join(finished.stdout.split())


def test_every_window_is_scored_whatever_stride_the_models_were_trained_with(
    cli: Cli, run_a: Path, small_csv: Path, tmp_path: Path
) -> None:
    """The weights are the same, and so are the figures."""
    config = make_config(small_csv, data__window_stride=7)
    assert count_run(Series.single(400), 2, None, config).test.windows == 10
    thinned = save_untrained(tmp_path / "thinned.pt", config)
    plain = last_json(cli("eval", run_a, thinned, "--json"))
    assert plain["windows"] == count_run(Series.single(400), 2, None, make_config(small_csv)).test.windows == 69
    assert "window_stride" not in plain
    assert plain["notes"] == []
    ours, theirs = plain["entries"][:2]
    assert (ours["name"], theirs["name"]) == ("run-a", "thinned")
    assert ours["steps"] == theirs["steps"]


def test_split_limit_and_another_csv(cli: Cli, small_csv: Path, tmp_path: Path) -> None:
    """In MS the target alone is scored; the checkpoint's scaler holds for the other CSV too."""
    config = make_config(small_csv, data__features="MS")
    checkpoint = save_untrained(tmp_path / "ms.pt", config)
    other = tmp_path / "other.csv"
    header, *rows = small_csv.read_text(encoding="utf-8").splitlines()
    doubled = []
    for row in rows:
        date, target, load = row.split(",")
        doubled.append(f"{date},{2 * float(target):.3f},{load}")
    other.write_text("\n".join([header, *doubled]), encoding="utf-8")

    first = last_json(cli("eval", checkpoint, "--split", "val", "--limit", 3, "--json"))
    assert (first["split"], first["windows"], first["samples"], first["channels"]) == ("val", 3, 3, ["OT"])
    single = first["entries"][0]
    assert single["mse_raw"] == pytest.approx(single["rmse_raw"] ** 2)
    assert single["mae_raw"] is not None
    trained_on = last_json(cli("eval", checkpoint, "--split", "train", "--limit", 3, "--json"))
    assert (trained_on["samples"], trained_on["channels"]) == (3, ["OT"])
    notes = " | ".join(first["notes"])
    for words in ("first 3 windows", "val split"):
        assert words in notes

    second = last_json(cli("eval", checkpoint, "--split", "val", "--limit", 3, "--csv", other, "--json"))
    assert second["csv"] == str(other)
    assert second["notes"][0].startswith("other.csv replaces the trained CSV")
    ours, theirs = (plain["entries"][1]["mae_raw"] for plain in (first, second))
    assert theirs == pytest.approx(2 * ours, rel=1e-4)
    assert second["entries"][1]["mae"] == pytest.approx(2 * first["entries"][1]["mae"], rel=1e-4)


def test_a_csv_without_the_columns_is_refused_naming_both_sides(cli: Cli, run_a: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("date,Load\n2024-01-01,1\n2024-01-02,2\n", encoding="utf-8")
    finished = cli("eval", run_a, "--csv", other)
    assert finished.returncode == 3
    for words in ("no column 'load', 'OT'", "its columns are 'date', 'Load'", "did you mean 'Load'?"):
        assert words in finished.stderr


def test_checkpoints_of_different_horizons_are_refused(cli: Cli, run_a: Path, small_csv: Path, tmp_path: Path) -> None:
    other = save_untrained(tmp_path / "longer.pt", make_config(small_csv, window__pred_len=24))
    finished = cli("eval", run_a, other)
    assert finished.returncode == 2
    assert "pred_len: 12 in run-a, but 24 in longer" in finished.stderr
    assert finished.stdout == ""


def test_a_csv_that_is_gone_is_named_with_the_remedy(cli: Cli, run_a: Path, small_csv: Path) -> None:
    small_csv.rename(small_csv.with_name("moved.csv"))
    finished = cli("eval", run_a)
    assert finished.returncode == 3
    assert f"{small_csv}" in finished.stderr
    assert "--csv FILE.csv" in finished.stderr
    assert cli("eval", run_a, "--csv", small_csv.with_name("moved.csv"), "--limit", 1).returncode == 0


def test_a_missing_llm_and_a_wrong_file_name_their_remedies(
    cli: Cli, small_csv: Path, tiny_llm: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "llm"
    shutil.copytree(tiny_llm, folder)
    checkpoint = save_untrained(tmp_path / "small.pt", make_config(small_csv, folder))
    shutil.rmtree(folder)
    finished = cli("eval", checkpoint)
    assert finished.returncode == 4
    assert f"trained with the LLM in '{folder}': put that folder back" in finished.stderr
    wrong = cli("eval", small_csv)
    assert wrong.returncode == 4
    assert "no timellm checkpoint" in wrong.stderr
    assert str(checkpoint) in wrong.stderr


def test_a_report_is_one_page_and_a_bad_path_for_it_is_refused_at_once(
    cli: Cli, run_a: Path, small_csv: Path, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    finished = cli("eval", run_a, "--limit", 5, "--report", page)
    assert finished.returncode == 0, finished.stderr
    assert f"Report: {page}" in finished.stderr
    text = page.read_text(encoding="utf-8")
    for words in ("small.csv", "run-a", "Worst: ", "no metrics.jsonl", f"--limit 5 --report {page}"):
        assert words in text
    for path, words in (
        (tmp_path, "is a folder"),
        (tmp_path / "no" / "r.html", "there is no folder"),
        (run_a, "lost"),
    ):
        refused = cli("eval", run_a, "--report", path)
        assert refused.returncode == 2
        assert words in refused.stderr


def test_zero_shot_scores_every_channel_of_another_dataset_by_its_own_scale(
    cli: Cli, run_a: Path, small_csv: Path, tmp_path: Path
) -> None:
    """The same rows under other names and in other units give the figures of the trained dataset."""
    lines = [line.split(",") for line in small_csv.read_text(encoding="utf-8").splitlines()[1:]]
    rows = [f"{date},{1000 * float(load):.0f},{target},{target}" for date, target, load in lines]
    other = tmp_path / "other.csv"
    other.write_text("\n".join(["时间,负荷,油温,copy", *rows]), encoding="utf-8")
    trained = last_json(cli("eval", run_a, "--json"))
    plain = last_json(cli("eval", run_a, "--zero-shot", other, "--json"))
    assert (plain["data"], plain["channels"], plain["samples"]) == ("other.csv", ["负荷", "油温", "copy"], 3 * 69)
    assert "zero-shot: trained on small.csv and scored on other.csv" in plain["notes"][0]
    for entry, known in zip(plain["entries"][:3], trained["entries"][:3], strict=True):
        for name, source in (("负荷", "load"), ("油温", "OT"), ("copy", "OT")):
            assert entry["channels"][name]["mse"] == pytest.approx(known["channels"][source]["mse"], rel=1e-3)
    refused = cli("eval", run_a, "--zero-shot", other, "--csv", other)
    assert refused.returncode == 2
    assert "--csv and --zero-shot cannot go together" in refused.stderr
    absent = cli("eval", run_a, "--zero-shot", "ETTh2")
    assert absent.returncode == 3
    assert "timellm fetch ETTh2" in absent.stderr


def test_a_model_too_large_for_the_gpu_is_one_clear_error_while_it_is_loaded(
    run_a: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_memory(*arguments: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 79 GiB. More advice.")

    monkeypatch.setattr("timellm_cli.forecasting.open_checkpoint.load_runner", out_of_memory)
    options = {"data_path": None, "zero_shot": None, "limit": None, "batch_size": None, "llm": None, "report": None}
    with pytest.raises(ModelError, match=r"out of memory: .*Tried to allocate 2.00 GiB") as refused:
        run([run_a], split="test", device="cpu", offline=True, as_json=True, **options)
    assert "--device cpu" in refused.value.hint


def test_copies_are_scored_once_and_files_of_one_training_are_no_seeds(
    cli: Cli, run_a: Path, small_csv: Path, tmp_path: Path
) -> None:
    copy, last = tmp_path / "copy.pt", run_a.with_name("last.pt")
    shutil.copy(run_a, copy)
    finished = cli("eval", run_a, copy, run_a.parent / ".." / "run-a" / "best.pt")
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr.count("a copy of it, and is scored once") == 2
    save_untrained(last, make_config(small_csv), seed=9)  # other weights of the same seed, as last.pt has
    plain = last_json(cli("eval", run_a, last, "--json"))
    models = [entry for entry in plain["entries"] if entry["kind"] == "model"]
    assert [entry["mse_std"] for entry in models] == [None, None]
    assert all(verdict["outcome"] in ("unknown", "higher", "lower") for verdict in plain["verdicts"])
    assert not any("95% interval" in str(verdict) for verdict in plain["verdicts"])
    assert any("two lines, not two seeds" in note for note in plain["notes"])


def test_a_file_that_changed_since_training_is_said_with_the_rows_that_were_trained_on(
    cli: Cli, run_a: Path, small_csv: Path
) -> None:
    lines = small_csv.read_text(encoding="utf-8").splitlines()
    small_csv.write_text("\n".join(lines[:301]) + "\n", encoding="utf-8")
    notes = " ".join(last_json(cli("eval", run_a, "--json"))["notes"])
    assert "the file is not the one that run-a was trained on; train: 280 rows" in notes
    assert "rows of this test split were trained on" in notes
    small_csv.write_text("\n".join(lines).replace("10.000", "10.001") + "\n", encoding="utf-8")
    assert "but with other values" in " ".join(last_json(cli("eval", run_a, "--json"))["notes"])


def test_a_training_that_added_nothing_to_the_linear_map_is_told_so(cli: Cli, small_csv: Path, tmp_path: Path) -> None:
    """With a learning rate that leads away from it at once, through the real command line."""
    trained = cli(
        "train", "--dataset=custom", f"--data-path={small_csv}", "--seq-len=48", "--pred-len=12", "--llm=none",
        "--d-model=8", "--d-ff=8", "--n-heads=2", "--num-prototypes=20", "--window-stride=4", "--epochs=1",
        "--shortcut=fitted", "--learning-rate=10", "--run-name=run", "--device=cpu",
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    assert "Best epoch: 0 of 1" in trained.stdout
    assert "Epoch: 0 | untrained | val loss: " in trained.stderr
    best, last = (tmp_path / "checkpoints" / "run" / name for name in ("best.pt", "last.pt"))
    plain = last_json(cli("eval", best, "--json"))
    ours = next(entry for entry in plain["entries"] if entry["name"] == "run")
    linear = next(entry for entry in plain["entries"] if entry["name"] == "linear")
    assert (ours["mse"], ours["mae"]) == pytest.approx((linear["mse"], linear["mae"]), rel=1e-3)
    assert [run["epoch"] for run in ours["runs"]] == [0]
    sentence = "Training added nothing to run: epoch 0, the linear map it started from, was the best."
    assert [one["sentence"] for one in plain["verdicts"] if one["about"] == "training"] == [sentence]
    report = tmp_path / "report.html"
    assert sentence in " ".join(cli("eval", best, "--report", report).stdout.split())
    assert "training added nothing" in report.read_text(encoding="utf-8")
    assert [run["epoch"] for run in last_json(cli("eval", last, "--json"))["entries"][0]["runs"]] == [1]
