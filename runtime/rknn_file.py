"""Read what a .rknn file says of itself, with no NPU and none of the vendor's code."""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, get_args

from runtime.errors import UserError
from runtime.manifest import Target

_HEADER = struct.Struct("<4s4xQQ")  # magic, format version, body length
_HEADER_SIZE = 64
_FIRST_GENERATION = 1
"""Its header is nothing but the fields above, and its sizes are in the order WHCN."""
_MOST_HEADS = 5
_FACTS_MARK = b'{"rkyolo":'


class RknnOutput(NamedTuple):
    """One output: its name, its NCHW shape, and the type it has on the NPU, like int8."""

    name: str
    shape: tuple[int, ...]
    type: str


@dataclass(frozen=True)
class RknnFile:
    """The header of a compiled model. custom_string: our decode facts, None where it has none."""

    format_version: int
    target: str
    toolkit: str
    outputs: tuple[RknnOutput, ...]
    custom_string: str | None


def read_rknn(data: bytes, origin: Path) -> RknnFile:
    """The header of a .rknn file's bytes. Raises UserError for anything else than such a file."""
    if data.startswith(b"CYPTRKNN"):
        raise UserError(f"{origin} is encrypted: only the vendor's runtime can read it")
    if len(data) < _HEADER_SIZE or not data.startswith(b"RKNN"):
        raise UserError(f"{origin} is not a .rknn file")
    _, version, body = _HEADER.unpack_from(data)
    first = version == _FIRST_GENERATION
    plain = _json_at(data, (_HEADER.size if first else _HEADER_SIZE) + body, origin)
    platform = plain.get("target_platform", "unknown")
    target = platform[0] if isinstance(platform, list) and platform else platform
    return RknnFile(
        format_version=version,
        target=str(target),
        toolkit=str(plain.get("version", "unknown")).split("(")[0].strip(),
        outputs=tuple(_outputs(plain, whcn=first)),
        custom_string=_custom_string(data[_HEADER_SIZE : _HEADER_SIZE + body]),
    )


def obstacles(file: RknnFile) -> list[str]:
    """Why this runtime cannot run a compiled model, each reason in a line; none where it can."""
    found = []
    if file.format_version == _FIRST_GENERATION:
        found.append("it is a first-generation file, for the NPUs of RK1808 and RK3399PRO")
    if file.target not in get_args(Target):
        found.append(f"it is built for {file.target}, not for {', '.join(get_args(Target))}")
    if len(file.outputs) > _MOST_HEADS and file.custom_string is None:
        found.append(
            f"it has {len(file.outputs)} outputs where YOLOv5 has one a head, so it looks"
            " anchor-free (YOLOv8 or later)"
        )
    if file.custom_string is None:
        found.append("it was not written by rkyolo and does not hold its anchors")
    return found


def _json_at(data: bytes, offset: int, origin: Path) -> dict[str, Any]:
    try:
        (length,) = struct.unpack_from("<Q", data, offset)
        plain = json.loads(data[offset + 8 : offset + 8 + length])
    except (struct.error, ValueError, OverflowError, RecursionError) as error:
        raise UserError(f"{origin} is a damaged .rknn file: its description is missing") from error
    if not isinstance(plain, dict):
        raise UserError(f"{origin} is a damaged .rknn file: its description is no JSON object")
    return plain


def _outputs(plain: dict[str, Any], whcn: bool) -> Iterator[RknnOutput]:
    """What the graph's output entries point at in norm_tensor, so far as it can be made out."""
    tensors = {str(item.get("tensor_id")): item for item in _dicts(plain.get("norm_tensor"))}
    for item in _dicts(plain.get("graph")):
        tensor = tensors.get(str(item.get("right_tensor_id")))
        if item.get("left") == "output" and tensor:
            size, dtype = tensor.get("size"), tensor.get("dtype")
            shape = [n for n in size if isinstance(n, int)] if isinstance(size, list) else []
            vx_type = dtype.get("vx_type", "unknown") if isinstance(dtype, dict) else "unknown"
            yield RknnOutput(
                name=str(tensor.get("url", "unknown")),
                shape=tuple(reversed(shape) if whcn else shape),
                type=str(vx_type).removeprefix("VSI_NN_TYPE_").lower(),
            )


def _dicts(plain: Any) -> list[dict[str, Any]]:
    return [item for item in plain if isinstance(item, dict)] if isinstance(plain, list) else []


def _custom_string(body: bytes) -> str | None:
    """The string that our marker begins; its length stands in the four bytes before it."""
    start = body.find(_FACTS_MARK)
    if start < 4:
        return None
    (length,) = struct.unpack_from("<I", body, start - 4)
    return body[start : start + length].rstrip(b"\0").decode("ascii", errors="replace")
