"""How CSV files with a header are read, and which are refused."""

from __future__ import annotations

import pytest

from pipelines import csv_tables, series
from pipelines.run import Series


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_the_header_says_what_divides_a_file(tmp_path, delimiter, encoding):
    (tmp_path / "a.csv").write_text(f"größe{delimiter}b c\n1{delimiter} x y\n", encoding)
    table = csv_tables.read(tmp_path / "a.csv")
    assert table.header == ("größe", "b c")
    assert table.rows == [["1", "x y"]]


def test_quoted_cells_hold_anything(tmp_path):
    (tmp_path / "a.csv").write_bytes(b'"a, b";c\r\n"1;2"; "x ""y""\r\nz"\r\n')
    table = csv_tables.read(tmp_path / "a.csv")
    assert table.header == ("a, b", "c")
    assert table.rows == [["1;2", 'x "y"\nz']]


def test_a_mark_that_divides_the_header_only_is_none(tmp_path):
    (tmp_path / "a.csv").write_text("a,unit;b\n1;2\n")
    assert csv_tables.read(tmp_path / "a.csv").header == ("a,unit", "b")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "needs a header.*it has 0 rows"),
        ("a,b\n", "needs a header.*it has 1 rows"),
        (",\na,b\n1,2\n", "needs a header"),
        ("1,2\n3,4\n", "header '1,2' holds numbers only"),
        ("a,b\n1,2\n3\n", "row 3 has 1 cells, the header has 2: '3'"),
        ("a,b\n1,2,3\n", "row 2 has 3 cells, the header has 2: '1,2,3'"),
        ("a,b\n1,2\n\n3\n", "row 4 has 1 cells"),
        ("value\n1,5\n", "row 2 has 2 cells, the header has 1"),
        ("a,a\n1,2\n", "names 'a' twice"),
        (",a\n0,1\n", r"no name for column 1.*to_csv\(index=False\)"),
        ("a,b;c\n1,2;3\n", "header 'a,b;c' has commas and semicolons, and it is not clear"),
        ('a,b\n1,"2\n', "not a CSV file in UTF-8: unexpected end of data"),
    ],
)
def test_files_that_are_no_tables_say_why(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        csv_tables.read(tmp_path / "a.csv")


def test_empty_rows_at_the_end_are_left_out(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1,2\n,\n3,4\n,\n\n")
    assert csv_tables.read(tmp_path / "a.csv").rows == [["1", "2"], ["", ""], ["3", "4"]]


def test_a_blank_line_in_a_single_column_is_a_missing_value(tmp_path):
    (tmp_path / "a.csv").write_text("\nload\n1\n\n3\n\n")
    table = csv_tables.read(tmp_path / "a.csv")
    assert (table.rows, table.where(1)) == ([["1"], [""], ["3"]], f"{table.source!r}, row 4")
    with pytest.raises(ValueError, match="Fill them in"):
        series.load(Series(table.source, "load", window=1))


def test_blank_lines_are_left_out_and_counted(tmp_path):
    (tmp_path / "a.csv").write_text("\r\na;b\r\n\r\n1;2\r\n\r\n3;4\r\n")
    table = csv_tables.read(tmp_path / "a.csv")
    assert (table.header, table.rows, table.where(1)) == (
        ("a", "b"),
        [["1", "2"], ["3", "4"]],
        f"{table.source!r}, row 6",
    )


def test_other_encodings_and_absent_files_say_so(tmp_path):
    (tmp_path / "a.csv").write_text("größe,b\n1,2\n", encoding="latin-1")
    with pytest.raises(ValueError, match="not a CSV file in UTF-8"):
        csv_tables.read(tmp_path / "a.csv")
    with pytest.raises(FileNotFoundError, match=r"There is no file '.*b\.csv' \(looked in '"):
        csv_tables.read(tmp_path / "b.csv")
