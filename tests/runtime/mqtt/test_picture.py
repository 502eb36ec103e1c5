import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from peak import forget_peak, peak_bytes

from runtime.mqtt.picture import decode, picture_size

BGR = np.random.default_rng(3).integers(0, 255, (37, 53, 3), np.uint8)
WEBP = [cv2.IMWRITE_WEBP_QUALITY]
EXIF = b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0"
"""Turned by a quarter."""


def encoded(suffix: str, *options: int, bgr: np.ndarray = BGR) -> bytes:
    return cv2.imencode(suffix, bgr, list(options))[1].tobytes()


def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def png(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it has so many pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)


def with_chunks(*chunks: bytes) -> bytes:
    """The PNG with these behind its header."""
    return PICTURES["png"][:33] + b"".join(chunks) + PICTURES["png"][33:]


def jpeg(width: int, height: int, before: bytes = b"") -> bytes:
    frame = struct.pack(">BBHBHHB", 0xFF, 0xC0, 11, 8, height, width, 1) + b"\1\x11\0"
    return b"\xff\xd8" + before + frame + b"\xff\xd9"


PICTURES = {
    "jpeg": encoded(".jpg"),
    "progressive": encoded(".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "grey-jpeg": encoded(".jpg", bgr=BGR[..., 0]),
    "jpeg-with-restarts": encoded(".jpg", cv2.IMWRITE_JPEG_RST_INTERVAL, 1),
    "png": encoded(".png"),
    "grey-png": encoded(".png", bgr=BGR[..., 0]),
    "lossy-webp": encoded(".webp", *WEBP, 80),
    "lossless-webp": encoded(".webp", *WEBP, 101),
}


@pytest.mark.parametrize("data", PICTURES.values(), ids=PICTURES)
def test_the_size_is_the_decoders(data):
    assert picture_size(data) == (53, 37)
    bgr = decode(data, 1)
    assert bgr.shape == (37, 53, 3)
    assert np.array_equal(bgr, cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))


@pytest.mark.parametrize(
    ("before", "why"),
    [
        (b"\xff\xff\xff", "fill bytes"),
        (b"\xff\xe1\0\x10" + jpeg(9, 9)[:14], "another picture's header inside a segment"),
        (b"\xff\xe0\0\2garbage\xff\0", "garbage between segments"),
        (b"\xff\xd0\xff\x01", "markers without a segment"),
        (b"\xff\xc4\0\2\xff\xcc\0\2", "tables, whose markers are near those of frames"),
    ],
)
def test_what_may_stand_before_the_size_of_a_jpeg(before, why):
    assert picture_size(jpeg(300, 200, before)) == (300, 200), why


def test_an_extended_webp_has_its_canvas():
    data = b"RIFF\0\0\0\0WEBPVP8X\n\0\0\0\0\0\0\0" + (299).to_bytes(3, "little")
    assert picture_size(data + (199).to_bytes(3, "little")) == (300, 200)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"hello",
        b'{"board": "one"}',
        encoded(".bmp"),
        encoded(".tiff"),
        encoded(".ppm"),
        encoded(".jp2"),
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xff\xff",
        jpeg(5, 5)[:8],
        b"\xff\xd8\xff\xd9",
        b"\xff\xd8\xff\xda\0\2",
        b"\xff\xd8\xff\xe0\0\0",
        png(5, 5)[:20],
        b"\x89PNG\r\n\x1a\n\0\0\0\4gAMA\0\0\0\0" + png(5, 5)[8:],
        PICTURES["lossy-webp"][:25],
        b"RIFF\0\0\0\0WEBPALPH" + bytes(20),
    ],
)
def test_what_is_none(data):
    with pytest.raises(ValueError, match=r"^this is no JPEG, PNG or WebP picture$"):
        decode(data, 1)


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (png(30_000, 30_000), "30000x30000"),
        (png(2**31 - 1, 2**31 - 1), "2147483647x2147483647"),
        (png(2**32 - 1, 1), "4294967295x1"),
        (png(0, 5), "0x5"),
        (jpeg(65_535, 65_535), "65535x65535"),
        (jpeg(5, 0), "5x0"),
        (png(1001, 1000), "1001x1000"),
    ],
)
def test_too_many_pixels_take_no_memory(data, shown):
    """Were these decoded, the message would be that they are damaged."""
    with pytest.raises(ValueError, match=f"^a picture of {shown}: at most 1 megapixels$"):
        decode(data, 1)


@pytest.mark.parametrize("kind", PICTURES)
def test_every_truncation_is_a_picture_or_refused(kind):
    data = PICTURES[kind]
    for length in range(0, len(data), 7):
        try:
            assert decode(data[:length], 1).shape == (37, 53, 3)
        except ValueError as error:
            assert str(error) in ("this picture is damaged", "this is no JPEG, PNG or WebP picture")


def test_turned_as_its_exif_says():
    exif = b"Exif\0\0" + EXIF
    data = PICTURES["jpeg"]
    turned = data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]
    assert picture_size(turned) == (53, 37)
    assert decode(turned, 1).shape == (53, 37, 3)


def test_a_png_is_turned_too():
    assert decode(with_chunks(chunk(b"eXIf", EXIF)), 1).shape == (53, 37, 3)


def test_what_is_no_picture_in_a_png_is_not_read():
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1_000_000)))
    moving = chunk(b"acTL", struct.pack(">II", 1000, 0))
    np.testing.assert_array_equal(decode(with_chunks(text, moving) + b"more", 1), BGR)


@pytest.mark.parametrize("kind", ["png", "grey-png"])
@pytest.mark.parametrize("length", [100_000_000, 0x7FFF_FFFF, 0xFFFF_FFFF])
def test_a_chunk_that_says_it_is_long_takes_no_memory(kind, length):
    data = bytearray(PICTURES[kind])
    data[33:37] = struct.pack(">I", length)
    forget_peak()
    before = peak_bytes()
    with pytest.raises(ValueError, match="this picture is damaged"):
        decode(bytes(data), 1)
    assert peak_bytes() < before + 20_000_000


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(PICTURES)),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), min_size=1, max_size=3),
)
def test_no_decoder_makes_more_pixels_than_were_read(kind, changes):
    data = bytearray(PICTURES[kind])
    for place, value in changes:
        data[place] = value
    size_wh = picture_size(bytes(data))
    try:
        bgr = decode(bytes(data), 0.1)
    except ValueError:
        return
    assert size_wh in ((bgr.shape[1], bgr.shape[0]), bgr.shape[:2])
