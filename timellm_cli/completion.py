"""What the shell offers for a begun word: profiles, datasets, LLMs, cards, checkpoints and files. Light."""

from collections.abc import Iterable
from pathlib import Path

from timellm_cli.datasets import DATASETS
from timellm_cli.files import llm_directory
from timellm_cli.settings import profile_names

_TABLES = (".csv", ".csv.gz", ".tsv", ".txt", ".parquet")


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.lower().startswith(incomplete.lower())]


def files(incomplete: str, endings: tuple[str, ...], deep: str = "") -> list[str]:
    """Folders and files of these endings that begin so; files that the pattern `deep` finds, too."""
    begun = Path(incomplete) if incomplete else Path()
    folder = begun if incomplete.endswith(("/", "\\")) or not incomplete else begun.parent
    found = []
    try:
        for path in sorted(folder.iterdir()):
            if path.is_dir() and not path.name.startswith("."):
                found.append(f"{path}/")
            elif path.name.lower().endswith(endings):
                found.append(str(path))
        found += [str(path) for path in sorted(Path().glob(deep))] if deep else []
    except OSError:
        return []
    return _beginning(dict.fromkeys(found), incomplete)


def tables(incomplete: str) -> list[str]:
    """Tables here, and the names of known datasets."""
    return [*files(incomplete, _TABLES), *datasets(incomplete)]


def checkpoints(incomplete: str) -> list[str]:
    """Checkpoints in checkpoints/, and others here."""
    return files(incomplete, (".pt",), "checkpoints/*/*.pt")


def resumable(incomplete: str) -> list[str]:
    """Checkpoints with a state, and 'auto'."""
    found = [path for path in checkpoints(incomplete) if not path.endswith("best.pt")]
    return [*_beginning(["auto"], incomplete), *found]


def configurations(incomplete: str) -> list[str]:
    """TOML files here, and those of runs."""
    return files(incomplete, (".toml",), "checkpoints/*/config.toml")


def datasets(incomplete: str) -> list[str]:
    """Names of known datasets."""
    return _beginning([*DATASETS, "custom"], incomplete)


def llms(incomplete: str) -> list[str]:
    """Well-known LLMs, and those in the cache."""
    from timellm_cli.planning.llm_shape import known_llms

    folder = llm_directory()
    cached = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return _beginning(dict.fromkeys([*cached, *known_llms(), "none"]), incomplete)


def cards(incomplete: str) -> list[str]:
    """Names of known cards."""
    from timellm_cli.planning.hardware import card_names

    return _beginning(card_names(), incomplete)


def fetchable(incomplete: str) -> list[str]:
    """What `timellm fetch` gets by a name of its own, and well-known LLMs of the hub."""
    from timellm_cli.fetching.catalogue import CATALOGUE
    from timellm_cli.planning.llm_shape import known_llms

    return _beginning(dict.fromkeys([*CATALOGUE, *(name for name in known_llms() if "/" in name)]), incomplete)


def profiles_that(incomplete: str) -> list[str]:
    """Names of shipped profiles."""
    return _beginning(profile_names(), incomplete)


def scripts(incomplete: str) -> list[str]:
    """Scripts and checkpoints of the original."""
    return files(incomplete, (".sh", ".ps1", ".bat", ".cmd", ".pt", ".pth", "checkpoint"))


OF_KEYS = {"data.dataset": datasets, "data.path": tables, "llm.name": llms}
"""What to offer for the flag of a key."""
