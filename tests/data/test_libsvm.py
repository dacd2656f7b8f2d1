"""LIBSVM text: numbers against Python's float, files against scikit-learn, and a name for everything that is wrong."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sklearn.datasets import dump_svmlight_file, load_svmlight_file

from lambdaml_core.builtin import LibsvmOptions
from lambdaml_core.data import text as text_files
from lambdaml_core.data.formats import MalformedRow, Rows
from lambdaml_core.data.libsvm import Libsvm, parse_block, parse_lines
from lambdaml_core.data.samples import CENSUS_INCOME
from lambdaml_core.errors import DataError

MOST = 2**31 - 1


def same(a: Rows, b: Rows) -> bool:
    return all(
        x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True)
    )


def quick(data: bytes, features: int = MOST) -> Rows:
    """What the quick parser makes of a block, which it must not hand over to the slow one."""
    rows = parse_block(data, features)
    assert rows is not None
    return rows


DIGITS = st.text("0123456789", max_size=20)
NUMBERS = st.one_of(
    st.builds("{}{}.{}".format, st.sampled_from(["", "-", "+"]), DIGITS, DIGITS),
    st.builds("{}{}".format, st.sampled_from(["", "-", "+"]), DIGITS),
    st.floats(-1e30, 1e30).map(repr),
    st.floats(-(2.0**99), 2.0**99, width=32).map(lambda v: f"{v:.9g}"),
    st.floats(-1e30, 1e30).map(lambda v: f"{v:.18E}"),
).filter(lambda text: any(c.isdigit() for c in text))


@given(st.lists(NUMBERS, min_size=1, max_size=8))
@example(["0.1", "-0", "9999999.99999999", "12345678.5", "123456789", ".5", "5.", "+1.25", "16777217", "1e-46", "-.0"])
@example(["99999999999999999999", "0.12345678", "0.123456789", "1234567.12345678", "0000000000001.5"])
def test_a_number_is_the_nearest_float64_rounded_to_float32(texts: list[str]) -> None:
    line = f"{texts[0]} " + " ".join(f"{i}:{text}" for i, text in enumerate(texts, 1)) + "\n"
    expected = np.array([np.float32(float(text)) for text in texts])
    for rows in (quick(line.encode()), parse_lines(line.encode(), MOST)):
        assert rows.values.tobytes() == expected.tobytes()
        assert rows.labels.tobytes() == np.float64(texts[0]).tobytes()


SPACE = st.sampled_from([" ", "  ", "\t", " \t "])
COMMENT = st.sampled_from(["", "", "", "#", " # 1:2 qid:3 nan\t", "#\x00\xe9#"])


@st.composite
def texts(draw: st.DrawFn) -> tuple[str, list[tuple[int, str, dict[int, str]]]]:
    """A block with every liberty that the format takes, and its rows: line, label, entries."""
    out, rows = [], []
    for line in range(draw(st.integers(0, 12))):
        text = draw(st.sampled_from(["", "", " ", "\t "]))
        if draw(st.integers(0, 4)):
            label = draw(st.sampled_from(["0", "1", "-1", "+1", "2", "1.5", "1e2"]))
            indices = sorted(draw(st.sets(st.one_of(st.integers(1, 9), st.integers(1, 99_999_999)), max_size=5)))
            entries = {i: draw(NUMBERS) for i in indices}
            text += label + "".join(draw(SPACE) + f"{i}:{v}" for i, v in entries.items())
            text += draw(st.sampled_from(["", "", " ", "\t"]))
            rows.append((line, label, entries))
        out.append(text + draw(COMMENT) + draw(st.sampled_from(["\n", "\n", "\r\n"])))
    return "".join(out), rows


@given(texts())
def test_liberties_of_the_format_change_nothing(given_text: tuple[str, list[tuple[int, str, dict[int, str]]]]) -> None:
    text, rows = given_text
    data = text.encode("latin-1")
    found = quick(data)
    assert same(found, parse_lines(data, MOST))
    assert found.lines.tolist() == [line for line, _, _ in rows]
    assert found.labels.tolist() == [float(label) for _, label, _ in rows]
    assert np.diff(found.indptr).tolist() == [len(entries) for _, _, entries in rows]
    assert found.indices.tolist() == [i - 1 for _, _, entries in rows for i in entries]
    assert found.values.tolist() == [np.float32(float(v)) for _, _, entries in rows for v in entries.values()]


ALPHABET = b"0123456789999  \n\n:::...+-eE#\r\t_naif,\x00\x0b\x85"


@given(st.lists(st.sampled_from(list(ALPHABET)), max_size=40).map(bytes), st.sampled_from([5, 100, MOST]))
@example(b"\x00", 10)
@example(b"1 3:", 10)
@example(b"1 3: 4:1", 10)
@example(b"1 :5", 10)
@example(b":", 10)
@example(b"1 1:-", 10)
@example(b"1 1:.", 10)
@example(b"- 1:1", 10)
@example(b"1 1:1e", 10)
@example(b"1 1:1e999", 10)
@example(b"1 99999999999:1", MOST)
@example(b"1 2147483648:1", MOST)
@example(b"1 2147483647:1", MOST)
def test_the_quick_parser_takes_nothing_that_the_careful_one_refuses(data: bytes, features: int) -> None:
    rows = parse_block(data + b"\n", features)
    try:
        expected = parse_lines(data + b"\n", features)
    except MalformedRow:
        assert rows is None
    else:
        assert rows is None or same(rows, expected)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("1 1:nan", "index 1 is 'nan'"),
        ("1 1:-Infinity", "index 1 is '-Infinity'"),
        ("1 1:1e39", "too large"),
        ("nan 1:1", "label is 'nan'"),
        ("yes 1:1", "label is 'yes', which is no number"),
        ("1:2 2:3", "label is '1:2'"),
        ("1 0:1", "index 0; indices count from 1"),
        ("1 -3:1", "'-3:1' is not index:value"),
        ("1 2:1 2:1", "index 2 after 2"),
        ("1 3:1 2:1", "index 2 after 3"),
        ("1 2", "'2' is not index:value"),
        ("1 2:", "index 2 is ''"),
        ("1 2:1:1", "'1:1', which is no number"),
        ("1 2:0x1p3", "no number"),
        ("1 2:1_000", "no number"),
        ("1 qid:7 2:1", "query id"),
        ("1 11:1", "index 11 is larger than 10"),
        ("1,0 2:1", "label is '1,0'"),
        ("1 \x00:1", "is not index:value"),
    ],
)
def test_a_malformed_line_is_refused_by_name(line: str, says: str) -> None:
    data = f"1 1:1\n\n# nothing\n{line}\n1 worse\n".encode()
    assert parse_block(data, 10) is None
    with pytest.raises(MalformedRow) as caught:
        Libsvm(LibsvmOptions(features=10)).parse(data)
    assert caught.value.line == 3
    assert says in caught.value.message


def read(path: Path) -> Rows:
    """All rows of a file, through its blocks."""
    reader = Libsvm(LibsvmOptions())
    blocks = list(reader.blocks(path))
    parts = [reader.parse(block.data) for block in blocks]
    starts = np.cumsum([0, *(len(p.values) for p in parts)])
    return Rows(
        np.concatenate([p.lines + b.first for p, b in zip(parts, blocks, strict=True)]),
        np.concatenate([p.labels for p in parts]),
        np.concatenate([[0], *(p.indptr[1:] + s for p, s in zip(parts, starts[:-1], strict=True))]),
        np.concatenate([p.indices for p in parts]),
        np.concatenate([p.values for p in parts]),
    )


def check_against_sklearn(path: Path) -> None:
    x, y = load_svmlight_file(str(path), dtype=np.float64, zero_based=False)
    rows = read(path)
    assert rows.labels.tolist() == y.tolist()
    assert rows.indptr.tolist() == x.indptr.tolist()
    assert rows.indices.tolist() == x.indices.tolist()
    assert rows.values.tobytes() == x.data.astype(np.float32).tobytes()


def test_the_bundled_census_is_read_as_scikit_learn_reads_it() -> None:
    check_against_sklearn(CENSUS_INCOME)


@pytest.mark.parametrize("digits", ["%.16g", "%.4f", "%.3e"])
def test_files_that_scikit_learn_writes_are_read_back(tmp_path: Path, digits: str) -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(500, 30)) * (rng.random((500, 30)) < 0.5) * 10.0 ** rng.integers(-20, 20, (500, 1))
    text = io.BytesIO()
    dump_svmlight_file(np.vectorize(lambda v: float(digits % v))(x), rng.integers(0, 2, 500), text, zero_based=False)
    path = tmp_path / "rows.libsvm"
    path.write_bytes(text.getvalue())
    check_against_sklearn(path)


def test_blocks_are_whole_lines_that_make_the_file_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "_BLOCK_BYTES", 50)
    lines = [f"{i % 2} " + " ".join(f"{j}:{i}" for j in range(1, 1 + i % 30)) + "\n" for i in range(40)]
    text = "".join(lines).encode()
    plain, packed = tmp_path / "rows.svm", tmp_path / "no-suffix"
    plain.write_bytes(text[:-1])  # no newline at the end
    packed.write_bytes(gzip.compress(text[:-1]))
    reader = Libsvm(LibsvmOptions())
    blocks = list(reader.blocks(plain))
    assert b"".join(b.data for b in blocks) == text
    assert all(b.data.endswith(b"\n") for b in blocks)
    assert [b.first for b in blocks] == np.cumsum([0, *(b.data.count(b"\n") for b in blocks)])[:-1].tolist()
    assert blocks[-1].read == len(text) - 1
    assert [b[:2] for b in reader.blocks(packed)] == [b[:2] for b in blocks]


def test_what_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "_LONGEST_RECORD_BYTES", 3 << 20)
    packed = gzip.compress(b"1 1:1\n" * 1000)
    files = {
        "cut.gz": packed[:-20],
        "garbled.gz": packed[:12] + b"\xff\xff\xff" + packed[15:],
        "binary": b"\xff" * (5 << 20),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    for name in [*files, ".", "missing"]:
        with pytest.raises(DataError, match=str(tmp_path / name)):
            list(Libsvm(LibsvmOptions()).blocks(tmp_path / name))
