"""CSV files with a header as columns of text: divided by commas, semicolons or tabs, each row as long as the header."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zoo.core.naming import nearest
from zoo.layers.table import MISSING, number

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of text without spaces around. `numbers` says which row of the source each is; the header is row 1."""

    source: str
    header: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    numbers: Sequence[int]

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, indexes: np.ndarray) -> Table:
        """Some of the rows, in the order of `indexes`."""
        rows = [self.rows[index] for index in indexes]
        return Table(self.source, self.header, rows, [self.numbers[index] for index in indexes])

    def column(self, name: str) -> list[str]:
        """The cells of a column, from top to bottom."""
        index = self.header.index(name)
        return [row[index] for row in self.rows]

    def present(self, name: str) -> list[str]:
        """The cells of a column that is to be predicted.

        Raises:
            ValueError: one of them is missing.
        """
        cells = self.column(name)
        absent = [index for index, cell in enumerate(cells) if cell in MISSING]
        if absent:
            raise ValueError(
                f"{self.where(absent[0])}: the target {name!r} is missing, as in {len(absent)} rows in all. "
                "Remove them: what is to be predicted must be known."
            )
        return cells

    @property
    def where(self) -> Callable[[int], str]:
        """What to call a row in messages, by its place in `rows`."""
        return lambda index: f"{self.source!r}, row {self.numbers[index]}"

    def require(self, names: Sequence[str], what: str) -> None:
        """Refuse names of columns that are not there.

        Raises:
            ValueError: one is not; the message gives the nearest and those that are.
        """
        for name in names:
            if name not in self.header:
                raise ValueError(
                    f"{self.source!r} has no column {name!r}, named by {what}.{nearest(name, self.header)} "
                    f"It has: {', '.join(map(repr, self.header))}."
                )


def read(path: str | Path) -> Table:
    """A CSV file in UTF-8, with or without a byte order mark; cells may be quoted.

    The header says by which of comma, semicolon and tab the file is divided. Blank lines and empty rows at the end are
    left out, but for those between the rows of a single column, which are cells without a value.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no CSV file in UTF-8 with a header and rows of the header's length.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {str(path)!r} (looked in {str(Path.cwd())!r}). Give a CSV file.")
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = _divide(text, path)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{str(path)!r} is not a CSV file in UTF-8: {error}.") from error
    while rows and not any(rows[-1]):
        rows.pop()
    filled = [index for index, row in enumerate(rows) if row]
    kept = range(filled[0], len(rows)) if filled and len(rows[filled[0]]) == 1 else filled
    rows, numbers = [rows[index] or [""] for index in kept], [index + 1 for index in kept]
    if len(rows) < 2 or not any(rows[0]):
        raise ValueError(f"{str(path)!r} needs a header in its first row, and rows below; it has {len(rows)} rows.")
    header = _header(rows[0], path)
    for index, row in zip(numbers, rows, strict=True):
        if len(row) != len(header):
            raise ValueError(
                f"{str(path)!r}, row {index} has {len(row)} cells, the header has {len(header)}: {_shown(row)}. "
                'A cell that holds the delimiter must be quoted: "a, b".'
            )
    return Table(str(path), header, rows[1:], numbers[1:])


def check_spread(values: np.ndarray, column: str, source: str) -> None:
    """Refuse numbers that lie too close together, far from 0, for the float32 that models compute in.

    Raises:
        ValueError: a step of float32 is more than a quarter of their standard deviation.
    """
    step = float(np.spacing(np.float32(np.nanmax(np.abs(values)))))
    spread = float(np.nanstd(values))
    if np.nanmin(values) != np.nanmax(values) and step > spread / 4:
        raise ValueError(
            f"{source!r}: column {column!r} lies around {np.nanmean(values):.10g}, where float32 has steps of "
            f"{step:g}, and varies by {spread:g} only. Subtract a constant from it, or leave it out."
        )


def _divide(text: str, path: Path) -> list[list[str]]:
    """The rows, divided by the mark that divides the header; of several, by the one that divides all rows alike."""

    def rows(delimiter: str) -> list[list[str]]:
        reader = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True, strict=True)
        return [[cell.strip() for cell in row] for row in reader]

    def fits(delimiter: str) -> bool:
        return len({len(row) for row in rows(delimiter)} - {0}) == 1

    first = text.lstrip("\r\n").partition("\n")[0]
    dividing = [mark for mark in DELIMITERS if mark in first and len(next(csv.reader([first], delimiter=mark))) > 1]
    if len(dividing) > 1:
        fitting = [mark for mark in dividing if fits(mark)]
        if len(fitting) != 1:
            found = " and ".join(DELIMITERS[mark] for mark in dividing)
            raise ValueError(f"{str(path)!r}: the header {first!r} has {found}, and it is not clear which divide it.")
        dividing = fitting
    return rows(dividing[0] if dividing else ",")


def _header(cells: Sequence[str], path: Path) -> tuple[str, ...]:
    where = f"{str(path)!r}: the header {_shown(cells)}"
    if all(cell not in MISSING and number(cell) is not None for cell in cells):
        raise ValueError(f"{where} holds numbers only. The first row must name the columns.")
    for index, name in enumerate(cells, start=1):
        if not name:
            raise ValueError(
                f"{where} has no name for column {index}. Name it; if it is the index that pandas writes, "
                "leave it out: to_csv(index=False)."
            )
        if name in cells[: index - 1]:
            raise ValueError(f"{where} names {name!r} twice. Columns are found by name.")
    return tuple(cells)


def _shown(row: Sequence[str]) -> str:
    """The beginning of a row, as a file would have it."""
    text = ",".join(row)
    return repr(text if len(text) <= 80 else f"{text[:80]}...")
