"""Reading delimited tables row by row, whatever an editor did to them.

Two dialects, since no one parser reads both kinds that are in use:

* ``lines``: one row a line, fields split at the delimiter (Common Voice and other TSVs; ``|``). A quotation mark is a
  character like any other, but a field that CSV software wrapped, such as ``"the ""public"" feasts"``, is unwrapped:
  Common Voice 6.1 has such rows, and their labels would else hold marks that nobody wrote.
* ``csv``: fields may be quoted and may hold line breaks (RFC 4180). A quote that is never closed costs its own row, not
  the rest of the file.

A byte order mark and CRLF are taken off. Rows that cannot be read are dropped as ``bad_row``, named by their line.
"""

from __future__ import annotations

import csv
import os
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hf_asr.errors import UserError
from hf_asr.files import allow_long_fields
from hf_asr.utterance import Drops

DELIMITERS = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "vertical bars"}
# A CSV record that is still open after so many lines has a quote that nobody closed.
_MOST_LINES = 100
_BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class Region:
    """A file, or a stretch of one (a member of an uncompressed tar archive).

    Attributes:
        path: The file.
        offset: First byte of the stretch.
        size: Bytes of the stretch; 0 means to the end of the file.
        name: What messages call it; empty means ``path``.
    """

    path: Path
    offset: int = 0
    size: int = 0
    name: str = ""

    def __str__(self) -> str:
        """Return what messages call it."""
        return self.name or str(self.path)


def check_file(path: str | os.PathLike[str], expected: str) -> Path:
    """Make sure that a path is a file that can be read.

    Args:
        path: What the user gave.
        expected: What should be there, for the message ("a manifest").

    Raises:
        UserError: It is missing, a folder, or may not be read.
    """
    try:
        with open(path, "rb"):
            return Path(path)
    except FileNotFoundError:
        raise UserError(f"expected {expected} at {path}, found nothing there; check the path") from None
    except IsADirectoryError:
        raise UserError(f"expected {expected} at {path}, found a folder; give the file itself") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise UserError(f"expected {expected} at {path}, but it cannot be read: {error}") from None


