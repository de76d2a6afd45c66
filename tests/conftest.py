"""What many tests need: shared reference data where present, a tiny LLM folder, a small CSV, the real command line."""

import json
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.command_line import Finished, run_here, run_process

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a background job, whose commands would ignore Ctrl-C too
    signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: the tests themselves run side by side

# No test depends on the clock: on a busy machine an example takes as long as it takes.
settings.register_profile("timellm", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("timellm")

REPOSITORY = Path(__file__).parent.parent
SHARED = REPOSITORY.parent / "shared"


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of reference numbers and real data beside a checkout; skips where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("the folder of reference data (../shared) is not beside this checkout")
    return SHARED


@pytest.fixture(scope="session")
def golden_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The original's checkpoint of a tiny Llama with its settings and numbers, put together from tests/golden."""
    from tests.golden.cut import join_llama

    return join_llama(tmp_path_factory.mktemp("golden"))


@pytest.fixture(autouse=True)
def private_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test sees an empty cache of its own and no hub cache, so that no test depends on what a person fetched."""
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("TIMELLM_CACHE", str(cache))
    monkeypatch.setenv("HF_HOME", str(cache / "huggingface"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.delenv("TIMELLM_OFFLINE", raising=False)
    return cache


@pytest.fixture(scope="session")
def tiny_llm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of 2 layers and hidden size 32 with random weights; its tokenizer maps a byte to its value."""
    folder = tmp_path_factory.mktemp("tiny-llama")
    write_tiny_llm(folder)
    return folder


def write_tiny_llm(folder: Path, layers: int = 2) -> None:
    """What `tiny_llm` describes."""
    import torch
    from transformers import LlamaConfig, LlamaModel

    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=257,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        pad_token_id=256,
        eos_token_id=256,
        bos_token_id=None,
    )
    LlamaModel(config).save_pretrained(folder)
    write_byte_tokenizer(folder)


def write_byte_tokenizer(folder: Path) -> None:
    """Save a tokenizer whose ids are byte values, 256 being the end of text."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = _bytes_to_characters()
    tokenizer = Tokenizer(models.BPE(vocab={character: byte for byte, character in alphabet.items()}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<|endoftext|>", special=True)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|endoftext|>", pad_token="<|endoftext|>", model_max_length=4096
    ).save_pretrained(folder)


def _bytes_to_characters() -> dict[int, str]:
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + rank) for rank, byte in enumerate(rest)}


@pytest.fixture
def small_csv(tmp_path: Path) -> Path:
    """Four hundred hourly rows of two channels, `load` and `OT`: daily waves with a slow drift, exact to 3 decimals."""
    path = tmp_path / "small.csv"
    write_small_csv(path)
    return path


def write_small_csv(path: Path) -> None:
    """What `small_csv` describes."""
    import math
    from datetime import datetime, timedelta

    first = datetime(2024, 1, 1)
    lines = ["date,OT,load"]
    for row in range(400):
        wave = math.sin(2 * math.pi * row / 24)
        lines.append(
            f"{first + timedelta(hours=row)},{10 + 3 * wave + row / 200:.3f},{50 - 8 * wave + (row % 7) / 10:.3f}"
        )
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


Cli = Callable[..., Finished]


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """Runs the real command line in this process, from an empty folder; returns what a finished process would."""
    return partial(_call, run_here, tmp_path)


@pytest.fixture
def cli_process(tmp_path: Path) -> Cli:
    """As `cli`, in a new process: for tests of imports, streams, signals and variables that are read at import."""
    return partial(_call, run_process, tmp_path)


def _call(
    run: Callable[..., Finished], folder: Path, *arguments: object, cwd: Path | None = None, **others: str
) -> Finished:
    return run([*map(str, arguments)], cwd or folder, **others)


def last_json(finished: Finished) -> dict:
    """The JSON object a command printed on stdout."""
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)
