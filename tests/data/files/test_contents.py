"""Whatever lies under a name is read by bounded work, or answered."""

import bz2
import gzip
import lzma
import os
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest

from autopeft import machine
from autopeft.data.files.contents import Allowance, contents, decoded, kind_of
from autopeft.errors import AutopeftError

TEXT = "text,label\na film,good\n"


def zipped(path: Path, **files: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, held in files.items():
            archive.writestr(name, held)
    return path


def compressed(folder: Path, suffix: str, held: bytes) -> Path:
    path = folder / f"x.csv{suffix}"
    match suffix:
        case ".zip":
            return zipped(path, **{"x.csv": held.decode()})
        case ".zst":
            path.write_bytes(pa.compress(held, "zstd", asbytes=True))
        case _:
            path.write_bytes({".gz": gzip, ".bz2": bz2, ".xz": lzma}[suffix].compress(held))
    return path


def complaint(path: Path, most: int = 10**6) -> str:
    with pytest.raises(AutopeftError) as caught:
        decoded(path, Allowance(most))
    return str(caught.value)


SUFFIXES = (".gz", ".bz2", ".xz", ".zst", ".zip")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_compressed_file_is_read(tmp_path, suffix):
    path = compressed(tmp_path, suffix, TEXT.encode())
    assert decoded(path, Allowance(1000)) == TEXT
    assert kind_of(path) == ".csv"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_decodes_to_too_much_is_answered_before_it_is_held(tmp_path, suffix):
    path = compressed(tmp_path, suffix, bytes(20 * 2**20))
    assert path.stat().st_size < 100_000
    allowance = Allowance(3 * 2**20)
    with pytest.raises(AutopeftError, match=r"more than 3\.00 MiB when it is decoded, an eighth of this machine's"):
        contents(path, allowance)


def test_a_large_file_is_answered_before_it_is_read(tmp_path):
    path = tmp_path / "x.csv"
    with path.open("wb") as file:
        file.truncate(2**40)
    assert "is too large: with it the data takes more than 954 MiB" in complaint(path, 10**9)


def test_what_is_allowed_counts_over_all_files(tmp_path):
    allowance = Allowance(3 * len(TEXT))
    paths = [tmp_path / f"{number}.csv" for number in range(4)]
    for path in paths:
        path.write_text(TEXT)
    for path in paths[:3]:
        decoded(path, allowance)
    with pytest.raises(AutopeftError, match=r"3\.csv' is too large"):
        decoded(paths[3], allowance)


def test_an_eighth_of_the_memory_is_allowed(monkeypatch):
    assert 2**28 < machine.memory() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    monkeypatch.setattr(machine, "memory", lambda: 8000)
    assert Allowance().most == 1000


def test_the_one_member_of_an_archive_gives_the_kind(tmp_path):
    path = zipped(tmp_path / "reviews.zip", **{"reviews.jsonl": "{}", "__MACOSX/._reviews.jsonl": "x"})
    assert kind_of(path) == ".jsonl"
    assert decoded(path, Allowance(1000)) == "{}"
    assert "must hold one file, but holds 'a.csv, b.csv'" in complaint(
        zipped(tmp_path / "x.csv.zip", **{"a.csv": "", "b.csv": ""})
    )


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 12\n", "is no csv, but a Git LFS pointer"),
        (b"\n<!DOCTYPE html><html>", "is no csv, but a web page; download the file itself"),
        (b"\xef\xbb\xbf<html lang='en'>", "is no csv, but a web page"),
        (b"<?xml version='1.0'?>", "is no csv, but XML"),
        (b"PK\x03\x04\x14\0", "is no csv, but a zip archive or a workbook of Excel"),
        (b"PAR1\x15\0", "is no csv, but parquet; name it so."),
        (gzip.compress(b"x", mtime=0), "is no csv, but compressed by gzip; let its name end in .gz."),
        (
            b"text\xff",
            "is not UTF-8 text: line 1 holds the byte 0xff; save it as UTF-8 (Excel calls that 'CSV UTF-8').",
        ),
        (b"\xff\xfea", "is not UTF-16 text: line 1 holds the byte 0x61"),
        (b"text\n\0\0\0", "is no text: line 2 holds a zero byte, as damaged files do, and UTF-16 without its mark"),
        ("text,label\n".encode("utf-16-le"), "is no text: line 1 holds a zero byte"),
        (b"", "is empty."),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_answered(tmp_path, held, said):
    path = tmp_path / "x.csv"
    path.write_bytes(held)
    assert said in complaint(path)


def test_what_is_no_file_is_answered_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "link.csv").symlink_to(tmp_path / "link.csv")
    (tmp_path / "lost.csv").symlink_to(tmp_path / "nothing.csv")
    (tmp_path / "folder.csv").mkdir()
    assert complaint(tmp_path / "pipe.csv").endswith("pipe.csv' is a device or a pipe, not a file.")
    assert complaint(tmp_path / "link.csv").endswith("link.csv' is a link to nothing.")
    assert complaint(tmp_path / "lost.csv").endswith("lost.csv' is a link to nothing.")
    assert complaint(tmp_path / "folder.csv").endswith("folder.csv' is a folder, not a file.")
    assert complaint(Path("/dev/zero")) == "'/dev/zero' is a device or a pipe, not a file."
