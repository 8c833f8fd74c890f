"""Reads CSV, TSV and JSONL files and folders of .txt files into rows of named cells; says where a file is wrong."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pipelines.readers import PART_OF
from zoo.core.naming import nearest

KINDS = (".csv", ".tsv", ".jsonl")
_LARGEST_CELL = 2**30  # characters; Python's csv stops at 131,072 unless told otherwise


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of cells by column name. `places` says of each row where it stands, as messages name it."""

    source: str
    columns: tuple[str, ...]
    rows: Sequence[Mapping[str, Any]]
    places: Sequence[str]

    def __len__(self) -> int:
        return len(self.rows)

    def cells(self, column: str) -> list[Any]:
        """One column, a cell a row.

        Raises:
            ValueError: there is no such column, or rows without a cell in it.
        """
        if column not in self.columns:
            near = nearest(column, self.columns)
            raise ValueError(f"{self.source!r} has no column {column!r}.{near} Columns: {some(self.columns)}.")
        missing = [place for row, place in zip(self.rows, self.places, strict=True) if row.get(column) is None]
        if missing:
            raise ValueError(
                f"{self.source!r}: {len(missing)} of {len(self)} rows have no {column!r}: {some(missing)}. "
                "Fill the cells or remove the rows."
            )
        return [row[column] for row in self.rows]

    def divided(self) -> dict[str, Table]:
        """The parts that a column `split` divides the table into; all of it is "train" where there is none.

        Raises:
            ValueError: a row is in no part.
        """
        if "split" not in self.columns:
            return {"train": self}
        members: dict[str, list[int]] = {}
        for index, value in enumerate(self.cells("split")):
            if value not in PART_OF:
                raise ValueError(
                    f"{self.source!r}, {self.places[index]}: split {value!r} is none of {', '.join(PART_OF)}. "
                    "If that column is no division into parts, give it another name."
                )
            members.setdefault(PART_OF[value], []).append(index)
        return {part: self.take(indexes) for part, indexes in members.items()}

    def take(self, indexes: Sequence[int]) -> Table:
        """Some of the rows, in the order of `indexes`."""
        rows = [self.rows[index] for index in indexes]
        return Table(self.source, self.columns, rows, [self.places[index] for index in indexes])


