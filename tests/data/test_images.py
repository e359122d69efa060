import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autopeft.data.images import MOST_PIXELS, open_image
from autopeft.errors import AutopeftError
from tests.watchdog import ended_after

Image = pytest.importorskip("PIL.Image")
RED = (255, 0, 0)


def encoded(image, kind: str = "PNG", **options: object) -> bytes:
    held = io.BytesIO()
    image.save(held, kind, **options)
    return held.getvalue()


def halves(mode: str = "RGB"):
    """Red above, black below."""
    image = Image.new("RGB", (32, 64))
    image.paste(RED, (0, 0, 32, 32))
    return image.convert(mode)


def complaint(value: object) -> str:
    with pytest.raises(AutopeftError) as caught:
        open_image(value, "row 3 of the train split")
    said = str(caught.value)
    assert "row 3 of the train split" in said
    assert "\n" not in said
    assert said.endswith(".")
    return said


def is_near(image, corner: tuple[int, int], colour: tuple[int, int, int]) -> bool:
    return bool(np.abs(np.subtract(image.getpixel(corner), colour, dtype=int)).max() < 12)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
@pytest.mark.parametrize("how", [bytes, bytearray, str, Path])
def test_each_kind_is_read_from_a_path_and_from_bytes(tmp_path, kind, how):
    held = encoded(halves(), kind)
    path = tmp_path / "x.jpg"
    path.write_bytes(held)
    image = open_image(how(path) if how in (str, Path) else how(held), "row 1")
    assert (image.mode, image.size) == ("RGB", (32, 64))
    assert is_near(image, (0, 63), (0, 0, 0))


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "I", "I;16"])
def test_each_mode_becomes_rgb(mode):
    kind = {"CMYK": "JPEG", "I": "TIFF"}.get(mode, "PNG")
    image = open_image(encoded(halves(mode) if not mode.startswith("I") else halves("L").convert(mode), kind), "row 1")
    assert image.mode == "RGB"
    assert is_near(image, (0, 63), (0, 0, 0))


def test_an_image_of_pillow_is_taken_as_it_is():
    assert open_image(halves("P"), "row 1").mode == "RGB"


def test_transparent_parts_are_white():
    hidden = Image.new("RGBA", (2, 2), (0, 0, 0, 0))
    assert open_image(encoded(hidden), "row 1").getpixel((0, 0)) == (255, 255, 255)
    palette = Image.new("P", (2, 2), 0)
    palette.putpalette([0, 0, 0])
    assert open_image(encoded(palette, "GIF", transparency=0), "row 1").getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["1", "L", "RGB"])
def test_a_transparent_colour_is_white(mode):
    held = encoded(Image.new(mode, (2, 2)), transparency=0 if mode != "RGB" else (0, 0, 0))
    assert open_image(held, "row 1").getpixel((0, 0)) == (255, 255, 255)


def test_sixteen_bits_become_eight():
    deep = Image.fromarray(np.array([[0, 257 * 100, 65535]], dtype=np.uint16))
    for kind in ("PNG", "TIFF"):
        image = open_image(encoded(deep, kind), "row 1")
        assert [image.getpixel((x, 0))[0] for x in range(3)] == [0, 100, 255]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_orientation_is_applied(kind):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    image = open_image(encoded(halves(), kind, exif=exif), "row 1")
    assert image.size == (64, 32)
    assert is_near(image, (0, 0), (0, 0, 0))
    assert image.getpixel((63, 0))[0] > 200


def test_damaged_exif_does_not_matter():
    image = open_image(encoded(halves(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\0\0"), "row 1")
    assert image.size == (32, 64)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_a_moving_image_the_first_frame_counts(kind):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue", "green")]
    held = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    assert is_near(open_image(held, "row 1"), (0, 0), RED)


def chunk(kind: bytes, held: bytes) -> bytes:
    return struct.pack(">I", len(held)) + kind + held + struct.pack(">I", zlib.crc32(kind + held))


def png(width: int, height: int, rows: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [10_001, 20_000, 2**31 - 1])
def test_a_bomb_is_refused_before_it_is_decoded(side):
    assert f"more than {MOST_PIXELS:,}" in complaint(png(side, side, b"\0" * 1000))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_a_truncated_image_is_answered(kind):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8))
    held = encoded(noise, kind)
    assert "cannot be read: " in complaint(held[: len(held) // 2])


@pytest.mark.parametrize(
    ("held", "reason"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "is no JPEG, PNG, WEBP, BMP, GIF, TIFF"),
        (b"some text", "is no JPEG, PNG, WEBP, BMP, GIF, TIFF"),
    ],
)
def test_a_file_that_is_no_image_is_answered(tmp_path, held, reason):
    (tmp_path / "x.jpg").write_bytes(held)
    said = complaint(tmp_path / "x.jpg")
    assert str(tmp_path / "x.jpg") in said
    assert reason in said


def test_a_path_to_no_file_is_answered(tmp_path):
    (tmp_path / "link.jpg").symlink_to(tmp_path / "nothing")
    assert "a link to nothing" in complaint(tmp_path / "link.jpg")
    assert "there is no file" in complaint(str(tmp_path / "x.jpg"))
    assert "a folder" in complaint(str(tmp_path))
    assert "cannot be read" in complaint("x" * 10_000)
    assert "cannot be read" in complaint("\0.jpg")


def test_a_file_of_any_size_is_answered(tmp_path):
    with (tmp_path / "x.webp").open("wb") as file:
        file.write(WHOLE["WEBP"])
        file.truncate(2**40)
    assert "is larger than " in complaint(tmp_path / "x.webp")


@pytest.mark.parametrize("value", [None, 3, float("nan"), [1, 2], {"path": "x"}])
def test_what_is_no_image_is_answered(value):
    assert "holds no image, neither as a path nor as bytes" in complaint(value)


def test_numbers_that_are_no_colours_are_answered():
    assert "numbers of 32 bits" in complaint(encoded(Image.new("F", (2, 2), 0.5), "TIFF"))
    assert "numbers of 32 bits" in complaint(encoded(Image.new("I", (2, 2), 10**6), "TIFF"))


WHOLE = {kind: encoded(halves(), kind) for kind in ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")}


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(WHOLE)), st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=4))))
def test_a_damaged_image_is_read_or_answered(kind, changes):
    held = bytearray(WHOLE[kind])
    for where, piece in changes:
        at = int(where * len(held))
        held[at : at + len(piece)] = piece
    with ended_after(20):
        try:
            image = open_image(bytes(held), "row 1")
        except AutopeftError:
            return
    assert image.mode == "RGB"
