"""`timellm import`: a command or a script of the original becomes profiles, a checkpoint of it one of ours.

The content of what lies there decides which of them a name means. Light, until a checkpoint is read.
"""

import sys
from pathlib import Path

from timellm_cli.console import doing, err, out, print_command, say
from timellm_cli.errors import ConfigError, DataError, TimellmError
from timellm_cli.files import disk_faults_of, replacing
from timellm_cli.importing.commands import OldCommand, read_commands
from timellm_cli.importing.profile_text import file_name, profile_text
from timellm_cli.importing.script_lines import SCRIPTS
from timellm_cli.importing.translate import Translation, translate
from timellm_cli.report.import_tables import outcome_tables
from timellm_cli.settings import Settings, resolve
from timellm_cli.training.run_directory import require_checkpoint

_MOST_BYTES = 2**20


def run(settings: Settings, source: str, output: Path | None, *, offline: bool) -> None:
    """Write a profile for each command of a text, or our checkpoint for one of the original's.

    Settings that the user states win over the command's. Raises ConfigError where a file exists already.
    """
    Path.cwd()  # raises where the folder is gone, and no name in it means anything
    if (found := read_text(source)) is not None:
        _import_commands(settings, *found, output)
        return
    if Path(source).suffix.lower() in SCRIPTS and not Path(source).exists():
        raise ConfigError(f"there is no script '{source}'", "check the path; a command goes into quotation marks")
    require_checkpoint_or_folder(Path(source))
    with doing("Loading PyTorch", also_in_logs=False):
        from timellm_cli.commands import import_original
    import_original.run(settings, Path(source), output, offline=offline)


def read_text(source: str) -> tuple[str, str] | None:
    """The text of a command or a script, and the ending of its file's name; None for a checkpoint.

    Raises DataError for a file that is neither.
    """
    if source == "-":
        return sys.stdin.read(_MOST_BYTES), ""
    try:
        is_file, is_folder = Path(source).is_file(), Path(source).is_dir()
    except (OSError, ValueError):  # a whole command is too long for a file's name
        is_file = is_folder = False
    if not is_file:
        looks_like_a_command = not is_folder and (" " in source.strip() or "\n" in source)
        return (source, "") if looks_like_a_command else None
    path = Path(source)
    with path.open("rb") as file:
        content = file.read(_MOST_BYTES)
    is_checkpoint = path.suffix in (".pt", ".pth", ".bin", ".ckpt") or path.name == "checkpoint"
    if is_checkpoint or content.startswith((b"PK", b"\x80")):
        return None
    encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    text = content.decode(encoding, errors="replace")
    if "\0" in text:
        raise DataError(f"'{source}' is neither a script nor a checkpoint", "give a .sh, .ps1, .bat or .pt file")
    return text, path.suffix


def require_checkpoint_or_folder(path: Path) -> None:
    """Raise ModelError where there is nothing of that name."""
    if not path.is_dir():
        require_checkpoint(path)


def _import_commands(settings: Settings, text: str, ending: str, output: Path | None) -> None:
    commands, notes = read_commands(text, ending)
    stated = {key: settings.config.values()[key] for key, origin in settings.origins.items() if origin != "default"}
    imported = [(command, translate(command)) for command in commands]
    for _, translation in imported:
        translation.values |= {key: _plain(value) for key, value in stated.items()}
    profiles = [profile_text(command, translation).encode() for command, translation in imported]
    paths = _name_files(commands, profiles, output)
    for note in notes:
        say(f"note: {note}", style="yellow")
    written = []
    first: Translation | None = None
    for number, ((_, translation), profile, path) in enumerate(zip(imported, profiles, paths, strict=True), 1):
        if len(commands) > 1:
            out.print(f"\nCommand {number} of {len(commands)}, to {path}", style="bold")
        out.print(outcome_tables(translation, first.outcomes if first else ()))
        with disk_faults_of(path), replacing(path) as file:
            file.write(profile)
        written.append(path)
        first = first or translation
        _check(path)
    _show(written)


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value


def _name_files(commands: list[OldCommand], profiles: list[bytes], output: Path | None) -> list[Path]:
    """A path for each profile. Raises ConfigError where another file has it, before anything is written."""
    is_folder = output is not None and output.suffix != ".toml"
    if output is not None and not is_folder and len(commands) > 1:
        raise ConfigError(f"{len(commands)} commands need as many profiles", "name a folder: -o profiles")
    folder = (output if is_folder else Path()) or Path()
    names: list[str] = []
    for command in commands:
        names.append(file_name(command, set(names)))
    paths = [output] if output is not None and not is_folder else [folder / name for name in names]
    both = zip(paths, profiles, strict=True)
    if there := [path for path, own in both if path.exists() and not (path.is_file() and path.read_bytes() == own)]:
        raise ConfigError(f"'{there[0]}' exists already", "name another file or folder with -o, or move this one away")
    folder.mkdir(parents=True, exist_ok=True)
    return paths


def _check(path: Path) -> None:
    """Say what the profile as a whole cannot be: each value alone was checked already."""
    try:
        resolve(None, path)
    except TimellmError as error:
        say(f"warning: {error.message}", style="yellow")


def _show(paths: list[Path]) -> None:
    """The plan of the first profile, and how to go on."""
    from timellm_cli.commands import inspect

    say(f"\nwrote {', '.join(map(str, paths))}")
    try:
        settings = resolve(None, paths[0])
        inspect.run(settings, card=None, swept=None, as_json=False, explain=False, show_prompt=False)
    except TimellmError as error:
        say(f"it cannot be inspected yet: {error.message}\n{error.hint}", style="yellow")
    print_command(err, "timellm", "train", "--config", str(paths[0]))