def file_parts(path: Path, *, text: str, label: str | None) -> dict[str, Callable[[], Table]]:
    """The parts that a file or folder is divided into, each with how to read it.

    A folder's tables have the columns `text` and `label`, the name of the sub-folder.

    Raises:
        FileNotFoundError: there is nothing at `path`.
        ValueError: it is of another kind, or cannot be read.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"There is no {str(path)!r} (looked in {str(Path.cwd())!r}). Give a .csv, .tsv or .jsonl file with named "
            "columns, a folder with one sub-folder of .txt files a class, 'tfds:NAME' or 'sklearn_docs'."
        )
    if path.is_dir():
        return _folder_parts(path, text=text, label=label)
    readers = dict(zip(KINDS, (_read_csv, _read_tsv, _read_jsonl), strict=True))
    if path.suffix.lower() not in readers:
        raise ValueError(f"{str(path)!r} is neither a folder nor a {', '.join(KINDS)} file.")
    table = readers[path.suffix.lower()](path)
    if not len(table):
        raise ValueError(f"{str(path)!r} has no rows.")
    return {part: partial(_itself, found) for part, found in table.divided().items()}


def some(names: Sequence[str], count: int = 8) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(map(str, names[:count])) + more


def _itself(table: Table) -> Table:
    return table


def _read_text(path: Path) -> str:
    raw = path.read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        found = "UTF-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else f"the byte 0x{raw[error.start]:02x}"
        raise ValueError(
            f"{str(path)!r}, line {line}: {found} is not UTF-8. Save the file as UTF-8 "
            f"(iconv -f latin1 -t utf-8, if it is in Latin-1)."
        ) from None


def _read_csv(path: Path) -> Table:
    return _delimited(path, _read_text(path), delimiter=",", quoting=csv.QUOTE_MINIMAL)


def _read_tsv(path: Path) -> Table:
    """Quoted as spreadsheets do it, or, where that does not hold, with quotes as plain characters.

    Quotes that do not enclose a cell would swallow tabs and whole rows: a cell with a tab gives that away.
    """
    text = _read_text(path)
    try:
        table = _delimited(path, text, delimiter="\t", quoting=csv.QUOTE_MINIMAL)
        if not any("\t" in cell for row in table.rows for cell in row.values()):
            return table
    except ValueError:
        pass  # what the plain reading has to say is what the user sees
    return _delimited(path, text, delimiter="\t", quoting=csv.QUOTE_NONE)


def _delimited(path: Path, text: str, *, delimiter: str, quoting: Any) -> Table:
    """A header and rows of as many cells. Empty lines are passed over; line breaks in quotes belong to the cell."""
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        quoting=quoting,
        skipinitialspace=delimiter == ",",
        strict=True,
    )
    columns: tuple[str, ...] = ()
    rows, places = [], []
    try:
        with _large_cells():
            for number, cells in enumerate((row for row in reader if row), start=1):
                columns = columns or _header(path, cells)
                place = f"row {number}" + (f" (line {reader.line_num})" if reader.line_num != number else "")
                if len(cells) != len(columns):
                    raise ValueError(
                        f"{str(path)!r}, {place}: {len(cells)} cells where the header has {len(columns)} "
                        f"({some(columns)}): {_short(cells)}. A cell that holds the separator, a quote or a line "
                        "break must stand in quotes."
                    )
                rows.append(dict(zip(columns, cells, strict=True)))
                places.append(place)
    except csv.Error as error:
        raise ValueError(f"{str(path)!r}, line {reader.line_num}: {error}.") from None
    return Table(str(path), columns, rows[1:], places[1:])


@contextlib.contextmanager
def _large_cells() -> Iterator[None]:
    """Long documents: the limit is one for the whole process, so it is put back."""
    before = csv.field_size_limit(_LARGEST_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _header(path: Path, cells: Sequence[str]) -> tuple[str, ...]:
    columns = tuple(cell.strip() for cell in cells)
    if not all(columns) or len(set(columns)) != len(columns):
        raise ValueError(f"{str(path)!r}: the first line must name the columns, each once; it is {_short(cells)}.")
    return columns


def _read_jsonl(path: Path) -> Table:
    """An object a line. Numbers and truth values are read as their text; lists of texts stay lists."""
    rows, places, columns = [], [], {}
    for number, line in enumerate(_read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{str(path)!r}, line {number} is not JSON: {error}: {_short(line)}.") from None
        if not isinstance(values, dict):
            raise ValueError(f"{str(path)!r}, line {number} must be a JSON object, it is {_short(line)}.")
        rows.append({name: _cell(value) for name, value in values.items()})
        places.append(f"line {number}")
        columns.update(values)
    return Table(str(path), tuple(columns), rows, places)


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (bool, int, float)) else value


def _folder_parts(path: Path, *, text: str, label: str | None) -> dict[str, Callable[[], Table]]:
    folders = {folder.name.lower(): folder for folder in _visible_folders(path)}
    # Only if every sub-folder is a part: "train" may also be a class, beside "bus" and "tram".
    if "train" not in folders or not folders.keys() <= PART_OF.keys():
        return {"train": partial(_class_folder, path, text=text, label=label)}
    parts: dict[str, Callable[[], Table]] = {}
    for name, folder in folders.items():
        if PART_OF[name] in parts:
            raise ValueError(f"{str(path)!r} has two folders for the {PART_OF[name]} part: {some(sorted(folders))}.")
        parts[PART_OF[name]] = partial(_class_folder, folder, text=text, label=label)
    return parts


def _class_folder(path: Path, *, text: str, label: str | None) -> Table:
    """A row a file, labelled with its sub-folder; without labels all files below the folder."""
    if label is None:
        found = [(file, "") for file in _text_files(path)]
    else:
        folders = _visible_folders(path)
        if not folders:
            raise ValueError(f"{str(path)!r} has no sub-folders. Make one for each class, with its .txt files in it.")
        files = {folder.name: _text_files(folder) for folder in folders}
        empty = [name for name, inside in files.items() if not inside]
        if empty:
            raise ValueError(
                f"{str(path)!r}: no .txt file in the class folders {some(empty)}. Add some or remove them."
            )
        found = [(file, name) for name, inside in files.items() for file in inside]
    if not found:
        raise ValueError(f"{str(path)!r} has no .txt files.")
    rows = [{text: _read_text(file), **({label: name} if label else {})} for file, name in found]
    places = [file.relative_to(path).as_posix() for file, _ in found]
    return Table(str(path), (text, label) if label else (text,), rows, places)


def _visible_folders(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _text_files(folder: Path) -> list[Path]:
    return sorted(
        file
        for file in folder.rglob("*.txt")
        if not any(part.startswith(".") for part in file.relative_to(folder).parts) and file.is_file()
    )


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
