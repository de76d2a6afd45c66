"""`timellm inspect` through the real command line."""

import json
import random
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Cli, last_json

FIRST_COLUMNS = "date,HUFL,HULL,MUFL,MULL,LUFL,LULL,OT"


def inspected(cli: Cli, *arguments: object) -> dict[str, Any]:
    return last_json(cli("inspect", "--json", *arguments))


def picked(record: dict[str, Any], *keys: str) -> tuple[Any, ...]:
    return tuple(record[key] for key in keys)


def test_the_plan_of_several_cards_has_their_connections(cli: Cli) -> None:
    plans = [
        last_json(cli("inspect", "--profile", "ettm1-qwen3b-6gb", "--gpu", "H100", "--json", "--batch-size", 32, *more))
        for more in ((), ("--processes", 4))
    ]
    one, four = (plan["memory"]["parts"] for plan in plans)
    assert "nccl" not in one and four["nccl"] == 776 * 2**20
    assert four["gradient_row"] == four["trainable_weights"]
    assert plans[1]["processes"]["each"] == 8
    assert four["patch_activations"] * 4 == one["patch_activations"]


def test_ettm1_is_the_default_subject_and_needs_no_file(cli: Cli) -> None:
    record = inspected(cli, "--seq-len", 512, "--batch-size", 8)
    counts = picked(record, "windows", "channels", "dataset_len", "steps_per_epoch", "patch_nums", "patches_per_step")
    assert counts == (33_953, 7, 237_671, 29_708, 64, 512)
    assert record["splits"] == {
        "train": {"rows": 34_560, "windows": 33_953, "samples": 237_671},
        "val": {"rows": 12_032, "windows": 11_425, "samples": 79_975},
        "test": {"rows": 12_032, "windows": 11_425, "samples": 79_975},
    }
    assert picked(record, "total_steps", "samples_dropped_per_epoch") == (297_080, 7)
    assert picked(record, "step_checkpoints_written", "step_checkpoints_kept") == (297, 3)
    assert picked(record, "dataset", "data_file_present", "ready") == ("ETTm1", False, False)


@pytest.mark.parametrize(
    ("features", "samples", "steps"), [("M", 58_023, 29_011), ("S", 8_289, 4_144), ("MS", 58_023, 29_011)]
)
def test_etth1_by_features(cli: Cli, features: str, samples: int, steps: int) -> None:
    record = inspected(cli, "--dataset", "ETTh1", "--seq-len", 256, "--batch-size", 2, "--features", features)
    assert picked(record, "windows", "dataset_len", "steps_per_epoch") == (8_289, samples, steps)
    assert picked(record, "patch_nums", "patches_per_step") == (32, 64)


def test_a_real_file_gives_the_same_counts_as_what_is_known(cli: Cli, shared_dir: Path) -> None:
    path = shared_dir / "data" / "ETT-small" / "ETTh1.csv"
    arguments = ("--dataset", "ETTh1", "--seq-len", 256, "--batch-size", 2)
    known, counted = inspected(cli, *arguments), inspected(cli, *arguments, "--data-path", path)
    assert counted["data_file_present"] and not known["data_file_present"]
    assert counted["splits"] == known["splits"]
    assert counted["columns"] == known["columns"] == FIRST_COLUMNS.split(",")[1:]


