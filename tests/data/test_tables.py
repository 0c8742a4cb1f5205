"""Tables survive editors: any text comes back, and a row that cannot be read is named, not lost."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hf_asr.data.tables import Region, byte_lines, check_file, open_table
from hf_asr.errors import UserError
from hf_asr.utterance import Drops

# Any text that one line of a file can hold. A lone surrogate is no UTF-8.
ONE_LINE = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\r\n"))
MANY_LINES = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\r"))
ANY_FILE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)


def write(folder: Path, content: str | bytes, name: str = "table.tsv") -> Region:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return Region(path)


def read(region: Region, delimiter: str | None = None) -> tuple[list[dict[str, str]], Drops]:
    drops = Drops()
    return [row for _, row in open_table(region, delimiter).rows(drops)], drops


def csv_text(rows: list[list[str]], delimiter: str, end: str = "\n", quoting: int = csv.QUOTE_MINIMAL) -> str:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, delimiter=delimiter, lineterminator=end, quoting=quoting).writerows(rows)  # type: ignore[arg-type]
    return buffer.getvalue()


@ANY_FILE
@given(texts=st.lists(ONE_LINE.map(lambda text: text.replace("\t", " ")), min_size=1, max_size=5))
def test_any_text_written_by_csv_software_survives_a_tsv(tmp_path: Path, texts: list[str]) -> None:
    region = write(tmp_path, csv_text([["path", "text"], *([f"{n}.wav", text] for n, text in enumerate(texts))], "\t"))
    rows, drops = read(region)
    assert [row["text"] for row in rows] == texts
    assert drops.total() == 0


@ANY_FILE
@given(texts=st.lists(ONE_LINE.map(lambda text: text.replace("\t", " ")), min_size=1, max_size=5))
def test_any_text_without_double_quotes_inside_quotes_survives_a_raw_tsv(tmp_path: Path, texts: list[str]) -> None:
    texts = [text.replace('""', '"') for text in texts]
    lines = ["path\ttext", *(f"{number}.wav\t{text}" for number, text in enumerate(texts))]
    rows, drops = read(write(tmp_path, "\n".join(lines)))
    assert [row["text"] for row in rows] == texts
    assert drops.total() == 0


@ANY_FILE
@given(
    texts=st.lists(MANY_LINES, min_size=1, max_size=5),
    delimiter=st.sampled_from(",;"),
    end=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_any_text_survives_a_csv(tmp_path: Path, texts: list[str], delimiter: str, end: str, quoting: int) -> None:
    rows = [["path", "text"], *([f"{number}.wav", text] for number, text in enumerate(texts))]
    found, drops = read(write(tmp_path, csv_text(rows, delimiter, end, quoting)))
    assert [row["text"] for row in found] == texts
    assert drops.total() == 0


@ANY_FILE
@given(content=st.binary(max_size=300))
def test_no_bytes_stop_the_reader(tmp_path: Path, content: bytes) -> None:
    """Every line behind the header is a row or a drop: nothing is lost, nothing raises but the two messages."""
    for name in ("table.tsv", "table.csv"):
        delimiter = "\t" if name.endswith("tsv") else ","
        region = write(tmp_path, delimiter.join(("path", "text")).encode() + b"\n" + content, name)
        lines = [line for _, line in byte_lines(region) if line][1:]
        if not lines:
            with pytest.raises(UserError, match="no rows"):
                read(region, delimiter)
            continue
        rows, drops = read(region, delimiter)
        # A CSV record may take several lines, each other line is exactly one row or one drop.
        assert len(rows) + drops.total() <= len(lines)
        if delimiter == "\t":
            assert len(rows) + drops.total() == len(lines)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("last", ["", "END"])
def test_bom_crlf_and_a_missing_last_line_end(tmp_path: Path, end: str, mark: str, last: str) -> None:
    content = mark + end.join(("path\ttext", "a.wav\tno end ", "b.wav\t", "")) + (last and "c.wav\tlast")
    rows, drops = read(write(tmp_path, content))
    expected = [{"path": "a.wav", "text": "no end "}, {"path": "b.wav", "text": ""}]
    assert rows == expected + ([{"path": "c.wav", "text": "last"}] if last else [])
    assert drops.total() == 0


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ('"he said ""no"" twice"', 'he said "no" twice'),  # as Common Voice 6.1 has it
        ('"""quoted"""', '"quoted"'),
        ('"quoted"', '"quoted"'),
        ('say "no" now', 'say "no" now'),
        ('"begins', '"begins'),
        ('ends"', 'ends"'),
        ('"', '"'),
        ('""', '""'),
        ('"one" and "two"', '"one" and "two"'),
        ("it's ’fine’", "it's ’fine’"),
        ("line\u2028separator\x0bvertical\x85next", "line\u2028separator\x0bvertical\x85next"),
    ],
)
def test_quotes_in_a_sentence_of_a_tsv(tmp_path: Path, written: str, text: str) -> None:
    rows, drops = read(write(tmp_path, f"path\ttext\na.wav\t{written}\nb.wav\tnext\n"))
    assert [row["text"] for row in rows] == [text, "next"]
    assert drops.total() == 0


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        ("b.wav", "1 fields, the header has 2"),
        ("b.wav\tone\ttwo", "3 fields, the header has 2"),
        ("b.wav\tnul\0byte", "a NUL byte"),
        (b"b.wav\tcaf\xe9", "not UTF-8 at byte 10"),
    ],
)
def test_rows_that_cannot_be_read_are_named_by_line(tmp_path: Path, line: str | bytes, detail: str) -> None:
    raw = line if isinstance(line, bytes) else line.encode()
    region = write(tmp_path, b"path\ttext\na.wav\tfirst\n" + raw + b"\nc.wav\tthird\n")
    rows, drops = read(region)
    assert [row["path"] for row in rows] == ["a.wav", "c.wav"]
    assert drops.reasons == {"bad_row": [(f"{region.path}, line 3", detail)]}


def test_empty_fields_beyond_the_header_are_nothing(tmp_path: Path) -> None:
    rows, drops = read(write(tmp_path, "path,text\na.wav,yes,,\n", "table.csv"))
    assert rows == [{"path": "a.wav", "text": "yes"}]
    assert drops.total() == 0


def test_an_open_quote_costs_its_own_row_only(tmp_path: Path) -> None:
    lines = ["path,text", 'a.wav,"never closed', *(f"{number}.wav,text {number}" for number in range(300))]
    region = write(tmp_path, "\n".join(lines), "table.csv")
    rows, drops = read(region)
    assert [row["text"] for row in rows] == [f"text {number}" for number in range(300)]
    assert drops.reasons == {"bad_row": [(f"{region.path}, line 2", "a quotation mark that is never closed")]}


def test_two_open_quotes_do_not_swallow_what_lies_between(tmp_path: Path) -> None:
    region = write(
        tmp_path, 'path,text\na.wav,"open\nb.wav,"closed"\nc.wav,fine\nd.wav,"open\ne.wav,fine\n', "table.csv"
    )
    rows, drops = read(region)
    assert [row["path"] for row in rows] == ["b.wav", "c.wav", "e.wav"]
    assert [place for place, _ in drops.reasons["bad_row"]] == [f"{region.path}, line 2", f"{region.path}, line 5"]


def test_a_field_with_line_breaks_is_one_row(tmp_path: Path) -> None:
    drops = Drops()
    table = open_table(write(tmp_path, 'path,text\na.wav,"one\ntwo\n\nthree"\nb.wav,four\n', "table.csv"))
    assert [(number, row["text"]) for number, row in table.rows(drops)] == [(2, "one\ntwo\n\nthree"), (6, "four")]
    assert drops.total() == 0


@pytest.mark.parametrize("delimiter", ["\t", ",", ";", "|"])
def test_the_delimiter_is_seen_in_the_header(tmp_path: Path, delimiter: str) -> None:
    region = write(tmp_path, f"path{delimiter}text{delimiter}speaker\na.wav{delimiter}yes{delimiter}ann\n", "table.txt")
    assert read(region)[0] == [{"path": "a.wav", "text": "yes", "speaker": "ann"}]


def test_tabs_win_over_commas_in_the_names(tmp_path: Path) -> None:
    assert open_table(write(tmp_path, "path\ttext (as read, unedited, raw)\n")).columns == (
        "path",
        "text (as read, unedited, raw)",
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        ("path\ttext\n".encode("utf-16"), "is UTF-16; expected UTF-8"),
        (b"ID3\x03\0\0\0", "no text header .a NUL byte."),
        (b"\x89PNG\xff", "no text header .not UTF-8"),
        (b"path\ttext\tpath\na\tb\tc\n", "has the column path twice"),
    ],
)
def test_headers_that_are_none(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_table(write(tmp_path, content))


@pytest.mark.parametrize("content", ["path\ttext\n", "path\ttext", "path\ttext\r\n\r\n"])
def test_a_header_without_rows_is_an_error(tmp_path: Path, content: str) -> None:
    with pytest.raises(UserError, match="has a header and no rows"):
        read(write(tmp_path, content))


@pytest.mark.parametrize(
    ("header", "needed", "message"),
    [
        ("path,sentence,up_votes", ("path", "sentence"), "path, sentence in .* separated by commas, expected tabs"),
        ("path;sentence", ("path",), "separated by semicolons"),
        ("client_id\tsentence\tage", ("path", "sentence"), "the column path in .*, found client_id, sentence, age$"),
    ],
)
def test_missing_columns_name_what_there_is(tmp_path: Path, header: str, needed: tuple[str, ...], message: str) -> None:
    table = open_table(write(tmp_path, f"{header}\n"), "\t")
    with pytest.raises(UserError, match=message):
        table.require(*needed)


def test_a_region_ends_where_its_member_ends(tmp_path: Path) -> None:
    before, table, after = b"x" * 700, b"path\ttext\na.wav\tone\nb.wav\ttwo", b"\nc.wav\tof another file\n"
    path = write(tmp_path, before + table + after, "archive.tar").path
    region = Region(path, len(before), len(table), "release.tar/train.tsv")
    assert [row["path"] for row in read(region)[0]] == ["a.wav", "b.wav"]
    assert str(region) == "release.tar/train.tsv"


@pytest.mark.parametrize(("make", "message"), [("nothing", "found nothing there"), ("folder", "found a folder")])
def test_paths_that_are_no_files(tmp_path: Path, make: str, message: str) -> None:
    path = tmp_path / "train.tsv"
    if make == "folder":
        path.mkdir()
    with pytest.raises(UserError, match=f"expected a manifest at .*train.tsv, {message}"):
        check_file(path, "a manifest")


def test_a_loop_of_links_is_no_file(tmp_path: Path) -> None:
    path = tmp_path / "loop.tsv"
    path.symlink_to(path)
    with pytest.raises(UserError, match="cannot be read"):
        check_file(path, "a table")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_a_table_that_may_not_be_read(tmp_path: Path) -> None:
    region = write(tmp_path, "path\ttext\n")
    region.path.chmod(0)
    with pytest.raises(UserError, match="cannot be read"):
        open_table(region)