def byte_lines(region: Region) -> Iterator[tuple[int, bytes]]:
    """Yield (line number from 1, bytes without line end and byte order mark), split at line feeds only."""
    remaining = region.size or sys.maxsize
    with open(region.path, "rb") as file:
        file.seek(region.offset)
        number = 0
        while remaining > 0 and (line := file.readline(remaining)):
            remaining -= len(line)
            number += 1
            line = line.removeprefix(_BOM) if number == 1 else line
            yield number, line.removesuffix(b"\n").removesuffix(b"\r")


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose header has been read; :meth:`rows` reads the rest, lazily.

    Attributes:
        region: Where it is.
        columns: Names in the header.
        delimiter: One character.
        quoted: True for the ``csv`` dialect.
    """

    region: Region
    columns: tuple[str, ...]
    delimiter: str
    quoted: bool

    def require(self, *needed: str) -> None:
        """Make sure that columns are there.

        Raises:
            UserError: Names what is missing, what there is, and a delimiter that would fit better.
        """
        missing = [name for name in needed if name not in self.columns]
        if missing:
            raise UserError(
                f"expected the column{'s' * (len(missing) > 1)} {', '.join(missing)} in {self.region}, "
                f"found {', '.join(self.columns)}{_other_delimiter(self.columns, self.delimiter)}"
            )

    def rows(self, drops: Drops) -> Iterator[tuple[int, dict[str, str]]]:
        """Yield (line number, column to field) of every row that can be read.

        Args:
            drops: Takes the others, as ``bad_row``.

        Raises:
            UserError: There is no row at all, only a header.
        """
        lines = byte_lines(self.region)
        next(lines)
        read = _csv_rows if self.quoted else _line_rows
        number = 0
        for number, fields, fault in read(lines, self.delimiter, len(self.columns)):
            if fault:
                drops.add("bad_row", f"{self.region}, line {number}", fault)
            else:
                yield number, dict(zip(self.columns, fields, strict=True))
        if not number:
            raise UserError(f"{self.region} has a header and no rows; expected one row for each clip")


def open_table(region: Region, delimiter: str | None = None) -> Table:
    """Read a table's header.

    Args:
        region: Where the table is.
        delimiter: One character; None takes tabs where there are any, else the one that
            cuts the header into most columns.

    Raises:
        UserError: The file is missing, empty, or not UTF-8.
    """
    check_file(region.path, "a table")
    header = _header(region)
    delimiter = delimiter or ("\t" if "\t" in header else max(DELIMITERS, key=header.count))
    names = header.split(delimiter)
    wrapped = all(len(name) > 1 and name[0] == name[-1] == '"' for name in names)
    quoted = delimiter in ",;" or wrapped
    names = next(csv.reader([header], delimiter=delimiter)) if quoted else names
    columns = tuple(name.strip() for name in names)
    doubled = {name for name in columns if columns.count(name) > 1}
    if doubled:
        raise UserError(f"{region} has the column {', '.join(sorted(doubled))} twice; name each column once")
    return Table(region, columns, delimiter, quoted)


def _header(region: Region) -> str:
    line = next(byte_lines(region), (1, b""))[1]
    if line[:2] in _UTF16:
        raise UserError(f"{region} is UTF-16; expected UTF-8: save it again with that encoding")
    header, fault = _decode(line)
    if fault:
        raise UserError(f"the first line of {region} is no text header ({fault}); expected a UTF-8 table")
    if "\r" in header:
        raise UserError(f"{region} has lines that end in CR alone; expected LF or CRLF: save it again with these")
    if not header.strip():
        raise UserError(f"{region} is empty; expected a header with column names and one row for each clip")
    return header


def _decode(line: bytes) -> tuple[str, str]:
    """Return the text of a line, or why it has none."""
    if b"\0" in line:
        return "", "a NUL byte"
    try:
        return line.decode("utf-8"), ""
    except UnicodeDecodeError as error:
        return "", f"not UTF-8 at byte {error.start + 1}"


class _Lines:
    """Lines of a file, some of which can be handed back."""

    def __init__(self, lines: Iterator[tuple[int, bytes]]) -> None:
        self._lines = lines
        self._returned: deque[tuple[int, bytes]] = deque()

    def take(self) -> tuple[int, bytes] | None:
        """Return the next line, or None at the end."""
        return self._returned.popleft() if self._returned else next(self._lines, None)

    def give_back(self, lines: Sequence[tuple[int, bytes]]) -> None:
        """Put lines before those still to come."""
        self._returned.extendleft(reversed(lines))


_Rows = Iterator[tuple[int, list[str], str]]


def _line_rows(lines: Iterator[tuple[int, bytes]], delimiter: str, width: int) -> _Rows:
    """Yield (line number, fields, fault) of the ``lines`` dialect; empty lines are no rows."""
    for number, raw in lines:
        if raw:
            text, fault = _decode(raw)
            fields = [_unwrap(field) for field in text.split(delimiter)]
            yield number, fields, fault or _check_width(fields, width)


def _unwrap(field: str) -> str:
    """Undo CSV's wrapping where it cannot be anything else: every quote inside is doubled, and there is one."""
    inner = field[1:-1]
    if len(field) < 4 or field[0] != '"' or field[-1] != '"' or '"' not in inner:
        return field
    return inner.replace('""', '"') if '"' not in inner.replace('""', "") else field


def _csv_rows(lines: Iterator[tuple[int, bytes]], delimiter: str, width: int) -> _Rows:
    """Yield (line number, fields, fault) of the ``csv`` dialect.

    A record takes as many lines as its quotes ask for. One that cannot be read is dropped with its first line only,
    and reading goes on with the second.
    """
    allow_long_fields()
    feed = _Lines(lines)
    while line := feed.take():
        record = [line]
        if not line[1]:
            continue
        fields, fault, is_open = _parse(record, delimiter, width)
        while is_open and len(record) < _MOST_LINES and (line := feed.take()):
            record.append(line)
            fields, fault, is_open = _parse(record, delimiter, width)
        if fault:
            feed.give_back(record[1:])
        yield record[0][0], fields, fault


def _parse(record: Sequence[tuple[int, bytes]], delimiter: str, width: int) -> tuple[list[str], str, bool]:
    """Parse one record: its fields, why it cannot be read, and whether a quote in it is still open."""
    text, fault = _decode(b"\n".join(raw for _, raw in record))
    if fault:
        return [], fault, False
    try:
        fields = next(csv.reader([text], delimiter=delimiter, strict=True))
    except csv.Error as error:
        is_open = "unexpected end of data" in str(error)
        return [], "a quotation mark that is never closed" if is_open else str(error), is_open
    return fields, _check_width(fields, width), False


def _check_width(fields: list[str], width: int) -> str:
    """Take empty fields beyond the header off, and say so when the number of fields is still another."""
    while len(fields) > width and not fields[-1]:
        fields.pop()
    return "" if len(fields) == width else f"{len(fields)} fields, the header has {width}"


def _other_delimiter(columns: Sequence[str], delimiter: str) -> str:
    """Say which delimiter a one-column header seems to have."""
    if len(columns) > 1:
        return ""
    seen = [name for mark, name in DELIMITERS.items() if mark != delimiter and mark in columns[0]]
    return f"; it seems to be separated by {seen[0]}, expected {DELIMITERS[delimiter]}" if seen else ""
