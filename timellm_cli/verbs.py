"""How a command is declared and run: its module is loaded late, errors become exit codes. Light."""

import os
import shlex
import sys
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any

import typer
from rich.text import Text
from typer.core import TyperCommand, TyperGroup

from timellm_cli import __version__
from timellm_cli.console import doing, err, fault_of_results, out, print_lines, print_note, say
from timellm_cli.data.open_csv import check_file
from timellm_cli.datasets import csv_named, data_files, holds_several
from timellm_cli.errors import ConfigError, DataError, ExitCode, SaidElsewhere, as_users_error, visible
from timellm_cli.processes.faults import report_fault
from timellm_cli.settings import Settings
from timellm_cli.training.run_directory import require_checkpoint


def runs(
    module: str, *, is_heavy: bool = False, before: Callable[[dict[str, Any]], None] = lambda _: None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """What is decorated declares a command: `run` of that module in `commands/`, imported when the command is called.

    Both have the same parameters (a test compares them), but for those that `before` takes out of the arguments. A
    heavy module takes seconds to import: files that are not there are named before.
    """

    def decorate(declaration: Callable[..., None]) -> Callable[..., None]:
        @wraps(declaration)
        def command(**arguments: Any) -> None:
            if is_heavy:
                require_files(arguments)
            before(arguments)
            load_command(module, is_heavy).run(**arguments)

        return command

    return decorate


def load_command(module: str, is_heavy: bool, also_in_logs: bool = False, what: str = "Loading PyTorch") -> Any:
    with doing(what, also_in_logs) if is_heavy else nullcontext():
        return import_module(f"timellm_cli.commands.{module}")


def require_files(arguments: dict[str, Any]) -> None:
    """Raise for checkpoints and CSVs that are not there or are folders, as their readers would.

    Of a training, everything else that is missing is named as well.
    """
    from timellm_cli.planning.automatic import resolve_auto
    from timellm_cli.planning.hardware import look_at_machine
    from timellm_cli.planning.llm_shape import look_up_llm
    from timellm_cli.planning.readiness import check_readiness, require_ready

    Path.cwd()  # raises where the folder is gone, before PyTorch's library ends the process for it
    against = arguments.get("against")
    for table in (*arguments["checkpoints"], csv_named(against)) if against else ():
        data_files(table) if holds_several(table) else check_file(table)
    for checkpoint in (*(() if against else arguments.get("checkpoints", ())), arguments.get("checkpoint")):
        if checkpoint:
            require_checkpoint(Path(checkpoint))
    resume = arguments.get("resume")
    if resume and resume != "auto" and not Path(resume).is_dir():
        require_checkpoint(Path(resume))
    source = arguments.get("data_path") or arguments.get("source")
    if source and source != "-" and not (path := csv_named(source)).is_file() and not path.is_fifo():
        data_files(path) if holds_several(path) else check_file(path)
    settings: Settings | None = arguments.get("settings")
    data = settings.config.data.path if settings else None
    if settings and data and not data.exists() and not (holds_several(data) and data_files(data)):
        machine = look_at_machine()
        config = resolve_auto(settings.config, machine, look_up_llm(settings.config.llm.name))
        require_ready(check_readiness(config, machine))


class _Helpful:
    """A command or a group with our own help page, and all of its options by --help-all."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words, unless they ask for every option."""
        is_group = hasattr(self, "commands")  # whose other words are another command's
        if "--help-all" in (args[:1] if is_group else args):
            self.print_help(ctx, shows_all=True)
            raise typer.Exit
        return super().parse_args(ctx, args)  # type: ignore[misc]

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002  Typer's own signature
        """Print the page with the options that matter first."""
        self.print_help(ctx, shows_all=False)

    def print_help(self, ctx: Any, *, shows_all: bool) -> None:
        """Print the page."""
        from timellm_cli.report.help_page import help_page

        path = " ".join(("timellm", *ctx.command_path.removeprefix(ctx.find_root().info_name or "").split()))
        out.print(help_page(self, path, shows_all=shows_all))


class Verbs(_Helpful, TyperGroup):
    """The commands, in the order they are written here, behind one handler of errors."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """Parse the words. An error of usage is printed here, as all others are, and not in Typer's box."""
        try:
            return super().make_context(*arguments, **options)
        except Exception as error:
            _show_usage_error(error)
            raise

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
                _show_usage_error(error)
                raise
            if ctx.params.get("debug"):
                say(traceback.format_exc())
            raise SystemExit(_show(error)) from None


class Group(_Helpful, TyperGroup):
    """A verb with verbs of its own."""


class Verb(_Helpful, TyperCommand):
    """A command that reads the original's flags, too, and says what became of them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Replace old flags before options are parsed."""
        if any(word.startswith("--") for word in args) and "--help-all" not in args:
            from timellm_cli.importing.answers import modernise

            known = {name for option in self.params for name in (*option.opts, *option.secondary_opts)}
            args, notes = modernise(str(self.name), args, known)
            for note in () if "--quiet" in args else notes:
                print_note(note)
        return super().parse_args(ctx, args)


def _show_usage_error(error: Any) -> None:
    """Print an error of Typer and end; a page of help is no error."""
    if not hasattr(error, "format_message") or type(error).__name__ == "NoArgsIsHelpError":
        return
    if ctx := getattr(error, "ctx", None):
        path = " ".join(("timellm", *ctx.command_path.removeprefix(ctx.find_root().info_name or "").split()))
        say(f"Usage: {' '.join((path, *ctx.command.collect_usage_pieces(ctx)))}")
        say(f"Try '{path} --help' for help.")
    message = error.format_message().replace("Value error, ", "", 1)
    print_lines(err, Text.assemble(("error: ", "bold red"), message[:1].lower() + message[1:]))
    raise SystemExit(ExitCode.USAGE)


def _show(error: Exception) -> ExitCode:
    """Print an error and its hint; returns the exit code. What no user can mend is a bug, to be reported."""
    known = as_users_error(error)
    if isinstance(known, SaidElsewhere):
        return known.exit_code
    text = (
        f"{known.message}; {known.hint}" if known else f"bug of timellm {__version__}: {type(error).__name__}: {error}"
    )
    is_first = os.environ.get("RANK", "0") == "0"
    if report_fault(text) and not is_first:
        return known.exit_code if known else ExitCode.BUG
    if not is_first:
        if isinstance(known, ConfigError | DataError) and os.environ.get("LOCAL_RANK", "0") != "0":
            return known.exit_code  # the first process of this machine finds it too
        err.quiet = False
        say(f"in process {os.environ['RANK']}:")
    if known is None:
        what, command = f"{type(error).__name__}: {error}", shlex.join(["timellm", "--debug", *sys.argv[1:]])
        say(f"error: this is a bug of timellm {__version__}; please report what this prints: {command} ({what})")
        return ExitCode.BUG
    title = ("interrupted: ", "bold yellow") if known.exit_code == ExitCode.INTERRUPTED else ("error: ", "bold red")
    print_lines(err, Text.assemble(title, known.message))
    if known.hint:
        print_lines(err, Text.assemble(("hint: ", "bold cyan"), known.hint))
    return known.exit_code
