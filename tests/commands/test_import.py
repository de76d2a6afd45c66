"""A checkpoint of the original becomes one of ours and forecasts, through the real command line."""

import json
from pathlib import Path

from tests.conftest import Cli


def write_hourly_csv(path: Path, rows: int = 600) -> None:
    import math
    from datetime import datetime, timedelta

    first = datetime(2024, 1, 1)
    lines = ["date,OT"]
    lines += [f"{first + timedelta(hours=row)},{5 + math.sin(row / 4):.4f}" for row in range(rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def original_flags(folder: Path, csv: Path) -> list[object]:
    arguments = json.loads((folder / "args.json").read_text(encoding="utf-8"))
    return [
        "--dataset", "custom", "--data-path", csv, "--llm", folder / "llm", "--layers", arguments["llm_layers"],
        "--seq-len", arguments["seq_len"], "--pred-len", arguments["pred_len"], "--patch-len", arguments["patch_len"],
        "--patch-stride", arguments["stride"], "--d-model", arguments["d_model"], "--d-ff", arguments["d_ff"],
        "--n-heads", arguments["n_heads"], "--decimals", "all", "--device", "cpu",
    ]  # fmt: skip


def test_an_imported_checkpoint_forecasts_in_the_units_of_the_csv(cli: Cli, golden_llama: Path, tmp_path: Path) -> None:
    folder = golden_llama
    csv = tmp_path / "hourly.csv"
    write_hourly_csv(csv)
    imported = cli("import", folder / "checkpoint", "-o", "ours.pt", *original_flags(folder, csv))
    assert imported.returncode == 0, imported.stderr
    assert (tmp_path / "ours.pt").stat().st_size < 1_500_000
    forecast = cli("predict", "ours.pt", csv)
    assert forecast.returncode == 0, forecast.stderr
    lines = forecast.stdout.splitlines()
    assert lines[0] == "date,OT" and len(lines) == 1 + 24
    assert lines[1].startswith("2024-01-26 00:00:00,")

    again = cli("import", folder / "checkpoint", "-o", "ours.pt", *original_flags(folder, csv))
    assert again.returncode == 2 and "exists already" in again.stderr


def test_wrong_settings_and_wrong_files_are_one_clear_error_each(
    cli: Cli, golden_llama: Path, tiny_llm: Path, tmp_path: Path
) -> None:
    folder = golden_llama
    csv = tmp_path / "hourly.csv"
    write_hourly_csv(csv)
    flags = original_flags(folder, csv)
    wrong_width = cli("import", folder / "checkpoint", *flags, "--set", "model.d_model=8")
    assert wrong_width.returncode == 4 and "instead of" in wrong_width.stderr
    other_llm = [tiny_llm if flag == folder / "llm" else flag for flag in flags]
    wrong_llm = cli("import", folder / "checkpoint", *other_llm)
    assert wrong_llm.returncode == 4 and "another LLM" in wrong_llm.stderr
    (tmp_path / "no.pt").write_bytes(b"nothing")
    no_checkpoint = cli("import", "no.pt", *flags)
    assert no_checkpoint.returncode == 4 and "no checkpoint" in no_checkpoint.stderr
    absent = cli("import", "nowhere/checkpoint", *flags)
    assert absent.returncode == 4 and "not found" in absent.stderr
    too_few = cli("import", folder / "checkpoint", *flags, "--layers", 1)
    assert too_few.returncode == 4 and "trained with 2 layers of its LLM, but this model has 1" in too_few.stderr
    assert "--layers 2" in too_few.stderr
    for finished in (wrong_width, wrong_llm, no_checkpoint, absent, too_few):
        assert "Traceback" not in finished.stderr
        assert not (tmp_path / "imported.pt").exists()
