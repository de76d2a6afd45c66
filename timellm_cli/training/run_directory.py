"""The files of one run, in `checkpoints/<run name>/`."""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from timellm_cli.config import Config
from timellm_cli.errors import ConfigError
from timellm_cli.files import TEMPORARY, disk_faults_of, replacing
from timellm_cli.planning.run_name import run_name
from timellm_cli.settings import to_toml_values


@dataclass(frozen=True)
class RunDirectory:
    """Where each file of a run lies."""

    path: Path

    @classmethod
    def of(cls, config: Config) -> "RunDirectory":
        """The folder a configuration names."""
        return cls(config.run.directory / run_name(config))

    @property
    def best(self) -> Path:
        """The weights of the best epoch, without training state."""
        return self.path / "best.pt"

    @property
    def last(self) -> Path:
        """The newest state, to continue from."""
        return self.path / "last.pt"

    @property
    def metrics(self) -> Path:
        """One JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def curves(self) -> Path:
        """The picture of the losses."""
        return self.path / "curves.png"

    def step(self, step: int) -> Path:
        """The checkpoint that `save_steps` writes after step `step`."""
        return self.path / f"step-{step}.pt"

    def step_checkpoints(self) -> list[tuple[int, Path]]:
        """Step checkpoints there are, oldest first."""
        named = ((re.fullmatch(r"step-(\d+)\.pt", path.name), path) for path in self.path.glob("step-*.pt"))
        return sorted((int(match[1]), path) for match, path in named if match)

    def newest_checkpoint(self) -> Path | None:
        """What `--resume auto` continues from."""
        if self.last.is_file():
            return self.last
        steps = self.step_checkpoints()
        return steps[-1][1] if steps else None

    def holds_a_run(self) -> bool:
        """Whether there is a checkpoint that a new run would overwrite."""
        return self.best.is_file() or self.newest_checkpoint() is not None

    def create(self) -> None:
        """Make the folder. Raises ConfigError where that is impossible."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"the run's folder '{self.path}' cannot be made: {error.strerror}",
                "choose another one with --checkpoints",
            ) from None

    def sweep(self) -> None:
        """Remove half-written files of a process that was killed. The caller holds the folder's lock."""
        for path in self.path.glob(TEMPORARY):
            path.unlink(missing_ok=True)

    def write_config(self, config: Config) -> None:
        """Leave the resolved configuration as TOML that `--config` reads."""
        path = self.path / "config.toml"
        with disk_faults_of(path), replacing(path) as file:
            tomli_w.dump(to_toml_values(config), file)

    def keep_newest(self, limit: int) -> None:
        """Remove all but the newest `limit` step checkpoints."""
        for _, path in self.step_checkpoints()[:-limit]:
            path.unlink(missing_ok=True)

    def make_last(self, checkpoint: Path) -> None:
        """From now on this one is the newest state, whatever a run that came further had left."""
        if checkpoint.resolve() != self.last.resolve():
            with disk_faults_of(self.last), checkpoint.open("rb") as source, replacing(self.last) as file:
                shutil.copyfileobj(source, file)

    def remove_after(self, step: int) -> list[Path]:
        """Remove the step checkpoints beyond `step`, which a run that goes on from there will write anew."""
        removed = [path for number, path in self.step_checkpoints() if number > step]
        for path in removed:
            path.unlink(missing_ok=True)
        return removed
