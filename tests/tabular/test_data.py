"""Reading tables as people have them, and the words for those that cannot be read."""

from __future__ import annotations

import gzip
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmssl.tabular import tables
from mmssl.tabular.data import Roles, describe, embedding_frame, read_table
from mmssl.tabular.tableset import TableSet

SHARED = Path(os.environ.get("MMSSL_DATA", Path(__file__).parents[3] / "shared" / "data"))
needs_data = pytest.mark.skipif(not (SHARED / "tabular").is_dir(), reason="the real data sets are not here")


def customers(rows: int = 60) -> pd.DataFrame:
    """A bit of everything, missing cells everywhere."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "number": range(rows),
            "age": rng.integers(18, 90, rows),
            "income": rng.lognormal(10, 1, rows),
            "town": rng.choice(["Gent", "Aalst", "Lier"], rows),
            "active": rng.random(rows) < 0.5,
            "since": pd.Timestamp("2019-05-01 13:30") + pd.to_timedelta(rng.integers(0, 900, rows), unit="D"),
            "mail": [f"user{i}@example.org" for i in range(rows)],
            "churned": rng.choice(["yes", "no"], rows),
        }
    )
    for name in ("income", "town", "since", "churned"):
        frame.loc[frame.sample(frac=0.1, random_state=len(name)).index, name] = None
    return frame


def assert_same(left: TableSet, right: TableSet) -> None:
    for a, b, x, y in zip(left.columns, right.columns, left.values.T, right.values.T, strict=True):
        np.testing.assert_allclose(x.astype(np.float64) + a.origin, y.astype(np.float64) + b.origin, rtol=1e-6)
    assert [(c.name, c.kind) for c in left.columns] == [(c.name, c.kind) for c in right.columns]
    assert left.categories == right.categories
    assert left.names().tolist() == right.names().tolist()


def column(table: TableSet, name: str) -> list[float]:
    return table.values[:, [c.name for c in table.columns].index(name)].tolist()


def categories(table: TableSet, name: str) -> list[str | None]:
    names = (*table.categories[[c.name for c in table.columns].index(name)], None)
    return [names[-1] if value != value else names[int(value)] for value in column(table, name)]


# ------------------------------------------------------------------------------------------------ what is read


def test_every_kind_of_column_is_told_from_the_others() -> None:
    table = read_table(customers(), Roles(label="churned"))
    assert {c.name: c.kind for c in table.columns} == {
        "age": "numeric",
        "income": "numeric",
        "town": "categorical",
        "active": "categorical",
        "since": "numeric",
        "since.month": "categorical",
        "since.weekday": "categorical",
        "since.hour": "numeric",
    }
    assert set(table.left_out) == {"number", "mail"}
    assert table.classes == ("no", "yes")
    assert (~table.labelled).sum() == 6


def test_cells_are_numbers_less_an_origin_or_positions_of_categories() -> None:
    frame = customers()
    table = read_table(frame)
    np.testing.assert_allclose(column(table, "income"), frame["income"], rtol=1e-6)
    want = [None if pd.isna(town) else town for town in frame["town"]]
    assert categories(table, "town") == want
    origin = next(c.origin for c in table.columns if c.name == "since")
    days = (frame["since"] - pd.Timestamp("1970-01-01")) / pd.Timedelta(days=1)
    np.testing.assert_allclose(np.array(column(table, "since")) + origin, days, atol=1e-3)
    known = frame["since"].dropna()
    assert [m for m in categories(table, "since.month") if m] == known.dt.month.astype(str).tolist()
    assert [d for d in categories(table, "since.weekday") if d] == known.dt.day_name().tolist()
    assert set(np.array(column(table, "since.hour"))[frame["since"].notna()]) == {13.5}


@pytest.mark.parametrize("name", ["c.csv", "c.tsv", "c.txt", "c.csv.gz", "c.parquet", "c.feather", "c.arrow"])
def test_every_file_format_reads_as_the_table_it_was_written_from(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "BATCH_CELLS", 64)  # several batches
    frame, path = customers(), tmp_path / name
    if name.endswith("parquet"):
        frame.to_parquet(path)
    elif name.endswith(("feather", "arrow")):
        frame.to_feather(path)
    else:
        frame.to_csv(path, index=False, sep={"c.tsv": "\t", "c.txt": ";"}.get(name, ","))
    assert_same(read_table(path, Roles(label="churned")), read_table(frame, Roles(label="churned")))


def test_the_files_of_a_folder_are_one_table(tmp_path: Path) -> None:
    frame = customers()
    frame[:50].to_csv(tmp_path / "a.csv", index=False)
    frame[50:].drop(columns="mail").to_parquet(tmp_path / "b.parquet")
    assert_same(read_table(tmp_path, Roles(label="churned")), read_table(frame, Roles(label="churned")))


def test_an_array_is_a_table_without_names() -> None:
    values = np.array([[1.5, np.nan], [2.5, 3.0], [3.0, 4.0]])
    table = read_table(values)
    np.testing.assert_array_equal(table.values, values.astype(np.float32))
    assert [c.name for c in table.columns] == ["x0", "x1"]
    mixed = read_table(np.array([["a", 1.0], ["b", None]], dtype=object))
    assert [c.kind for c in mixed.columns] == ["categorical", "numeric"]
    with pytest.raises(ValueError, match=r"shape \(rows, columns\), got \(3,\)"):
        read_table(np.zeros(3))


def test_columns_of_a_dataframe_may_be_of_any_type() -> None:
    frame = pd.DataFrame(
        {
            "nullable": pd.array([1, None, 3], dtype="Int64"),
            "flag": pd.array([True, None, False], dtype="boolean"),
            "grade": pd.Categorical([3, 4, None]),
            "band": pd.Categorical(["low", None, "high"], categories=["low", "mid", "high"], ordered=True),
            "took": pd.to_timedelta([1.5, None, 3], unit="s"),
            "mixed": ["a", 1, None],
            "half": np.array([1, 2, np.nan], dtype=np.float16),
        }
    )
    table = read_table(frame)
    assert column(table, "took")[::2] == [1.5, 3.0]
    assert categories(table, "flag") == ["True", None, "False"]
    assert categories(table, "grade") == ["3", "4", None]
    assert categories(table, "band") == ["low", None, "high"]
    assert categories(table, "mixed") == ["a", "1", None]
    np.testing.assert_array_equal(column(table, "nullable"), [1, np.nan, 3])


def test_a_category_is_the_same_however_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("zone,x\n1,0.5\n 2 ,1.5\n?,2.5\n")
    roles = Roles(categorical=["zone"])
    from_text = read_table(tmp_path / "t.csv", roles)
    assert categories(from_text, "zone") == ["1", "2", None]
    numbers = pd.array([1, 2, None], dtype="Int64")
    for cells in ([1, 2, None], [1.0, 2.0, np.nan], ["1", "2", "?"], ["1.0", "2.00", "?"], numbers):
        frame = pd.DataFrame({"zone": cells, "x": [0.5, 1.5, 2.5]})
        assert categories(read_table(frame, roles), "zone") == ["1", "2", None]


def test_a_truth_value_is_the_same_however_it_is_written(tmp_path: Path) -> None:
    flags = [True, False, True, False]
    frame = pd.DataFrame({"flag": flags, "y": flags, "x": [0.5, 1, 2, 3]})
    read_as: list[pd.DataFrame | Path] = [frame, tmp_path / "t.parquet"]
    frame.to_parquet(tmp_path / "t.parquet")
    for true, false in (("TRUE", "FALSE"), ("true", "false"), ("True", "False")):
        path = tmp_path / f"{true}.csv"
        frame.replace({True: true, False: false}).to_csv(path, index=False)
        read_as += [path, pd.read_csv(path), pd.read_csv(path, dtype=str)]
    for source in read_as:
        table = read_table(source, Roles(label="y"))
        assert categories(table, "flag") == ["True", "False"] * 2
        assert table.classes == ("False", "True")


def test_large_numbers_keep_what_tells_them_apart() -> None:
    seconds = 1.7e9 + np.arange(0, 100.0, 0.5)
    table = read_table(pd.DataFrame({"stamp": seconds, "x": 1.0}))
    origin = table.columns[0].origin
    np.testing.assert_allclose(table.values[:, 0].astype(np.float64) + origin, seconds, atol=1e-5)
    small = read_table(pd.DataFrame({"x": np.random.default_rng(0).normal(5, 2, 50)}))
    assert small.columns[0].origin == 0


def test_decimal_commas_and_missing_headers_are_recognised(tmp_path: Path) -> None:
    (tmp_path / "eu.csv").write_text("a;b\n1,5;x\n2,25;y\n")
    assert column(read_table(tmp_path / "eu.csv"), "a") == [1.5, 2.25]
    assert column(read_table(pd.DataFrame({"a": ["1,5", "2", None]})), "a")[:2] == [1.5, 2.0]
    (tmp_path / "bare.data").write_text("M,0.455,15\nF,0.35,7\n")
    assert categories(read_table(tmp_path / "bare.data"), "column_0") == ["M", "F"]
    (tmp_path / "years.csv").write_text("place,2019,2020\nGent,1,2\n")
    assert [c.name for c in read_table(tmp_path / "years.csv").columns] == ["place", "2019", "2020"]
    named = read_table(tmp_path / "bare.data", Roles(label="sex"), names=["sex", "length", "rings"])
    assert named.classes == ("F", "M")


@pytest.mark.parametrize("cells", [("1.234,50", "999,10", "-2.500.000,00"), ("1.234", "999,1", "-2.500.000,0")])
def test_points_stand_between_thousands_where_commas_stand_before_decimals(
    tmp_path: Path, cells: tuple[str, ...]
) -> None:
    others = ("1.234", "870", "5.678")
    (tmp_path / "t.csv").write_text("k;p;q\n" + "".join(f"x;{a};{b}\n" for a, b in zip(cells, others, strict=True)))
    table = read_table(tmp_path / "t.csv")
    np.testing.assert_allclose(column(table, "p"), [1234.5 if "50" in cells[0] else 1234, 999.1, -2.5e6])
    assert column(table, "q") == [1234, 870, 5678]
    frame = pd.DataFrame({"p": list(cells)})
    assert column(read_table(frame), "p") == column(table, "p")
    point = pd.DataFrame({"p": [0.123, 1.234], "q": [1.234, 1.5], "k": ["x", "x"]})  # numbers are what they are
    np.testing.assert_allclose(read_table(point, columns=table.columns).values[:, 1:], [[0.123, 1.234], [1.234, 1.5]])
    point.to_csv(tmp_path / "point.csv", index=False)  # and so are those of a file whose commas are between the cells
    np.testing.assert_allclose(
        read_table(tmp_path / "point.csv", columns=table.columns).values[:, 1:], [[0.123, 1.234], [1.234, 1.5]]
    )


def test_points_that_may_be_of_either_kind_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("p;q\n1.234;1\n999;2\n2.500;3\n")
    with pytest.raises(ValueError, match=r"'p' of .*t\.csv: the point in 1\.234 may .* data\.numeric; .* as Parquet"):
        read_table(path)
    with pytest.raises(ValueError, match=r"data\.label=p of .* the point in 1\.234 may .* data\.task=regression"):
        read_table(path, Roles(label="p"))
    assert column(read_table(path, Roles(numeric=["p"])), "p") == pytest.approx([1.234, 999, 2.5])
    assert [c.name for c in read_table(path, Roles(ignore=["p"])).columns] == ["q"]
    path.write_text("p;q\n1.234;0.5\n999;2\n2.500;3\n")  # q tells what a point is
    assert column(read_table(path), "p") == pytest.approx([1.234, 999, 2.5])
    path.write_text("p;q;r\n1.234;0.5;3,4\n999;2;5,1\n2.500;3;7,3\n")  # q and r contradict each other
    with pytest.raises(ValueError, match=r"'p' of .*t\.csv: the point in 1\.234 may"):
        read_table(path)
    table = read_table(path, Roles(numeric=["p"]))
    np.testing.assert_allclose(table.values, [[1.234, 0.5, 3.4], [999, 2, 5.1], [2.5, 3, 7.3]], rtol=1e-6)


def test_new_files_have_the_decimal_commas_of_the_training_data(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("p;q\n" + "".join(f"{i},25;{i * i}\n" for i in range(60)))
    columns = read_table(tmp_path / "train.csv").columns
    lines = [f"{i};{i}" for i in range(1500)]
    (tmp_path / "new.csv").write_text("\n".join(["p;q", *lines, "91,5;7,5", "1.234;2", ""]))
    table = read_table(tmp_path / "new.csv", columns=columns)
    np.testing.assert_array_equal(table.values[-2:], [[91.5, 7.5], [1234, 2]])
    (tmp_path / "new.csv").write_text("p;q\n1,5;n.v.\n")
    with pytest.raises(ValueError, match=r"'q' holds numbers, but 'n\.v\.' in line 2 .* with a decimal comma"):
        read_table(tmp_path / "new.csv", columns=columns)


def test_times_may_have_decimal_commas(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("t;x\n" + "".join(f"{i},5;{i % 7}\n" for i in range(60)))
    table = read_table(tmp_path / "t.csv", Roles(time="t"))
    assert table.times is not None
    assert table.times.tolist() == [i + 0.5 for i in range(60)]
    (tmp_path / "new.csv").write_text("t;x\n" + "".join(f"{i};1\n" for i in range(1500)) + "0,5;1\n")
    new = read_table(tmp_path / "new.csv", Roles(time="t"), columns=table.columns)
    assert new.times is not None
    assert new.times[-2:].tolist() == [1499, 0.5]


@pytest.mark.parametrize("text", ["x;y\n1;12,5\n2;3\n", 'x,y\n1,"12,5"\n2,3\n', "x;y\n1;12,5\n2;1.234,5\n"])
def test_a_label_may_have_decimal_commas(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    table = read_table(tmp_path / "t.csv", Roles(label="y"))
    assert table.labels is not None
    assert table.labels.tolist() == [12.5, 1234.5 if "." in text else 3]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Umsatz, EUR;Kosten, EUR;Anzahl, Stk\n0,5;1,5;2\n3,5;4,5;5\n", ("Umsatz, EUR", "Kosten, EUR", "Anzahl, Stk")),
        ("Umsatz, EUR;Kosten, EUR;z\n0,5;1,5;2,0\n3,5;4,5;5\n", ("Umsatz, EUR", "Kosten, EUR", "z")),
        ("a,b,c\n.5,1.5,2,\n3.5,4.5,5,\n", ("a", "b", "c")),
        ("a|b|c\n.5|1.5|2\n3.5|4.5|5\n", ("a", "b", "c")),
        ("a  b c\n.5 1.5   2\n3.5 4.5 5 \n", ("a", "b", "c")),
        ("a\tb, m\tc\n.5\t1.5\t2\n3.5\t4.5\t5\n", ("a", "b, m", "c")),
    ],
)
def test_a_delimiter_makes_as_many_cells_of_every_line(tmp_path: Path, text: str, names: tuple[str, ...]) -> None:
    (tmp_path / "t.csv").write_text(text)
    table = read_table(tmp_path / "t.csv")
    assert tuple(c.name for c in table.columns) == names
    np.testing.assert_array_equal(table.values, [[0.5, 1.5, 2], [3.5, 4.5, 5]])


def test_a_semicolon_inside_the_cells_of_a_file_with_commas_is_no_delimiter(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,lat;lon,z\n" + "".join(f"{i * i},{i}.5;{i}.25,{i}.75\n" for i in range(9)))
    assert [c.name for c in read_table(tmp_path / "t.csv").columns] == ["id", "lat;lon", "z"]


def test_a_column_of_decimal_commas_may_be_the_only_one(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("p\n0,5\n1,5\n")
    assert column(read_table(tmp_path / "t.csv"), "p") == [0.5, 1.5]


@pytest.mark.parametrize("delimiter", [",", ";", " "])
def test_the_names_of_rows_that_r_writes_shift_no_column(tmp_path: Path, delimiter: str) -> None:
    lines = ['"a" "b c" "y"', *(f'"{7 * i % 31}" {i}.5 "New York" {i % 2}' for i in range(30))]
    cells = [[cell.strip('"') for cell in shlex.split(line)] for line in lines]
    quoted = [delimiter.join(f'"{cell}"' for cell in line) for line in cells]
    (tmp_path / "t.csv").write_text("\n".join(quoted))
    table = read_table(tmp_path / "t.csv", Roles(label="y"))
    assert column(table, "a") == [i + 0.5 for i in range(30)]
    assert set(categories(table, "b c")) == {"New York"}
    assert table.classes == ("0", "1")
    assert table.left_out == {"Unnamed: 0": "counts the rows"}
    named = read_table(tmp_path / "t.csv", Roles(label="y", id="Unnamed: 0"))
    assert named.ids is not None
    assert named.ids[1] == "7"


@pytest.mark.parametrize(
    ("labels", "task", "classes"),
    [
        ([0, 1, 1, 0], "auto", ("0", "1")),
        ([10, 9, 100, None], "auto", ("9", "10", "100")),
        ([0.5, 1, 2, 3], "auto", None),
        ([0, 1, 1, 0], "regression", None),
        ([0.5, 1, 2, 3], "classification", ("0.5", "1", "2", "3")),
        (["b", "a", "b", None], "auto", ("a", "b")),
        ([True, False, True, True], "auto", ("False", "True")),
    ],
)
def test_the_label_tells_the_task_unless_it_is_given(labels: list[Any], task: Any, classes: Any) -> None:
    frame = pd.DataFrame({"x": [1.0, 2, 3, 4], "y": labels})
    table = read_table(frame, Roles(label="y", task=task))
    assert table.classes == classes
    assert [c.name for c in table.columns] == ["x"]
    want = [None if pd.isna(v) else v for v in labels]
    got = table.names().tolist()
    assert got == (want if classes is None else [None if v is None else str(v).removesuffix(".0") for v in want])


def test_many_whole_numbers_are_a_quantity() -> None:
    frame = pd.DataFrame({"x": np.arange(42.0), "rings": [*range(21), *range(21)]})
    assert read_table(frame, Roles(label="rings")).classes is None


def test_rows_keep_their_names_groups_and_times() -> None:
    frame = customers()
    frame["since"] = frame["since"].fillna(pd.Timestamp("2020-01-01"))
    frame["shop"] = ["a", "b", "c"] * 20
    table = read_table(frame, Roles(id="mail", group="shop", time="since"))
    assert table.ids is not None
    assert table.ids[3] == "user3@example.org"
    assert table.groups is not None
    assert table.groups.tolist() == [0, 1, 2] * 20
    assert table.times is not None
    assert np.argsort(table.times, kind="stable").tolist() == np.argsort(frame["since"], kind="stable").tolist()
    assert "since" in [c.name for c in table.columns]  # what orders the rows may be learnt from


@pytest.mark.parametrize(
    "texts",
    [
        ("2024-03-01 12:00:00", "2024-03-01 13:30:00"),
        ("2024-03-01T12:00:00Z", "2024-03-01T14:30:00+01:00"),
        ("01.03.2024 12:00", "01.03.2024 13:30"),
        ("03/01/2024 12:00 PM", "03/01/2024 01:30 PM"),
        ("1 Mar 2024 12:00", "1 Mar 2024 13:30"),
        ("2024/03/01 12:00:00", "2024/03/01 13:30:00"),
    ],
)
def test_dates_are_read_in_many_ways_of_writing_them(tmp_path: Path, texts: tuple[str, str]) -> None:
    pd.DataFrame({"t": texts, "x": [1, 2]}).to_csv(tmp_path / "t.csv", index=False)
    table = read_table(tmp_path / "t.csv")
    assert column(table, "t")[1] - column(table, "t")[0] == pytest.approx(1.5 / 24, abs=1e-6)
    assert categories(table, "t.month") == ["3", "3"]
    assert column(table, "t.hour") == [12.0, 13.5]


def test_a_column_is_what_the_user_says(tmp_path: Path) -> None:
    frame = pd.DataFrame({"code": range(100), "zone": [1, 2] * 50, "text": [f"t{i}" for i in range(100)], "x": 1.5})
    table = read_table(frame, Roles(numeric=["code"], categorical=["zone", "text"], ignore=["x"]))
    assert {c.name: c.kind for c in table.columns} == {"code": "numeric", "zone": "categorical", "text": "categorical"}
    assert table.left_out == {"x": "data.ignore"}


@pytest.mark.parametrize("names", [range(30), [f"{i}" for i in range(30)], pd.date_range("2024-01-01", periods=30)])
def test_a_column_of_type_category_is_one_of_categories(names: Any) -> None:
    cells = pd.Categorical([names[i % 30] for i in range(90)])
    cells[3] = None
    table = read_table(pd.DataFrame({"zip": cells, "x": np.arange(90) ** 2}))
    assert [c.kind for c in table.columns] == ["categorical", "numeric"]
    assert categories(table, "zip")[2:5] == [str(names[2]), None, str(names[4])]


def test_texts_that_a_file_encodes_are_read_as_texts(tmp_path: Path) -> None:
    frame = pd.DataFrame({"t": pd.Categorical([f"2024-01-{i % 28 + 1:02d}" for i in range(90)])})
    frame["z"] = pd.Categorical(np.arange(90) % 25)
    frame.to_feather(tmp_path / "t.feather")
    table = read_table(tmp_path / "t.feather")
    assert {c.source: c.kind for c in table.columns if c.part in ("", "days")} == {"t": "numeric", "z": "categorical"}


def test_numbers_of_type_category_may_be_missing_where_numbers_are_wanted() -> None:
    whole = pd.DataFrame({"x": [1, 2, 3], "y": [1.5, 2, 3]})
    gap = whole.assign(x=pd.Categorical([1, None, 3]), y=pd.Categorical([1.5, None, 3]))
    for table in (read_table(gap, columns=read_table(whole).columns), read_table(gap, Roles(numeric=["x", "y"]))):
        np.testing.assert_array_equal(table.values, [[1, 1.5], [np.nan, np.nan], [3, 3]])


def test_lists_and_records_are_left_out(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": [1.5, 2, 3], "tags": [["a"], None, ["b", "c"]], "at": [{"lat": 1}, {"lat": 2}, None]})
    frame.to_parquet(tmp_path / "t.parquet")
    for source in (frame, tmp_path / "t.parquet"):
        table = read_table(source)
        assert [c.name for c in table.columns] == ["x"]
        assert table.left_out == dict.fromkeys(("tags", "at"), "lists and records are no cells")
        with pytest.raises(ValueError, match=r"data\.label: column 'tags' of .* holds lists or records"):
            read_table(source, Roles(label="tags"))
        assert read_table(source, Roles(ignore=["tags"])).left_out["tags"] == "data.ignore"


@pytest.mark.parametrize("cell", [["a", "b"], {"a": 1}])
@pytest.mark.parametrize("name", ["frame", "t.parquet"])
def test_lists_in_new_data_are_refused_by_name(cell: object, name: str, tmp_path: Path) -> None:
    columns = read_table(pd.DataFrame({"x": [1.5, 2.0], "town": ["Gent", "Aalst"]})).columns
    new = pd.DataFrame({"x": [1.0, 2.0], "town": [cell, cell]})
    source: Any = new
    if name != "frame":
        source = tmp_path / name
        new.to_parquet(source)
    with pytest.raises(ValueError, match=r"column 'town' of .* holds lists or records, and a cell is one value"):
        read_table(source, columns=columns)


def test_new_data_is_read_as_the_training_data_was() -> None:
    frame = customers()
    columns = read_table(frame, Roles(label="churned")).columns
    new = frame.head(3).drop(columns=["churned", "mail"]).assign(town=pd.Series(["Brugge", None, "Gent"]), extra=1)
    table = read_table(new, columns=columns)
    assert table.columns == columns
    assert categories(table, "town") == ["Brugge", None, "Gent"]


# ------------------------------------------------------------------------------------------------ bad input


def test_a_missing_column_of_new_data_is_named() -> None:
    columns = read_table(customers()).columns
    new = customers().rename(columns={"income": "incomes"}).drop(columns="age")
    with pytest.raises(ValueError, match=r"lacks 'age' .*'income' \(did you mean 'incomes' .*cells may be empty"):
        read_table(new, columns=columns)


@pytest.mark.parametrize(
    ("text", "options", "problem"),
    [
        ("x,y\n1.5,1\n2,1\n3.1,2\n4,2\nn.v.,3\n", {}, r"'x' holds numbers, but 'n\.v\.' in line 6.*data\.missing"),
        ('x,y\n1.5,1\n2,1\n"12,5",2\n', {}, r"'x' holds numbers, but '12,5' in line 4.*decimal point"),
        ("x,y\n1,1\ninf,2\n", {}, r"'x' has 1 infinite value.*\(inf\) in line 3"),
        ("x,y\n1,1\n1e60,2\n", {}, r"'x' has 1 infinite value"),
        ("x,x\n1,2\n", {}, r"several columns named 'x'"),
        ("x,y\n1,2\n", {"label": "z"}, r"data\.label: .* has no column 'z'; there is 'x', 'y'"),
        ("town,y\n1,2\n", {"ignore": ["twon"]}, r"data\.ignore: .* has no column 'twon'; did you mean 'town'"),
        ("x,y\n1,2\n", {"label": "y", "numeric": ["y"]}, r"'y' is named both as data\.label and as data\.numeric"),
        ("x,y\n1,2\n", {"ignore": ["x"], "label": "y"}, r"no column to learn from: x \(data\.ignore\)"),
        ("x,t\n1,2024-01-01\n2,soon\n", {"date": ["t"]}, r"'t' of .* holds '2024-01-01', which is no date"),
        ("x,g\n1,a\n2,\n", {"group": "g"}, r"data\.group=g is empty in line 3"),
        ("x,t\n1,5\n2,\n", {"time": "t"}, r"data\.time=t: nan in line 3 .* is neither a number nor a date"),
        ("x,y\n", {}, "has no rows"),
        ("\n\n", {}, "blank lines only"),
        ("", {}, r"bad\.csv is empty \(0 bytes\)"),
        ("x,y\n1,2\n1,2,3\n", {}, r"the line '1,2,3' of .* has more cells than the 2 of the first line"),
        ("x,y\n1,2,3\n1,2\n", {}, r"the line '1,2,3' of .* name every column there, and quote cells that hold ','"),
        ("town\nGent, Belgium\n", {}, r"'Gent,Belgium' of .* has more cells than the 1 of the first line"),
        ("Report 2024\n\nx,y\n1,2\n", {}, r"the line 'x,y' of .* has more cells than the 1 of the first line"),
        ("x,y\n" + 30 * "1,2\n" + "1,2,3\n", {}, "Expected 2 fields in line 32, saw 3"),
    ],
)
def test_bad_text_is_refused_with_its_place_and_a_way_out(
    tmp_path: Path, text: str, options: dict[str, Any], problem: str
) -> None:
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(ValueError, match=problem):
        read_table(tmp_path / "bad.csv", Roles(**options))


def test_words_for_missing_cells_are_the_users() -> None:
    frame = pd.DataFrame({"x": ["1.5", "n.v.", "2"], "y": ["a", "n.v.", "n/a"]})
    table = read_table(frame, missing=["n.v."])
    np.testing.assert_array_equal(column(table, "x"), [1.5, np.nan, 2])
    assert categories(table, "y") == ["a", None, "n/a"]


def test_an_empty_cell_is_missing_whatever_the_words_for_it_are(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("x,y,z\n1.5,a,1\n,,2\n-,-,3\n7,b,4\n")
    for source in (tmp_path / "t.csv", pd.read_csv(tmp_path / "t.csv", dtype=str, keep_default_na=False)):
        table = read_table(source, Roles(numeric=["x"]), missing=["-"])
        np.testing.assert_array_equal(column(table, "x"), [1.5, np.nan, np.nan, 7])
        assert categories(table, "y") == ["a", None, None, "b"]


def test_a_date_of_another_format_is_named_with_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "SAMPLE_ROWS", 2)
    (tmp_path / "t.csv").write_text("t,x\n01.02.2024,1\n02.02.2024,2\n2024-02-03,3\n")
    with pytest.raises(ValueError, match=r"'t' holds dates, but '2024-02-03' in line 4 .*%d\.%m\.%Y"):
        read_table(tmp_path / "t.csv")


def test_a_place_is_right_in_later_batches_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "BATCH_CELLS", 4)
    for name in ("a", "b"):
        lines = [f"{i},{'bad' if (name, i) == ('b', 7) else i + 0.5}" for i in range(10)]
        (tmp_path / f"{name}.csv").write_text("t,x\n" + "\n".join(lines) + "\n")
    with pytest.raises(ValueError, match=r"'bad' in line 9 of .*b\.csv"):
        read_table(tmp_path)


def test_a_file_of_a_folder_that_lacks_a_column_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    (tmp_path / "b.csv").write_text("x,z\n1,2\n")
    with pytest.raises(ValueError, match=r"b\.csv lacks 'y', which .*a\.csv has"):
        read_table(tmp_path)


def test_new_data_without_the_label_that_is_asked_for_is_named(tmp_path: Path) -> None:
    columns = read_table(pd.DataFrame({"x": [1.5, 2], "y": [0, 1]}), Roles(label="y")).columns
    (tmp_path / "test.csv").write_text("x,ys\n1,2\n")
    with pytest.raises(ValueError, match=r"data\.label: .*test\.csv has no column 'y'; did you mean 'ys'"):
        read_table(tmp_path / "test.csv", Roles(label="y"), columns=columns)


def test_two_columns_of_one_name_are_refused() -> None:
    frame = pd.DataFrame([[1, 2]], columns=["x", "x"])
    with pytest.raises(ValueError, match="the DataFrame has several columns named 'x'"):
        read_table(frame)


def test_a_path_that_leads_nowhere_names_what_is_beside_it(tmp_path: Path) -> None:
    (tmp_path / "customers.csv").write_text("x\n1\n")
    with pytest.raises(FileNotFoundError, match=r"customer\.csv does not exist: did you mean 'customers\.csv'\?"):
        read_table(tmp_path / "customer.csv")
    (tmp_path / "a.xlsx").write_text("x")
    with pytest.raises(ValueError, match=r"\.xlsx has a suffix that cannot be read; supported are \.csv"):
        read_table(tmp_path / "a.xlsx")


@pytest.mark.parametrize("name", ["c.parquet", "c.feather", "c.csv.gz"])
def test_a_file_that_was_cut_off_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("parquet"):
        customers().to_parquet(path)
    elif name.endswith("feather"):
        customers().to_feather(path)
    else:
        path.write_bytes(gzip.compress(b"x,y\n" + b"1,2\n" * 1000))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(ValueError, match=rf"{name} cannot be read"):
        read_table(path)


# ------------------------------------------------------------------------------------------------ odd tables

cells: Any = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(width=32),
    st.text(max_size=5),
    st.sampled_from(["?", "NA", "12,5", "1.000,5", "2024-01-31", "31.01.2024", " x ", "1e400", "0x1F", "1_000"]),
    st.datetimes(),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(cells, min_size=1, max_size=12), min_size=1, max_size=4), st.booleans())
def test_an_odd_table_is_read_or_refused_with_a_sentence(columns: list[list[Any]], strict: bool) -> None:
    rows = min(map(len, columns))
    frame = pd.DataFrame({f"c{i}": pd.Series(cells[:rows], dtype=object) for i, cells in enumerate(columns)})
    if strict:
        frame = frame.infer_objects()
    try:
        table = read_table(frame)
    except ValueError as error:
        problem = str(error)
        assert "column" in problem
        return
    assert table.values.shape[0] == rows
    assert not np.isinf(table.values).any()
    for c, names, values in zip(table.columns, table.categories, table.values.T, strict=True):
        known = values[~np.isnan(values)]
        if c.kind == "categorical":
            assert set(known) <= set(range(len(names)))
        if not c.part:  # what is missing in the file is missing here, and nothing else is but words that say so
            lost = frame[c.source].isna().to_numpy()
            words = frame[c.source].map(lambda cell: isinstance(cell, str) and cell.strip() in tables.MISSING)
            np.testing.assert_array_equal(np.isnan(values), lost | words.to_numpy(dtype=bool))


# ------------------------------------------------------------------------------------------------ out again


def test_a_description_shows_at_once_what_was_read() -> None:
    assert describe(read_table(customers(), Roles(label="churned"))).splitlines() == [
        "rows: 60",
        "numeric: 2 (age, income)",
        "categorical: 2 (town 3, active 2)",
        "dates: 1 (since)",
        "left out: number (counts the rows), mail (60 different texts in 60 rows, such as 'user0@example.org')",
        "missing: income 10.0%, town 10.0%, since 10.0%, since.month 10.0%, since.weekday 10.0%, since.hour 10.0%",
        "label churned: no 26, yes 28; 6 unlabelled",
    ]


def test_a_description_names_every_column_that_is_left_out() -> None:
    frame = pd.DataFrame({f"c{i}": [1.5, 2.5] for i in range(40)})
    lines = describe(read_table(frame, Roles(ignore=[f"c{i}" for i in range(20, 40)]))).splitlines()
    assert lines[1] == f"numeric: 20 ({', '.join(f'c{i}' for i in range(12))}, …)"
    assert lines[2] == f"left out: {', '.join(f'c{i} (data.ignore)' for i in range(20, 40))}"


def test_embeddings_are_a_table_indexed_by_the_names_of_the_rows_or_their_number() -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    named = embedding_frame(values, np.array(["a", 7], dtype=object), label=["x", None])
    assert named.index.tolist() == ["a", 7]
    assert list(named.columns) == ["label", "e000", "e001", "e002"]
    assert embedding_frame(values, None).to_numpy()[1].tolist() == [3, 4, 5]


@pytest.mark.data
@needs_data
def test_public_tables_are_read_as_published() -> None:
    abalone = read_table(SHARED / "tabular/abalone/abalone.csv", Roles(label="column_8"))
    assert len(abalone) == 4177
    assert abalone.classes is None
    assert [c.kind for c in abalone.columns] == ["categorical"] + ["numeric"] * 7
    mushroom = read_table(SHARED / "tabular/pmlb/mushroom/mushroom.tsv.gz", Roles(label="target"))
    assert mushroom.values.shape == (8124, 22)
    assert mushroom.classes == ("0", "1")


# ------------------------------------------------------------------------------------------------ memory

MEASURE = """
import re, sys
from mmssl.tabular.data import read_table
def peak():  # not getrusage, whose maximum a child process inherits
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024
before = peak()
table = read_table(sys.argv[1])
print(peak() - before - table.values.nbytes, len(table))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize("name", ["big.parquet", "big.csv"])
def test_reading_needs_little_more_than_four_bytes_a_cell(tmp_path: Path, name: str) -> None:
    rows, rng = 1_000_000 if name == "big.parquet" else 300_000, np.random.default_rng(0)
    frame = pd.DataFrame({f"c{c}": rng.standard_normal(rows) for c in range(8)})
    frame["town"] = rng.choice(["Gent", "Aalst", "Lier"], rows)
    frame.to_parquet(tmp_path / name) if name.endswith("parquet") else frame.to_csv(tmp_path / name, index=False)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path / name)], capture_output=True, text=True, check=True
    )
    beyond, read = map(int, done.stdout.split())
    assert read == rows
    assert beyond < 180 * 2**20, f"{beyond / 2**20:.0f} MiB beyond the matrix"
