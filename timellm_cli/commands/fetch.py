"""`timellm fetch`: lists what can be fetched, or fetches it by name. Light until a download begins."""

from typing import Any

from rich import box

from timellm_cli.console import download_progress, err, out, print_json, say
from timellm_cli.errors import ConfigError
from timellm_cli.fetching.catalogue import CATALOGUE, Asset
from timellm_cli.fetching.fetch import Reporter, check_names, fetch, fetch_from_modelscope
from timellm_cli.files import cache_directory
from timellm_cli.report.tables import titled_table
from timellm_cli.units import format_memory


def console_reporter() -> Reporter:
    """Shows on stderr what any command fetches."""
    return Reporter(on_note=say, progress=download_progress, hub_bars=err.is_terminal)


def run(names: list[str] | None, *, source: str = "hub", mirror: str | None, offline: bool, as_json: bool) -> None:
    """Fetch every name, or list the catalogue. Prints a table, a line for each name, or one JSON object.

    Raises ConfigError for unknown names before anything is downloaded, DataError or ModelError for a failed download.
    """
    if not names:
        _list(as_json)
        return
    if source == "hub":
        check_names(names)
    if offline:
        raise ConfigError(
            "nothing is fetched with --offline or TIMELLM_OFFLINE", "leave the option or the variable out"
        )
    reporter = console_reporter()
    from_modelscope = [name for name in names if source == "modelscope" and name not in CATALOGUE]
    paths = {
        name: fetch_from_modelscope(name, reporter) if name in from_modelscope else fetch(name, mirror, reporter)
        for name in names
    }
    if as_json:
        print_json({"fetched": [{"name": name, "path": str(path)} for name, path in paths.items()]})
        return
    for name, path in paths.items():
        out.print(f"{name}: {path}", soft_wrap=True)


_WIDE = 100
"""A terminal of so many columns has room for paths as well."""


def _list(as_json: bool) -> None:
    if as_json:
        print_json({"cache": str(cache_directory()), "catalogue": [_describe(asset) for asset in CATALOGUE.values()]})
        return
    title = f"What `timellm fetch NAME` downloads into {cache_directory()}"
    table = titled_table(title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("name", "kind", "download", "licence", "here"):
        table.add_column(name, no_wrap=True, justify="right" if name == "download" else "left")
    if is_wide := out.width >= _WIDE:
        table.add_column("path", overflow="fold")
    for asset in CATALOGUE.values():
        path = asset.path.relative_to(cache_directory()).as_posix()
        size, present = format_memory(asset.size), "yes" if asset.present else "no"
        table.add_row(asset.name, asset.kind, size, asset.licence, present, *([path] if is_wide else []))
    out.print(table)
    out.print("Any LLM of the Hugging Face hub, by its id: timellm fetch owner/name")


def _describe(asset: Asset) -> dict[str, Any]:
    return {
        "name": asset.name,
        "kind": asset.kind,
        "download_bytes": asset.size,
        "licence": asset.licence,
        "credit": asset.credit,
        "path": str(asset.path),
        "present": asset.present,
    }
