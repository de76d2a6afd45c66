"""`timellm init`: a commented profile for a table of one's own. Light: polars reads the table."""

from pathlib import Path

from timellm_cli.console import as_is, err, out, print_command, print_note, say
from timellm_cli.data.guess import settle
from timellm_cli.errors import ConfigError
from timellm_cli.files import disk_faults_of, replacing
from timellm_cli.planning.first_profile import profile_of
from timellm_cli.planning.plan import find_data
from timellm_cli.report.train_summary import quote
from timellm_cli.settings import Settings, resolve


def run(settings: Settings, output: Path | None) -> None:
    """Write the profile beside the table, or to `output`, and print it.

    Raises ConfigError where no table is named or the profile exists, DataError where the table cannot be read.
    """
    path = settings.config.data.path
    if path is None:
        raise ConfigError("no table is named", "timellm init FILE.csv")
    target = output or Path(f"{path.name.split('.')[0] or path.stem}.toml")
    if target.exists():
        raise ConfigError(f"'{target}' exists already", "name another file with -o, or move this one away")
    settings = settle(settings)
    data = find_data(settings.config.data)
    if data.fault:
        print_note(f"training would refuse the table: {data.fault.message} ({data.fault.hint})")
    text = profile_of(settings, data, _relative(path))
    with disk_faults_of(target), replacing(target) as file:
        file.write(text.encode())
    resolve(None, target)  # what was written is read as it will be
    out.print(as_is(text), soft_wrap=True)
    say(f"wrote {target}; write a description into it, then:")
    print_command(err, "timellm", "inspect", "--config", quote(target))
    print_command(err, "timellm", "train", "--config", quote(target))


def _relative(path: Path) -> Path:
    """The path as seen from here, where the file is here or below: the folder may move."""
    try:
        return path.relative_to(Path.cwd())
    except ValueError:
        return path
