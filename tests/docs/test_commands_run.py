"""Every command in the code blocks of the documentation runs, page by page and in its order, as a reader would type it.

A tiny LLM and short tables have the names of the real ones, and a training takes two steps. What cannot run here
is run as something else: REPLACED lists it.
"""

import shlex
import shutil
from glob import glob, has_magic
from pathlib import Path

import polars as pl
import pytest

from tests.command_line import Finished, run_here
from tests.conftest import REPOSITORY, write_tiny_llm
from tests.docs.pages import PAGES, block_commands, name_of
from timellm_cli.datasets import DATASETS
from timellm_cli.settings import profile_names, resolve

LLM = "smollm2-135m"
GPU_PROFILES = {name for name in profile_names() if resolve(name, None, {}, []).config.llm.name != LLM}
REPLACED = {
    "fetch": "needs the network: the catalogue is listed instead",
    "eval --baselines": "needs the extra `baselines`, which asks for another pandas: `eval` without it",
    "train --report-to": "needs the package of a tracker: `inspect` without it",
    "train --processes": "needs two processes, tests/processes starts them: `inspect` with the same options",
    "train with what must be fetched": "needs the LLM or the data, a GPU or hours: `inspect` with the same options",
    "import of a checkpoint": "needs a checkpoint of the original: the import of a script instead",
}
PAGES_WITH_COMMANDS = [page for page in PAGES if block_commands(page)]


