"""A picture from a stranger: its size is read from its first bytes, before memory is taken for it.

Only JPEG, PNG and WebP: each further format is another decoder that strangers could feed.
"""

import cv2
import numpy as np

_NO_SIZE = frozenset({0x01, *range(0xD0, 0xD8)})  # JPEG markers that nothing belongs to
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # those that begin a picture
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_CHUNKS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"eXIf", b"IDAT", b"IEND"})


def decode(data: bytes, megapixels: float) -> np.ndarray:
    """The picture as uint8 (h, w, 3) BGR, turned as its EXIF says. Raises ValueError, which says
    why in words for whoever sent it, for what is no such picture or has more pixels."""
    size_wh = picture_size(data)
    if size_wh is None:
        raise ValueError("this is no JPEG, PNG or WebP picture")
    width, height = size_wh
    if not 0 < width * height <= megapixels * 1e6:
        raise ValueError(f"a picture of {width}x{height}: at most {megapixels:g} megapixels")
    if data.startswith(_PNG):
        data = _bare_png(data)
    try:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        bgr = None
    if bgr is None:
        raise ValueError("this picture is damaged")
    return bgr


def picture_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) of the pixels a decoder would make of a JPEG, PNG or WebP file; None for
    anything else. Reads the size where the decoders themselves read it."""
    if data[:3] == b"\xff\xd8\xff":
        return _jpeg(data)
    if data[:16] == _PNG + b"\0\0\0\rIHDR" and len(data) >= 24:
        return _number(data[16:20]), _number(data[20:24])
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP" and len(data) >= 30:
        return _webp(data[12:16], data[20:30])
    return None


def _bare_png(data: bytes) -> bytes:
    """A PNG's own picture: the chunks that pixels and their turn come from, up to one that is cut
    off. OpenCV takes memory for what a chunk says it holds, libpng for what a text inflates to."""
    kept, at = [_PNG], len(_PNG)
    while (end := at + 12 + _number(data[at : at + 4])) <= len(data):
        if data[at + 4 : at + 8] in _PNG_CHUNKS:
            kept.append(data[at:end])
        at = end
    return b"".join(kept)


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _jpeg(data: bytes) -> tuple[int, int] | None:
    """From the first frame header (ITU T.81, B.2.2). What is between segments is passed over."""
    at = 2
    while (at := data.find(0xFF, at)) >= 0:
        while data[at : at + 1] == b"\xff":  # any number of them may fill
            at += 1
        marker = data[at] if at < len(data) else 0xD9
        at += 1
        if marker in (0xD9, 0xDA):  # the end, or pixels with no header before them
            return None
        if marker in _FRAMES:
            found = data[at + 3 : at + 7]
            return (_number(found[2:]), _number(found[:2])) if len(found) == 4 else None
        if marker != 0 and marker not in _NO_SIZE:
            at += max(2, _number(data[at : at + 2]))
    return None


def _webp(kind: bytes, body: bytes) -> tuple[int, int] | None:
    """From the first chunk (RFC 9649), of which body is the beginning."""
    if kind == b"VP8X":
        return (
            int.from_bytes(body[4:7], "little") + 1,
            int.from_bytes(body[7:10], "little") + 1,
        )
    if kind == b"VP8L" and body[0] == 0x2F:
        bits = int.from_bytes(body[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and body[3:6] == b"\x9d\x01\x2a":
        return (
            int.from_bytes(body[6:8], "little") & 0x3FFF,
            int.from_bytes(body[8:10], "little") & 0x3FFF,
        )
    return None
