"""Which columns become channels, and how a wrong name is answered."""

import io

import pytest

from timellm_cli.config import DataConfig
from timellm_cli.data.columns import select_columns, target_of
from timellm_cli.data.open_csv import open_csv
from timellm_cli.datasets import DATASETS
from timellm_cli.errors import DataError

CUSTOM = DataConfig(dataset="custom")


def columns_of(header: str, **fields: object) -> tuple[str, ...]:
    """The columns chosen from a file with this header and one row of ones."""
    data = DataConfig.model_validate({"dataset": "custom", **fields})
    row = ",".join("1" for _ in header.split(","))
    return select_columns(open_csv(io.BytesIO(f"{header}\n{row}\n".encode()), "my.csv", data), data)


def test_the_target_moves_last_and_the_others_keep_their_order() -> None:
    assert columns_of("b,OT,date,a") == ("b", "a", "OT")
    assert columns_of("b,OT,date,a", target="b") == ("OT", "a", "b")


def test_a_choice_of_columns_keeps_the_order_of_the_file() -> None:
    assert columns_of("date,a,b,c,OT", columns="OT,c,a") == ("a", "c", "OT")


def test_univariate_forecasting_uses_the_target_alone() -> None:
    assert columns_of("date,a,OT,b", features="S") == ("OT",)
    assert columns_of("date,a,OT,b", features="MS") == ("a", "b", "OT")


def test_blanks_around_the_names_of_a_header_do_not_count() -> None:
    assert columns_of("date , a,OT ") == ("a", "OT")


@pytest.mark.parametrize(
    ("header", "fields", "message"),
    [
        (
            "date,a,OT",
            {"target": "OT "},
            "target column 'OT ' not found; columns are 'date', 'a', 'OT'; did you mean 'OT'?",
        ),
        ("Date,a,OT", {}, "date column 'date' not found; columns are 'Date', 'a', 'OT'; did you mean 'Date'?"),
        ("date,load,OT", {"columns": "laod,OT"}, "column 'laod' not found.* did you mean 'load'?"),
        ("date,a,OT", {"columns": "a"}, "the target 'OT' is not among the columns to use: 'a'"),
        ("date,OT,a,OT", {}, r"names 'OT' 2 times \(columns 2, 4\)"),
        ("date,date,OT", {}, r"names 'date' 2 times \(columns 1, 2\)"),
        ("time of day", {}, "date column 'date' not found; the header is a single column 'time of day'"),
        ("2024-01-01,1.5,2", {}, "date column 'date' not found"),
    ],
)
def test_a_wrong_column_is_named_beside_those_there_are(header: str, fields: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message.replace("?", r"\?")):
        columns_of(header, **fields)


def test_the_error_for_a_name_missing_from_gbk_says_how_it_was_read() -> None:
    content = "时间,负荷\n2024-01-01,1\n".encode("gbk")
    with pytest.raises(DataError, match="columns are '时间', '负荷'") as caught:
        select_columns(open_csv(io.BytesIO(content), "my.csv", CUSTOM), CUSTOM)
    assert "read as gb18030, as UTF-8 and UTF-16 do not fit" in caught.value.hint


def test_columns_that_are_not_used_may_be_unnamed_or_repeated() -> None:
    assert columns_of(",date,x,x,a,OT", columns="a,OT") == ("a", "OT")


def test_columns_can_be_left_out_by_name() -> None:
    assert columns_of("date,a,b,OT", exclude="b") == ("a", "OT")
    with pytest.raises(DataError, match="column 'c' not found"):
        columns_of("date,a,b,OT", exclude="c")


def test_a_long_header_is_cut_in_the_message() -> None:
    header = ",".join(["date", *(f"sensor {number}" for number in range(2000))])
    with pytest.raises(DataError, match=r"'sensor 10' and 1989 more") as caught:
        columns_of(header)
    assert len(caught.value.message) < 400


@pytest.mark.parametrize("name", DATASETS)
def test_the_columns_of_a_known_dataset_are_accepted_and_its_target_is_known(name: str) -> None:
    dataset = DATASETS[name]
    chosen = columns_of(",".join(["date", *dataset.columns]), dataset=name)
    assert chosen[-1] == dataset.target == target_of(DataConfig(dataset=name))
    assert sorted(chosen) == sorted(dataset.columns)


def test_a_requested_target_is_not_replaced_by_the_datasets_own() -> None:
    assert target_of(DataConfig(dataset="auckland-pedestrians", target="150 K Road")) == "150 K Road"
    assert target_of(DataConfig(dataset="ETTh1", target="OTT")) == "OTT"


@pytest.mark.parametrize(
    ("header", "faults"),
    [
        ("date,load,OT", r"no 'HUFL', 'HULL', 'MUFL', 'MULL', 'LUFL', 'LULL'; 'load' besides"),
        ("date,HUFL,HULL,MUFL,MULL,LUFL,LULL,OT,wind", r"\('wind' besides\)"),
        ("date,HUFL,HULL,MUFL,MULL,LUFL,OT", r"\(no 'LULL'\)"),
    ],
)
def test_another_file_under_the_name_of_a_known_dataset_is_sent_to_custom(header: str, faults: str) -> None:
    with pytest.raises(DataError, match=f"my.csv is not ETTm1: its columns do not match .*{faults}") as caught:
        columns_of(header, dataset="ETTm1")
    assert "--dataset custom" in caught.value.hint
