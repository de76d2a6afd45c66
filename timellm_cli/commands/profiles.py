"""`timellm profiles`: what profiles there are and what each needs; what one resolves to and why. Light."""

from rich.text import Text

from timellm_cli.config import Config
from timellm_cli.console import as_is, out, print_json, say
from timellm_cli.report.tables import titled_table
from timellm_cli.settings import Settings, profile_names, profile_path, resolve


def list_all(*, as_json: bool) -> None:
    """Print every shipped profile with what it is for and what it needs."""
    profiles = {name: resolve(name).config for name in profile_names()}
    if as_json:
        print_json({name: _needs(name, config) for name, config in profiles.items()})
        return
    table = titled_table("Profiles", show_lines=True)
    table.add_column("profile", ratio=1, min_width=max(map(len, profiles)), overflow="fold")
    table.add_column("needs", overflow="fold")
    for name, config in profiles.items():
        needs = _needs(name, config)
        listing = [f"data  {needs['data']}", f"LLM   {needs['llm']}", f"runs  {needs['runs_on']}"]
        table.add_row(Text.assemble(as_is(name, "bold"), "\n", needs["about"]), Text("\n".join(listing)))
    out.print(table)
    say("`timellm profiles show NAME` prints all of one; `timellm fetch NAME` gets data and LLMs")


def print_schema() -> None:
    """Print the JSON Schema of a configuration file. Each key's description is that of its flag."""
    schema = Config.model_json_schema()
    for section in schema["$defs"].values():
        for key in section["properties"].values():
            key.pop("flag", None)
            key.pop("title", None)
    print_json({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "A profile of timellm"})


def show(settings: Settings, *, as_json: bool) -> None:
    """Print every key with its value and where that came from."""
    plain = settings.config.model_dump(mode="json")
    values = {f"{section}.{name}": value for section, part in plain.items() for name, value in part.items()}
    if as_json:
        print_json({key: {"value": value, "origin": settings.origins[key]} for key, value in values.items()})
        return
    table = titled_table("Resolved configuration")
    table.add_column("key", no_wrap=True)
    table.add_column("value", overflow="fold", min_width=16)
    table.add_column("from", overflow="fold")
    ends = {f"{section}.{list(part)[-1]}" for section, part in plain.items()}
    for key, value in values.items():
        origin = settings.origins[key]
        style = "dim" if origin == "default" else "bold"
        text = Text("unset", style) if value in (None, []) else as_is(str(value), style)
        where = Text(origin, style="dim" if origin == "default" else "cyan")
        table.add_row(as_is(key), text, where, end_section=key in ends)
    out.print(table)


def _needs(name: str, config: Config) -> dict[str, str]:
    about = profile_path(name).read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
    return {
        "about": about,
        "data": "your CSV" if config.data.dataset == "custom" else config.data.dataset,
        "llm": config.llm.name,
        "runs_on": f"a GPU of {config.hardware.vram}" if config.hardware.vram else "a CPU or any GPU",
    }
