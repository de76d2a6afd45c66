"""The group of commands and the command: where errors become exit codes, and old flags options. Light."""

import shlex
import sys
import traceback
from typing import Any

import typer
from rich.text import Text
from typer.core import TyperCommand, TyperGroup

from timellm_cli import __version__
from timellm_cli.console import err, fault_of_results, print_lines, print_note, say
from timellm_cli.errors import ConfigError, ExitCode, as_users_error, visible


class Verbs(TyperGroup):
    """The commands, in the order they are written here, behind one handler of errors."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command. Whatever goes wrong becomes one message and an exit code; `--debug` adds the traceback."""
        try:
            done = super().invoke(ctx)
            # A training leaves its results in files; what it prints may be lost.
            if ctx.invoked_subcommand != "train" and (fault := fault_of_results()):
                raise ConfigError(f"the results cannot be written to stdout: {fault.strerror}")
            return done
        except (typer.Exit, typer.Abort):
            raise
        except KeyboardInterrupt:
            say("interrupted")
            raise SystemExit(ExitCode.INTERRUPTED) from None
        except Exception as error:
            if hasattr(error, "format_message"):  # a usage error of Typer, which prints it
                error.message = visible(error.message)  # type: ignore[attr-defined]
                raise
            if ctx.params.get("debug"):
                say(traceback.format_exc())
            raise SystemExit(_show(error)) from None


class Verb(TyperCommand):
    """A command that reads the original's flags, too, and says what became of them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Replace old flags before options are parsed; a usage error without suggestions that point elsewhere."""
        if any(word.startswith("--") and not word.startswith("--help") for word in args):
            from timellm_cli.importing.answers import modernise

            known = {name for option in self.params for name in (*option.opts, *option.secondary_opts)}
            args, notes = modernise(str(self.name), args, known)
            for note in notes:
                print_note(note)
        return super().parse_args(ctx, args)


def _show(error: Exception) -> ExitCode:
    """Print an error and its hint; returns the exit code. What no user can mend is a bug, to be reported."""
    known = as_users_error(error)
    if known is None:
        what, command = f"{type(error).__name__}: {error}", shlex.join(["timellm", "--debug", *sys.argv[1:]])
        say(f"error: this is a bug of timellm {__version__}; please report what this prints: {command} ({what})")
        return ExitCode.BUG
    title = ("interrupted: ", "bold yellow") if known.exit_code == ExitCode.INTERRUPTED else ("error: ", "bold red")
    print_lines(err, Text.assemble(title, known.message))
    if known.hint:
        print_lines(err, Text.assemble(("hint: ", "bold cyan"), known.hint))
    return known.exit_code