def test_a_custom_csv_is_split_by_ratio(cli: Cli, tmp_path: Path) -> None:
    numbers, first = random.Random(1), datetime(2021, 3, 1)
    lines = [FIRST_COLUMNS]
    for row in range(12_194):
        values = ",".join(f"{numbers.random():.4f}" for _ in range(7))
        lines.append(f"{first + timedelta(hours=row)},{values}")
    (tmp_path / "own.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    record = inspected(cli, "--dataset", "custom", "--data-path", "own.csv", "--seq-len", 256)
    assert record["rows"] == 12_194
    assert record["windows"] == int(0.7 * 12_194) - 256 - 96 + 1 == 8_184
    assert record["splits"]["test"]["rows"] == int(0.2 * 12_194) + 256


@pytest.mark.parametrize("dataset", ["Weather", "ILI"])
def test_a_known_dataset_that_is_the_users_own_file_is_counted_without_it(cli: Cli, dataset: str) -> None:
    finished = cli("inspect", "--dataset", dataset, "--llm", "none", "--seq-len", 36, "--pred-len", 24)
    assert finished.returncode == 0, finished.stderr
    assert "as known of this dataset; its file is not here" in finished.stdout and "to do  data" in finished.stdout


def test_the_llm_is_described_from_the_table(cli: Cli) -> None:
    llm = inspected(cli)["llm"]
    assert picked(llm, "name", "origin", "architecture", "exact") == ("Qwen/Qwen2.5-3B", "table", "qwen2", True)
    assert picked(llm, "layers_used", "layers", "hidden_size", "vocabulary") == (6, 36, 2048, 151_936)
    assert picked(llm, "parameters_used", "parameters") == (773_628_928, 3_085_938_688)


def test_the_llm_is_described_from_a_local_folder(cli: Cli, tiny_llm: Path) -> None:
    record = inspected(cli, "--llm", tiny_llm, "--layers", 2)
    assert picked(record["llm"], "origin", "layers_used", "hidden_size") == (str(tiny_llm), 2, 32)
    assert record["tokens"]["exact"]


def test_the_code_path_of_a_run_is_shown(cli: Cli) -> None:
    ours, theirs = inspected(cli, "--vram", "6GiB"), inspected(cli, "--llm", "gpt2")
    assert ours["path"] == {"code": "decoder", "reason": None, "captured": True, "recompute": False}
    reason = "gpt2 is none of llama, mistral, qwen2, qwen3"
    assert theirs["path"] == {
        "code": "transformers_two_passes", "reason": reason, "captured": False, "recompute": False,
    }  # fmt: skip
    shown = cli("inspect", "--vram", "6GiB", "--layers", "all", "--batch-size", 64, "--quantization", "nf4").stdout
    assert re.search(r"path +our own decoder +prompt and patches in one pass", shown)
    assert re.search(r"step +captured +as a CUDA graph; layers are computed again", shown)
    assert re.search(r"Largest batch that fits: \d+ samples, or \d+ with recompute", shown)
    assert f"prompt read apart: {reason}" in cli("inspect", "--llm", "gpt2").stdout
    assert re.search(r"step +not captured +layers are kept", cli("inspect", "--device", "cpu").stdout)
    without = cli("inspect", "--llm", "none").stdout
    assert re.search(r"path +no LLM", without) and not re.search("step +not captured", without)


def test_capture_on_a_cpu_is_refused_with_its_reason(cli: Cli) -> None:
    checks = inspected(cli, "--device", "cpu", "--capture", "on")["checks"]
    (found,) = [check for check in checks if check["name"] == "capture"]
    assert (found["ok"], found["remedy"]) == (False, "use --capture auto")


def test_tokens_add_up(cli: Cli) -> None:
    tokens = inspected(cli, "--batch-size", 8)["tokens"]
    assert tokens["prompt"] == tokens["prompt_static"] + tokens["prompt_per_sample"]
    assert tokens["per_sample"] == tokens["prompt"] + 64
    assert tokens["per_step"] == 8 * tokens["per_sample"]


def test_the_six_gigabyte_profiles_fit_six_gigabytes(cli: Cli) -> None:
    for profile, layers in (("ettm1-qwen3b-6gb", 6), ("ettm1-qwen3b-6gb-full", 36)):
        record = inspected(cli, "--profile", profile)
        memory = record["memory"]
        assert picked(record["llm"], "layers_used", "quantization") == (layers, "nf4")
        assert picked(memory, "kind", "budget", "budget_source", "fits") == ("GPU", 6 * 2**30, "hardware.vram", True)
        assert memory["total"] == sum(memory["parts"].values())
        assert memory["parts"]["linear_weights"] == layers * 77_070_336 // 2
        assert memory["largest_batch"] >= 8
        assert memory["published_total"] > 2 * memory["total"]


def test_a_flag_for_memory_wins_over_the_profile(cli: Cli) -> None:
    memory = inspected(cli, "--profile", "ettm1-qwen3b-6gb-full", "--vram", "2GiB")["memory"]
    assert picked(memory, "budget", "fits") == (2 * 2**30, False)
    assert memory["largest_batch"] < 8


def test_where_nothing_fits_the_advice_names_only_what_helps(cli: Cli) -> None:
    shown = " ".join(cli("inspect", "--vram", "600MB", "--quantization", "nf4").stdout.split())
    assert "(hardware.vram): does not fit" in shown
    assert "Not even one sample fits" in shown
    assert "use fewer --layers or a smaller --llm" in shown
    assert "--quantization nf4 or" in cli("inspect", "--vram", "600MB", "--quantization", "none").stdout


def test_every_number_of_memory_is_a_whole_number_of_bytes(cli: Cli) -> None:
    memory = inspected(cli, "--vram", "6GiB")["memory"]
    sizes = [memory["total"], memory["budget"], *memory["parts"].values(), *memory["published_parts"].values()]
    assert all(type(size) is int for size in sizes)


def test_what_is_missing_is_said_with_the_command_that_mends_it_and_is_no_error(cli: Cli) -> None:
    finished = cli("inspect")
    assert finished.returncode == 0
    assert "Not ready to train yet" in finished.stdout
    assert "timellm fetch ETTm1" in finished.stdout
    assert "timellm fetch Qwen/Qwen2.5-3B" in finished.stdout


def test_a_run_that_can_start_is_ready(cli: Cli, small_csv: Path, tiny_llm: Path) -> None:
    arguments = ("--dataset", "custom", "--data-path", small_csv, "--llm", tiny_llm, "--layers", 2, "--d-ff", 16)
    record = inspected(cli, *arguments, "--seq-len", 48, "--pred-len", 12, "--device", "cpu")
    assert record["ready"], record["checks"]
    assert record["memory"]["kind"] == "RAM"


def test_an_unknown_llm_is_answered_with_the_nearest_and_the_counts(cli: Cli) -> None:
    record = inspected(cli, "--llm", "Qwen/Qwen2.5-3b")
    assert picked(record, "memory", "steps_per_epoch") == (None, 29_708)
    (check,) = [check for check in record["checks"] if check["name"] == "LLM"]
    assert "did you mean 'Qwen/Qwen2.5-3B'?" in check["detail"]


def test_a_custom_dataset_without_its_file_is_a_data_error(cli: Cli) -> None:
    finished = cli("inspect", "--dataset", "custom", "--data-path", "absent.csv")
    assert finished.returncode == 3
    assert "absent.csv" in finished.stderr and finished.stdout == ""


def test_the_prompt_of_the_first_sample_is_shown(cli: Cli, shared_dir: Path) -> None:
    path = shared_dir / "data" / "ETT-small" / "ETTh1.csv"
    record = inspected(cli, "--dataset", "ETTh1", "--data-path", path, "--seq-len", 256, "--show-prompt")
    expected = r"previous 256 steps information; Input statistics: min value -\d\.\d{3}, .*: \[0, 1, 255, 2, 254\]"
    assert re.search(expected, record["prompt"])
    shown = cli("inspect", "--dataset", "ETTh1", "--data-path", path, "--seq-len", 256, "--show-prompt").stdout
    assert "Prompt of the first training sample" in shown
    assert record["prompt"] in " ".join(shown.split())


def test_without_a_file_the_prompt_is_marked_as_made_up(cli: Cli) -> None:
    shown = cli("inspect", "--show-prompt").stdout
    assert "Prompt with made-up statistics: the data file is not here" in shown
    assert "<|start_prompt|>" in shown
    assert inspected(cli, "--show-prompt")["prompt"] is None


def test_a_shortcut_and_random_weights_are_shown(cli: Cli) -> None:
    told = cli("inspect", "--shortcut=linear", "--llm-weights=random", "--seed=7", "--explain", "--vram=6GiB").stdout
    assert "49,248 of them in the shortcut" in " ".join(told.split())
    assert "drawn under train.seed 7; nothing is pretrained" in " ".join(told.split())
    assert "the shortcut's" not in cli("inspect", "--explain", "--vram=6GiB").stdout


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("profile", ["ettm1-qwen3b-6gb-full", "etth1-llama3-8b-t4", "quickstart"])
def test_tables_fit_the_terminal_and_are_never_cut(cli: Cli, width: int, profile: str) -> None:
    finished = cli("inspect", "--profile", profile, "--explain", COLUMNS=str(width))
    lines = finished.stdout.splitlines()
    assert max(map(len, lines)) <= width
    assert "…" not in finished.stdout
    numbers = [line for line in lines if re.match(r" (dataset_len|steps_per_epoch|total_steps) ", line)]
    ends = {re.search(r"[\d,]+", line).end() for line in numbers}  # type: ignore[union-attr]
    assert len(numbers) == 3 and len(ends) == 1


@pytest.mark.parametrize("line", [20, 200])
def test_a_gap_anywhere_is_found_before_a_run(cli: Cli, small_csv: Path, line: int) -> None:
    lines = small_csv.read_text(encoding="utf-8").splitlines()
    small_csv.write_text("\n".join([*lines[:line], *lines[line + 1 :]]) + "\n", encoding="utf-8")
    arguments = ("--dataset", "custom", "--data-path", small_csv, "--seq-len", 48, "--pred-len", 12, "--llm", "none")
    record = inspected(cli, *arguments)
    (found,) = [check for check in record["checks"] if not check["ok"]]
    assert (found["name"], record["ready"]) == ("data", False)
    assert f"line {line + 1}: a gap" in found["detail"]
    assert inspected(cli, *arguments, "--fill", "linear")["ready"]


def test_json_goes_to_stdout_alone(cli: Cli) -> None:
    finished = cli("inspect", "--json", "--explain", "--show-prompt")
    assert json.loads(finished.stdout)["dataset"] == "ETTm1"
    assert finished.stderr == ""


def test_a_named_card_is_planned_for_without_being_here(cli: Cli) -> None:
    record = inspected(cli, "--profile", "ettm1-qwen3b-6gb", "--gpu", "Tesla T4")
    memory = record["memory"]
    assert memory["budget_source"] == "T4"
    assert 14 * 2**30 < memory["budget"] < 15 * 2**30
    assert record["llm"]["precision"] == "fp16"
    assert inspected(cli, "--gpu", "RTX 3060")["llm"]["precision"] == "bf16"


def test_a_named_card_that_is_too_small_is_said_among_what_is_missing(cli: Cli) -> None:
    record = inspected(cli, "--gpu", "RTX 2060", "--layers", "all", "--batch-size", 4096)
    assert record["memory"]["fits"] is False
    assert any(check["name"] == "memory" and not check["ok"] for check in record["checks"])


def test_a_card_and_a_memory_cannot_both_be_planned_for(cli: Cli) -> None:
    finished = cli("inspect", "--gpu", "T4", "--vram", "6GiB")
    assert finished.returncode == 2
    assert "--gpu T4 and --vram 6GiB" in finished.stderr


def test_the_time_of_an_epoch_is_estimated_where_the_card_is_named(cli: Cli) -> None:
    profile = ("--profile", "ettm1-qwen3b-6gb")
    slow, fast = (inspected(cli, *profile, "--gpu", card)["time"] for card in ("RTX 3060", "H100"))
    assert slow["card"] == "RTX 3060"
    assert slow["step"] > 3 * fast["step"]
    assert fast["epoch"] == pytest.approx(29_708 * fast["step"] + fast["scoring"])
    assert inspected(cli, *profile)["time"] is None
    shown = " ".join(cli("inspect", *profile, "--gpu", "RTX 3060").stdout.split())
    assert re.search(r"an epoch takes [\d:]+ about, on RTX 3060: estimated, [\d:]+ of it for scoring", shown)


def test_a_run_that_does_not_fit_is_told_what_buys_room_and_one_that_fits_only_if_asked(cli: Cli) -> None:
    big = ["--layers", "all", "--gpu", "RTX 4060", "--quantization", "none", "--llm", "Qwen/Qwen2.5-7B"]
    told = cli("inspect", *big, COLUMNS="80").stdout
    assert "What needs less memory" in told and "--quantization nf4" in told
    assert max(map(len, told.splitlines())) <= 80
    remedy = next(check for check in inspected(cli, *big)["checks"] if check["name"] == "memory")["remedy"]
    assert "--quantization nf4" in remedy
    assert "What needs less memory" not in cli("inspect", "--gpu", "RTX 4060").stdout
    assert "What needs less memory" in cli("inspect", "--gpu", "RTX 4060", "--explain").stdout


def test_a_sweep_prints_a_line_for_each_value(cli: Cli) -> None:
    swept = ["inspect", "--gpu", "RTX 4060", "--sweep", "batch_size=4,64,1000000"]
    lines = cli(*swept, COLUMNS="80").stdout.splitlines()
    small, large, impossible = (next(line for line in lines if line.split()[:1] == [n]) for n in ("4", "64", "1000000"))
    assert small.rstrip().endswith("fits") and large.rstrip().endswith("fits")
    assert impossible.rstrip().endswith("cannot be")
    assert "1000000: the training split has 237,671 samples, fewer than one batch" in " ".join(lines)
    note = "largest batch: with recompute, where that gives more"
    assert note in " ".join(lines)
    assert note not in cli(*swept, "--recompute", "off").stdout
    record = last_json(cli(*swept, "--json"))
    assert record["key"] == "train.batch_size"
    small, large, impossible = record["values"]
    assert small["total"] < large["total"] and small["epoch"] > large["epoch"] > 0
    assert (small["fits"], small["steps_per_epoch"]) == (True, 59_417)
    assert impossible["total"] is None and "fewer than one batch" in impossible["fault"]


def test_what_was_found_in_a_file_is_said(cli: Cli, tmp_path: Path) -> None:
    lines = ["id,date,OT,pump", *(f"{row},2024-01-01 {row % 24:02d}:00,{row},on" for row in range(24))]
    lines += [f"{24 + row},2024-01-02 {row % 24:02d}:00,{-9999 if row == 5 else row},on" for row in range(24)]
    path = tmp_path / "notes.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    command = (
        "inspect",
        "--dataset=custom",
        "--data-path",
        path,
        "--llm=none",
        "--patch-len=8",
        "--seq-len=8",
        "--pred-len=1",
    )
    plain = last_json(cli(*command, "--json"))
    shown = " ".join(cli(*command).stdout.split())
    found = "column 'id' numbers the rows", "column 'pump' has 'on' in every row", "column 'OT' has -9999 in 1 row "
    for words in found:
        assert any(words in note for note in plain["data_notes"])
        assert words in shown


def test_a_fitted_shortcut_adds_the_map_to_the_bill_and_a_scoring_to_the_time(cli: Cli) -> None:
    profile = ("--profile", "ettm1-qwen3b-6gb", "--gpu", "H100", "--explain")
    told, linear = (
        " ".join(cli("inspect", *profile, f"--shortcut={kind}").stdout.split()) for kind in ("fitted", "linear")
    )
    assert "linear map of the shortcut 192 KiB 512 rows x 96 steps x 4 bytes, frozen" in told
    assert "49,248 of them in the shortcut" in told
    assert re.search(r"epoch 0 takes [\d:]+ about: what the model starts from is scored first", told)
    assert "epoch 0 takes" not in linear and "linear map of the shortcut" not in linear
