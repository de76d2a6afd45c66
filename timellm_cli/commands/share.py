"""`timellm push` and `timellm pull`: a run goes to the Hugging Face hub with its card, and comes back."""

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from timellm_cli.console import as_is, doing, out, print_note, say
from timellm_cli.errors import ConfigError
from timellm_cli.fetching.shared_runs import download, require_hub_id, upload
from timellm_cli.files import disk_faults_of
from timellm_cli.report.model_card import model_card
from timellm_cli.report.train_summary import quote
from timellm_cli.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from timellm_cli.training.run_directory import RunDirectory


def push(folder: Path, name: str, *, figures: Path | None, private: bool, card_only: bool) -> None:
    """Upload best.pt of a run, its configuration and a card, as `owner/name`; or print the card alone.

    Paths of this computer are left out. Raises ConfigError for a wrong name or figures that are none, ModelError for
    a checkpoint that cannot be read and a hub that cannot be reached.
    """
    require_hub_id(name)
    checkpoint = _without_paths(load_checkpoint(folder / "best.pt"))
    found = _read_figures(figures or folder / "eval.json", required=figures is not None)
    if found is None:
        best, kept = quote(folder / "best.pt"), quote(folder / "eval.json")
        print_note(f"the card has no baselines; for them: timellm eval {best} --json > {kept}")
    card = model_card(name, checkpoint.config, checkpoint.metrics, found, checkpoint.columns)
    if card_only:
        out.print(as_is(card), soft_wrap=True)
        return
    with tempfile.TemporaryDirectory() as staging:
        target = Path(staging)
        save_checkpoint(target / "best.pt", checkpoint)
        RunDirectory(target).write_config(checkpoint.config)
        (target / "README.md").write_text(card, encoding="utf-8")
        if found is not None:
            public = {key: value for key, value in found.items() if key != "csv"}
            (target / "eval.json").write_text(json.dumps(public, indent=2), encoding="utf-8")
        with doing(f"Uploading {name}"):
            page = upload(target, name, private)
    out.print(page, soft_wrap=True)


def pull(name: str, *, directory: Path) -> None:
    """Download the run `owner/name` into a folder of its own. Raises ConfigError where that exists."""
    require_hub_id(name)
    folder = directory / name.rpartition("/")[2]
    if folder.exists():
        raise ConfigError(f"'{folder}' exists already", "move it away, or name another place: --checkpoints FOLDER")
    with disk_faults_of(folder):
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory, prefix=".pull-") as staging:
            whole = Path(staging) / "run"
            with doing(f"Downloading {name}"):
                download(name, whole)
            checkpoint = load_checkpoint(whole / "best.pt")
            whole.replace(folder)
    say(f"{folder}: reads {checkpoint.config.window.seq_len} rows of {', '.join(checkpoint.columns)}")
    out.print(str(folder / "best.pt"), soft_wrap=True)


def _without_paths(checkpoint: Checkpoint) -> Checkpoint:
    """Folders of this computer are nobody else's concern: of a file and of a local LLM the name stays."""
    config = checkpoint.config
    values: dict[str, Any] = {"run.directory": Path("checkpoints")}
    if config.data.path is not None:
        values["data.path"] = Path(config.data.path.name)
    if Path(config.llm.name).is_absolute():
        values["llm.name"] = Path(config.llm.name).name
    return replace(checkpoint, config=config.with_values(values))


def _read_figures(path: Path, *, required: bool) -> dict[str, Any] | None:
    if not path.is_file() and not required:
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not {"entries", "samples", "split"} <= found.keys():
            raise ValueError("it has no entries")
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"'{path}' holds no figures: {error}", "write them with: timellm eval CHECKPOINT --json > eval.json"
        ) from None
    return dict(found)
