"""What a file is, is told by its content; the same rows are the same, however they are written."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from recsys.exceptions import InvalidInputError
from recsys.imports.tables import open_table, quoted

HEADER = ["user", "track", "note"]
ROWS = [["1", "a", "x"], ["2", 'say "b"', "x, y; z"], ["é", "c|d", "‖"]]


def read(path: Path, **wanted: str) -> list[tuple[object, ...]]:
    import duckdb

    table = open_table(path, path.parent)
    with duckdb.connect() as db:
        return db.execute(table.select(wanted or {name: name for name in HEADER})).fetchall()


def csv_text(delimiter: str, rows: list[list[str]]) -> str:
    cells = (delimiter.join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows)
    return "".join(f"{line}\n" for line in cells)


def written(directory: Path, form: str, rows: list[list[str]] = ROWS) -> Path:
    path = directory / "rows.dat"
    if form.endswith(".gz"):
        packed = gzip.compress(written(directory, form.removesuffix(".gz"), rows).read_bytes())
        path.write_bytes(packed)
    elif form == "parquet":
        pq.write_table(pa.table({name: [row[i] for row in rows] for i, name in enumerate(HEADER)}), path)
    elif form == "json":
        path.write_text("".join(json.dumps(dict(zip(HEADER, row, strict=True))) + "\n" for row in rows))
    elif form in ("\t", "::"):
        path.write_text("".join(form.join(row) + "\n" for row in [HEADER, *rows]))
    else:
        path.write_text(csv_text(form, [HEADER, *rows]))
    return path


@pytest.mark.parametrize("form", [",", ";", "|", "\t", "::", "json", "parquet", ",.gz", "\t.gz", "json.gz"])
def test_the_same_rows_in_every_form(form: str, tmp_path: Path) -> None:
    assert read(written(tmp_path, form)) == [(i, *row, None) for i, row in enumerate(ROWS, 1)]


def test_without_a_header_columns_are_numbered_from_one(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("1,a,x\n2,b,y\n")
    assert read(path, user="1", track="3") == [(1, "1", "x", None), (2, "2", "y", None)]
    assert read(path, user="1", track="x") == [(1, "2", "y", None)]


def test_marks_of_other_programs_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes("\ufeffuser,track,note\r\n1,a,\r\n\r\n2,b,z".encode())
    assert read(path) == [(1, "1", "a", None, None), (2, "2", "b", "z", None)]


def test_json_values_are_texts_and_what_is_no_object_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text('{"user": 5, "track": 1.5}\n{"user": "5", "track": null}\nnot json\n[1]\n')
    rows = read(path, user="user", track="track")
    assert rows == [(1, "5", "1.5", None), (2, "5", None, None), (3, None, None, "not json"), (4, None, None, "[1]")]


def test_whole_numbers_of_parquet_are_no_fractions(tmp_path: Path) -> None:
    pq.write_table(pa.table({"user": [1.0, 2.5], "track": pa.array([2**53, 7])}), tmp_path / "a")
    assert read(tmp_path / "a", user="user", track="track")[0][1:3] == ("1", str(2**53))


TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=1, max_size=8), form=st.sampled_from([",", ";", "|", "json"]))
@example(rows=[(",", ";", "|")], form=",")
@example(rows=[('"', "'", "$.x")], form="json")
def test_any_text_comes_back(rows: list[tuple[str, str, str]], form: str, tmp_path: Path) -> None:
    found = read(written(tmp_path, form, [list(row) for row in rows]))
    assert found == [(i, *row, None) for i, row in enumerate(rows, 1)]


@pytest.mark.parametrize("name", ["it's", 'the "name"', "a.b", "a/b~", "α"])
def test_any_name_names_a_column(name: str, tmp_path: Path) -> None:
    assert quoted("it's") == "'it''s'"
    path = tmp_path / "a"
    path.write_text(json.dumps({name: "x", "track": "y"}) + "\n")
    assert read(path, user=name, track="track") == [(1, "x", "y", None)]
    pq.write_table(pa.table({name: ["x"], "track": ["y"]}), path)
    assert read(path, user=name, track="track") == [(1, "x", "y", None)]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"\x89PNG\r\n\x1a\n\0\0", "is no table"),
        (b"just a sentence\nand another\n", "one column only"),
        (b'[{"user": 1}]', "one object a line"),
        (b"PAR1 and nothing else", "cannot be read as Parquet"),
        (gzip.compress(b"user,track\n" * 9999)[:-20], "cannot be unpacked"),
        (b"\x1f\x8b no gzip", "cannot be unpacked"),
    ],
)
def test_what_is_no_table_is_told(content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(InvalidInputError, match=told) as caught:
        open_table(tmp_path / "a.csv", tmp_path)
    assert str(tmp_path / "a.csv") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_flipped_bit_of_gzip_is_noticed(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(b"".join(b"%d,%d\n" % (i, i * i) for i in range(9999))))
    packed[-6] ^= 1
    (tmp_path / "a").write_bytes(packed)
    with pytest.raises(InvalidInputError, match="CRC"):
        open_table(tmp_path / "a", tmp_path)


def test_a_column_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    for form in (",", "json", "parquet"):
        with pytest.raises(InvalidInputError, match=r"'usr' is not in .*'user', 'track', 'note' \(the nearest is 'user'\)"):
            read(written(tmp_path, form), user="usr", track="track")
    for number in ("0", "4"):
        with pytest.raises(InvalidInputError, match=f"column {number} is not in .* columns 1 to 3"):
            read(written(tmp_path, ","), user=number, track="1")
    with pytest.raises(InvalidInputError, match="is no file"):
        open_table(tmp_path, tmp_path)
