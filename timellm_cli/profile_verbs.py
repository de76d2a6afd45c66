"""`timellm profiles` and its own verb `show`. Light."""

from typing import Annotated

import typer

from timellm_cli import completion
from timellm_cli.options import Assignments, ConfigFile, Json
from timellm_cli.settings import resolve
from timellm_cli.verbs import Group, Verb

profiles_app = typer.Typer(
    cls=Group, help="List the shipped profiles, or print one with the origin of every value.", no_args_is_help=False
)


@profiles_app.callback(invoke_without_command=True)
def profiles_command(
    ctx: typer.Context,
    as_json: Json = False,
    schema: Annotated[
        bool,
        typer.Option("--schema", help="Print the JSON Schema of a profile, for editors."),
    ] = False,
) -> None:
    """List the shipped profiles, or print one with the origin of every value."""
    if ctx.invoked_subcommand is None:
        from timellm_cli.commands import profiles

        profiles.print_schema() if schema else profiles.list_all(as_json=as_json)


@profiles_app.command("show", cls=Verb)
def profiles_show_command(
    name: Annotated[str, typer.Argument(autocompletion=completion.profiles_that, help="A shipped profile.")],
    config_file: ConfigFile = None,
    assignments: Assignments = None,
    as_json: Json = False,
) -> None:
    """Print the resolved configuration and where each value came from."""
    from timellm_cli.commands import profiles

    profiles.show(resolve(name, config_file, {}, assignments or ()), as_json=as_json)