def replaced(words: list[str]) -> str | None:
    """The entry of REPLACED that a command is under, if it is."""
    if words[0] == "fetch":
        return "fetch"
    text = " ".join(words)
    if words[0] == "train" and (GPU_PROFILES & set(words) or "ETTm1" in text or "Qwen" in text or "2019" in text):
        return "train with what must be fetched"
    if "--baselines" in words:
        return "eval --baselines"
    if words[0] == "train" and "--processes" in words:
        return "train --processes"
    if "--report-to" in words:
        return "train --report-to"
    if words[0] == "import" and "run_main" not in text and not words[1].endswith((".sh", ".ps1", ".bat")):
        return "import of a checkpoint"
    return None


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the pages name, a cache with the stand-ins, and a checkpoint."""
    folder = tmp_path_factory.mktemp("reader")
    write_stand_ins(folder / "cache")
    shutil.copytree(REPOSITORY / "examples", folder / "examples")
    sales = (folder / "examples" / "sales.csv").read_text(encoding="utf-8").splitlines()
    (folder / "sales.csv").write_text("\n".join(sales[:400]) + "\n", encoding="utf-8")
    shutil.copy(folder / "sales.csv", folder / "newer.csv")
    (folder / "shops").mkdir()
    long = ["shop,date,sales"]
    for shop in ("Lyon", "Nice"):
        shutil.copy(folder / "sales.csv", folder / "shops" / f"{shop}.csv")
        long += [f"{shop},{line}" for line in sales[1:400]]
    (folder / "shops.csv").write_text("\n".join(long) + "\n", encoding="utf-8")
    numbers = [",".join(line.split(",")[1] for line in sales[1 + row : 301 + row]) for row in (0, 50)]
    head = ",".join(f"V{column}" for column in range(1, 302))
    for name in ("m4.csv", "Monthly-train.csv"):
        (folder / name).write_text("\n".join([head, *(f"D{n},{row}" for n, row in enumerate(numbers))]) + "\n")
    ahead = ",".join(f"V{column}" for column in range(1, 20))
    (folder / "Monthly-test.csv").write_text("\n".join([ahead, *(f"D{n}" + ",1500" * 18 for n in (0, 1))]) + "\n")
    pl.read_csv(folder / "shops.csv", try_parse_dates=True).write_parquet(folder / "sales.parquet")
    shutil.copy(folder / "sales.csv", folder / "FILE.csv")
    _write_shop(folder, sales[1:400])
    (folder / "run.sh").write_text("python run_main.py --model TimeLLM --data ETTm1 --model_id a --llm_model GPT2\n")
    run_in(folder, "train", "sales.csv", "--layers", "2", "--run-name", "RUN", "--max-steps", "2")
    run_in(
        folder, "train", "shops.csv", "--id-column", "shop", "--layers", "2", "--run-name", "panel", "--max-steps", "2"
    )
    return folder


def write_stand_ins(cache: Path) -> None:
    """What the quickstart fetches, small and made up, under its real names."""
    (cache / "llms").mkdir(parents=True)
    write_tiny_llm(cache / "llms" / LLM, layers=6)
    (cache / "data").mkdir()
    _write_hourly(cache / "data" / "auckland-pedestrians.csv", DATASETS["auckland-pedestrians"].columns)


def _write_shop(folder: Path, rows: list[str]) -> None:
    """Sales with two columns that are known ahead; all rows, the past alone, and the week ahead alone."""
    lines = [f"{row},{n % 5 // 4},{10 + n % 9}" for n, row in enumerate(rows)]
    ahead = [f"{line.split(',')[0]},,{line.split(',', 2)[2]}" for line in lines[-24:]]
    for name, content in (("shop", [*lines[:-24], *ahead]), ("past", lines[:-24]), ("promo", ahead)):
        (folder / f"{name}.csv").write_text("\n".join(["date,sales,promo,temperature", *content]) + "\n")


def _write_hourly(path: Path, columns: tuple[str, ...]) -> None:
    from datetime import datetime, timedelta

    first = datetime(2024, 2, 20)
    lines = [",".join(("date", *columns))]
    for row in range(660):
        value = 100 + 40 * ((row % 24) > 8) + row % 7
        lines.append(",".join([f"{first + timedelta(hours=row)}", *[str(value + n) for n in range(len(columns))]]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def run_in(folder: Path, *words: str) -> Finished:
    """Run a command there with the cache of the stand-ins."""
    finished = run_here(words, folder, TIMELLM_CACHE=str(folder / "cache"), TIMELLM_OFFLINE="1", COLUMNS="100")
    assert finished.returncode == 0, (
        f"timellm {shlex.join(words)}\n{finished.stdout[-2000:]}\n{finished.stderr[-2000:]}"
    )
    return finished


def to_run(folder: Path, words: list[str]) -> list[str]:
    """What is run for a command: patterns as a shell expands them, two steps of training, nine windows scored."""
    match replaced(words):
        case "fetch":
            return ["fetch", "--json"]
        case "eval --baselines":
            words = words[: words.index("--baselines")]
        case "train --report-to":
            return ["inspect", *words[1 : words.index("--report-to")]]
        case "train with what must be fetched" | "train --processes":
            return ["inspect", *_without_training_options(words[1:])]
        case "import of a checkpoint":
            return ["import", "run.sh", "-o", "imported"]
    if "--processes" in words and words[0] == "predict":  # it shares out many series
        words = ["checkpoints/panel/best.pt" if word == "checkpoints/RUN/best.pt" else word for word in words]
    expanded = []
    for word in words:
        if word.endswith(".pt") and not has_magic(word) and not (folder / word).exists():
            (folder / word).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / "checkpoints" / "RUN" / Path(word).name, folder / word)
        expanded += sorted(glob(word, root_dir=folder)) if has_magic(word) and "*" in word else [word]  # noqa: PTH207
    if words[0] == "eval" and "--against" not in words:
        expanded += ["--limit", "9"]
    short = [
        "--max-steps",
        "2",
        *(["--window-stride", "2", "--prompt-template", "{trend}"] if "quickstart" in words else []),
    ]
    return [*expanded, *short] if words[0] == "train" else expanded


def _without_training_options(words: list[str]) -> list[str]:
    kept = list(words)
    for name in ("--resume", "--seeds", "--from", "--scaler"):
        if name in kept:
            del kept[kept.index(name) : kept.index(name) + 2]
    return [word for word in kept if word != "--offline"]


@pytest.mark.parametrize("page", PAGES_WITH_COMMANDS, ids=name_of)
def test_every_command_of_a_page_runs(page: Path, home: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(home, tmp_path / "reader")
    for words in block_commands(page):
        run_in(folder, *to_run(folder, words))


def test_at_most_a_fifth_of_the_commands_is_replaced_and_no_entry_of_the_list_is_without_use() -> None:
    commands = [words for page in PAGES_WITH_COMMANDS for words in block_commands(page)]
    found = [why for words in commands if (why := replaced(words))]
    assert len(commands) >= 25
    assert set(found) == REPLACED.keys()
    assert len(found) <= len(commands) / 5
