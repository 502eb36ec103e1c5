"""Read what a .rknn file says of itself, with no NPU and none of the vendor's code."""

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.errors import UserError

_HEADER = struct.Struct("<4s4xQQ")  # magic, format version, body length
_HEADER_SIZE = 64
_FACTS_MARK = b'{"rkyolo":'


@dataclass(frozen=True)
class RknnFile:
    """The header of a compiled model. outputs: names and NCHW shapes; custom_string: our decode
    facts, None where the file has none."""

    format_version: int
    target: str
    toolkit: str
    outputs: tuple[tuple[str, tuple[int, ...]], ...]
    custom_string: str | None


def read_rknn(data: bytes, origin: Path) -> RknnFile:
    """The header of a .rknn file's bytes. Raises UserError for anything else than such a file."""
    if data.startswith(b"CYPTRKNN"):
        raise UserError(f"{origin} is encrypted: only the vendor's runtime can read it")
    if len(data) < _HEADER_SIZE or not data.startswith(b"RKNN"):
        raise UserError(f"{origin} is not a .rknn file")
    _, version, body = _HEADER.unpack_from(data)
    if version == 1:
        # the first generation's header is shorter: the JSON's length stands right behind the body
        plain = _json_at(data, 24 + body, origin)
    else:
        plain = _json_at(data, _HEADER_SIZE + body, origin)
    platform = plain.get("target_platform")
    target = platform[0] if isinstance(platform, list) and platform else platform
    return RknnFile(
        format_version=version,
        target=str(target),
        toolkit=str(plain.get("version", "unknown")).split("(")[0].strip(),
        outputs=_outputs(plain),
        custom_string=_custom_string(data[_HEADER_SIZE : _HEADER_SIZE + body]),
    )


def _json_at(data: bytes, offset: int, origin: Path) -> dict[str, Any]:
    try:
        (length,) = struct.unpack_from("<Q", data, offset)
        plain = json.loads(data[offset + 8 : offset + 8 + length])
    except (struct.error, ValueError, OverflowError, RecursionError) as error:
        raise UserError(f"{origin} is a damaged .rknn file: its description is missing") from error
    if not isinstance(plain, dict):
        raise UserError(f"{origin} is a damaged .rknn file: its description is no JSON object")
    return plain


def _outputs(plain: dict[str, Any]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Names and sizes of what the graph's output entries point at in norm_tensor."""
    tensors = {
        item.get("tensor_id"): item
        for item in plain.get("norm_tensor", [])
        if isinstance(item, dict)
    }
    graph = [item for item in plain.get("graph", []) if isinstance(item, dict)]
    found = []
    for item in graph:
        tensor = tensors.get(item.get("right_tensor_id"))
        if item.get("left") == "output" and tensor:
            found.append((str(tensor.get("url", "?")), tuple(tensor.get("size", ()))))
    return tuple(found)


def _custom_string(body: bytes) -> str | None:
    """The string that our marker begins; its length stands in the four bytes before it."""
    start = body.find(_FACTS_MARK)
    if start < 4:
        return None
    (length,) = struct.unpack_from("<I", body, start - 4)
    return body[start : start + length].rstrip(b"\0").decode("ascii", errors="replace")
