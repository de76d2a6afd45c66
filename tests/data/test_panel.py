"""Many series in one table: their windows, splits, scalers and faults, against plain loops."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.panels import IDS, stamp, value, write_folder, write_lines, write_long
from tests.untrained import make_config
from timellm_cli.config import Config
from timellm_cli.counts import count_run
from timellm_cli.data.windows import ForecastData, load_data
from timellm_cli.errors import DataError
from timellm_cli.splits import SPLITS, Series, split_series

LONG = {"data__id_column": "unique_id", "data__date_column": "ds", "data__target": "y"}
SMALL = {"window__seq_len": 24, "window__pred_len": 6, "model__patch_len": 8, "model__patch_stride": 4}

SPANS = st.lists(st.tuples(st.integers(0, 120), st.integers(1, 200)), min_size=1, max_size=4)


def panel_config(path: Path, **changes: object) -> Config:
    return make_config(path, **{**LONG, **SMALL, **changes})


def windows_of(data: ForecastData, split: str) -> list[tuple[str, int, list[float], list[float]]]:
    """Every sample: its channel, its first row on the time axis, and raw history and future."""
    samples, found = data.windows(split), []
    for number in range(len(samples)):
        batch = samples.batch([number])
        channel = int(batch.channel_B[0])
        mean, std = data.scaler.mean_C[channel], data.scaler.std_C[channel]
        raw = [(values_1N[0].double() * std + mean).tolist() for values_1N in (batch.history_BT, batch.future_BH)]
        found.append((data.table.channels[channel], int(batch.start_B[0]), *raw))
    return found


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spans=SPANS, by_time=st.booleans())
def test_windows_are_those_of_a_plain_loop_and_no_later_row_trains(
    tmp_path: Path, spans: list[tuple[int, int]], by_time: bool
) -> None:
    rows = {name: range(first, first + count) for name, (first, count) in zip(IDS, spans, strict=False)}
    path = write_long(tmp_path / "long.csv", rows, by_time)
    try:
        data = load_data(panel_config(path))
    except DataError as error:
        assert "too few rows" in error.message or "no series has two rows" in error.message
        return
    origin = min(own.start for own in rows.values())
    ids = sorted(rows, key=lambda name: rows[name].start) if by_time else list(rows)
    assert data.table.channels == tuple(ids)
    borders = [0, *(stop + data.table.series.first[0] for stop in _borders(data)), 10**6]
    for split, low, high in zip(SPLITS, borders, borders[1:], strict=False):
        expected = []
        for name in ids:
            own, place = rows[name], list(rows).index(name)
            for start in range(own.start, own.stop - 30 + 1):
                target = start + 24 - origin
                if low <= target and target + 6 <= high and (split != "train" or start - origin + 30 <= high):
                    values = [value(place, row) for row in range(start, start + 30)]
                    expected.append((name, start - origin, values))
        found = windows_of(data, split)
        assert [(name, start) for name, start, _, _ in found] == [(name, start) for name, start, _ in expected]
        for (_, _, history, future), (_, _, values) in zip(found, expected, strict=True):
            assert history + future == pytest.approx(values, rel=1e-5)


def _borders(data: ForecastData) -> tuple[int, int]:
    """Where training and validation end, from the first row of the first series: by the shares of all rows."""
    series, rows = data.table.series, data.config.data
    lived = [
        sum(first <= step < first + count for first, count in zip(series.first, series.rows, strict=True))
        for step in range(len(data.table.stamps))
    ]
    count, total = len(series.ids), sum(series.rows)
    wanted = (
        count * int(total / count * rows.train_ratio),
        total - count * int(total / count * rows.test_ratio),
    )
    return tuple(  # type: ignore[return-value]
        max(step for step in range(len(lived) + 1) if sum(lived[:step]) <= most) - series.first[0] for most in wanted
    )


def test_each_series_has_the_scaler_of_its_own_training_rows(tmp_path: Path) -> None:
    data = load_data(panel_config(write_long(tmp_path / "long.csv")))
    for series in range(4):
        own = np.array([value(series, row) for row in range(280)])
        assert data.scaler.mean_C[series] == pytest.approx(own.mean(), rel=1e-12)
        assert data.scaler.std_C[series] == pytest.approx(own.std(), rel=1e-12)


def test_a_series_that_begins_after_training_is_scored_with_the_scaler_of_its_first_history(tmp_path: Path) -> None:
    rows = {"old": range(400), "older": range(400), "new": range(330, 400)}
    data = load_data(panel_config(write_long(tmp_path / "long.csv", rows)))
    assert data.training_windows().windows_C.tolist()[2] == 0
    assert data.windows("test").windows_C.tolist()[2] == 70 - 30 + 1
    assert data.scaler.mean_C[2] == pytest.approx(np.mean([value(2, row) for row in range(330, 354)]))
    assert any(
        "1 of 3 series have fewer than 30 training rows" in note and note.endswith(": new") for note in data.warnings
    )


def test_by_ratio_each_series_is_cut_at_its_own_rows(tmp_path: Path) -> None:
    rows = {"long": range(400), "late": range(300, 400)}
    data = load_data(panel_config(write_long(tmp_path / "long.csv", rows), data__split_by="ratio"))
    assert [(one.scaler.stop, one.val.stop, one.test.stop) for one in data.spans] == [(280, 320, 400), (70, 80, 100)]


def test_counts_are_those_of_the_loader(tmp_path: Path) -> None:
    rows = {"a": range(400), "b": range(50, 370), "c": range(380, 400)}
    data = load_data(config := panel_config(write_long(tmp_path / "long.csv", rows)))
    counts = count_run(data.table.series, 1, None, config)
    assert [getattr(counts, split).samples for split in SPLITS] == [len(data.windows(split)) for split in SPLITS]
    assert (counts.series, counts.channels) == (3, 3)


def test_equal_series_are_cut_where_one_of_them_would_be() -> None:
    config = Config.model_validate({"data": {"dataset": "custom", "id_column": "id", "train_ratio": 0.29}}).data
    window = panel_config(Path("x")).window
    for rows in (200, 333, 1000):
        panel = split_series(Series(("a", "b", "c"), (0, 0, 0), (rows,) * 3), None, config, window)
        single = split_series(Series.single(rows), None, config, window)
        assert panel == single * 3


def test_several_columns_of_a_series_are_channels_and_ms_scores_the_target_of_each(tmp_path: Path) -> None:
    path = write_long(tmp_path / "long.csv")
    lines = path.read_text(encoding="utf-8").splitlines()
    more = [lines[0] + ",promo", *(f"{line},{number % 7}" for number, line in enumerate(lines[1:]))]
    path.write_text("\n".join(more), encoding="utf-8")
    data = load_data(panel_config(path, data__features="MS"))
    assert data.table.columns == ("promo", "y")
    assert data.table.channels == (*(f"{name} promo" for name in IDS), *(f"{name} y" for name in IDS))
    assert data.scored_channels == tuple(f"{name} y" for name in IDS)
    assert len(data.training_windows()) == 2 * len(data.windows("train"))
    first = data.windows("test").batch([0])
    assert first.channel_B.tolist() == [4]
    assert float(first.future_BH[0, 0] * data.scaler.std_C[4] + data.scaler.mean_C[4]) == pytest.approx(value(0, 320))


def test_a_gap_inside_a_series_names_it_and_is_filled_from_its_own_rows(tmp_path: Path) -> None:
    path = write_long(tmp_path / "long.csv")
    lines = path.read_text(encoding="utf-8").splitlines()
    del lines[1 + 400 + 10 : 1 + 400 + 12]
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(DataError, match=r"line 412: a gap: 2024-01-01 12:00:00 of K Road comes after 2024-01-01 09"):
        load_data(panel_config(path))
    data = load_data(panel_config(path, data__fill="linear"))
    assert data.table.series.rows == (400,) * 4
    assert any("absent timestamps 2, empty cells 0" in note for note in data.warnings)
    batch = data.training_windows().batch([data.training_windows().windows])  # the first of the second series
    raw = batch.history_BT[0].double() * data.scaler.std_C[1] + data.scaler.mean_C[1]
    step = (value(1, 12) - value(1, 9)) / 3
    assert raw[9:13].tolist() == pytest.approx([value(1, 9) + step * number for number in range(4)], rel=1e-5)


def test_a_series_off_the_common_steps_is_left_out_by_name(tmp_path: Path) -> None:
    path = write_long(tmp_path / "long.csv")
    text = path.read_text(encoding="utf-8")
    odd = "".join(f"odd,2024-01-01 {hour:02}:{hour + 7:02}:00,1\n" for hour in range(20))
    path.write_text(text + odd, encoding="utf-8")
    data = load_data(panel_config(path))
    assert data.table.series.ids == IDS
    assert any("1 series have no row every 1 hour and are left out: odd" in note for note in data.warnings)


def test_a_repeated_row_counts_within_its_series_alone(tmp_path: Path) -> None:
    path = write_long(tmp_path / "long.csv")
    path.write_text(path.read_text(encoding="utf-8") + f"K Road,{stamp(5)},1\n", encoding="utf-8")
    with pytest.raises(DataError, match=rf"line 1602: the timestamp {stamp(5)} is that of another row"):
        load_data(panel_config(path))
    data = load_data(panel_config(path, data__duplicates="first"))
    assert data.table.series.rows == (400,) * 4


def test_a_row_without_an_id_is_named(tmp_path: Path) -> None:
    path = write_long(tmp_path / "long.csv")
    path.write_text(path.read_text(encoding="utf-8") + f",{stamp(5)},1\n", encoding="utf-8")
    with pytest.raises(DataError, match="line 1602: the row has no 'unique_id'"):
        load_data(panel_config(path))


def test_a_file_a_series_equals_the_long_table_and_faults_name_the_file(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "shops")
    ours = load_data(panel_config(folder, data__id_column=None))
    theirs = load_data(panel_config(write_long(tmp_path / "long.csv")))
    assert torch.equal(ours.values_KV, theirs.values_KV)
    assert ours.table.series.ids == tuple(f"{number} {name}" for number, name in enumerate(IDS))
    pattern = load_data(panel_config(tmp_path / "shops" / "[12]*.csv", data__id_column=None))
    assert pattern.table.series.ids == ("1 K Road", "2 Quay, west")
    broken = folder / "1 K Road.csv"
    lines = broken.read_text(encoding="utf-8").splitlines()
    broken.write_text("\n".join([*lines[:50], *lines[52:]]), encoding="utf-8")
    with pytest.raises(DataError, match=r"1 K Road\.csv, line 51: a gap"):
        load_data(panel_config(folder, data__id_column=None))
    broken.write_text("ds,z\n2024-01-01,1\n2024-01-02,2\n", encoding="utf-8")
    with pytest.raises(DataError, match="y"):
        load_data(panel_config(folder, data__id_column=None))


def test_a_series_a_line_is_read_without_dates_and_cut_by_ratio(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "m4.csv")
    data = load_data(panel_config(path, data__date_column="none", data__id_column="V1"))
    assert data.table.series == Series(("H1", "H2", "H3", "H4"), (0,) * 4, (400, 300, 90, 20))
    assert [one.scaler.stop for one in data.spans] == [280, 210, 62, 14]
    assert data.table.columns == ("value",)
    raw = data.values_KV[0, 400:700].double() * data.scaler.std_C[1] + data.scaler.mean_C[1]
    assert raw.tolist() == pytest.approx([value(1, row) for row in range(300)], rel=1e-5)
    path.write_text(path.read_text(encoding="utf-8").replace('"H2"', '"H1"'), encoding="utf-8")
    with pytest.raises(DataError, match="the id 'H1' stands in several lines"):
        load_data(panel_config(path, data__date_column="none", data__id_column="V1"))


def test_a_batch_names_its_series_where_the_prompt_does(tmp_path: Path) -> None:
    config = panel_config(write_long(tmp_path / "long.csv"))
    assert load_data(config).windows("test").batch([0]).series == ()
    named = load_data(config.with_values({"prompt.template": "Sensor {series}: {min}"}))
    samples = named.windows("test")
    assert samples.batch([0, len(samples) - 1]).series == (IDS[0], IDS[3])
