"""The two containers torch writes: a zip archive, and before 1.6 a row of pickles with raw data."""

import io
import struct
import zipfile
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from convert.checkpoint.allowed import STORAGE_DTYPES
from convert.checkpoint.unpickle import unpickle
from convert.checkpoint.values import Global, Storage, StoredTensor
from runtime.errors import UserError

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_LARGEST_PICKLE = 64 << 20
_MOST_INFLATED = 64 << 20
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    NotImplementedError,
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    LookupError,
    OverflowError,
)
"""What zipfile raises on damaged archives, by trial."""


@dataclass(frozen=True, eq=False)
class Archive:
    """A checkpoint file taken apart: the value of its pickle, and its storages by key."""

    value: Any
    storages: dict[str, np.ndarray]

    def tensor(self, stored: StoredTensor) -> np.ndarray:
        """A stored tensor as a read-only array, float32 where it holds floats, else as it is.

        Raises ValueError where it does not lie inside its storage, or repeats elements of it.
        """
        data = self.storages[stored.storage.key]
        size, stride = stored.size, stored.stride
        if 0 in size:
            return np.empty(size, np.float32)
        count = int(np.prod(size, dtype=object))
        last = stored.offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
        if last >= len(data) or count > len(data):
            raise ValueError(f"a tensor of {count} numbers does not fit its storage of {len(data)}")
        view = np.lib.stride_tricks.as_strided(
            data[stored.offset :], size, [s * data.itemsize for s in stride], writeable=False
        )
        if stored.storage.dtype == "bfloat16":
            bits = view.astype(np.uint32)
            bits <<= np.uint32(16)
            return bits.view(np.float32)
        if view.dtype.kind != "f":
            return view
        with np.errstate(over="ignore", invalid="ignore"):  # what became infinite is refused later
            return view.astype(np.float32)


def open_archive(data: bytes, origin: str) -> Archive:
    """Take a checkpoint's bytes apart. Raises UserError for what is neither container, damaged, or
    holds more than a checkpoint does; origin names the file in errors."""
    if data.startswith(b"PK"):
        return _open_zip(data, origin)
    return _open_legacy(data, origin)


def _open_zip(data: bytes, origin: str) -> Archive:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = _members(archive, len(data))
            folder = _folder(members, origin)
            if archive.NameToInfo.get(f"{folder}/byteorder") is not None:
                _little_endian(_read(archive, members[f"{folder}/byteorder"], 16), origin)
            stream = io.BytesIO(_read(archive, members[f"{folder}/data.pkl"], _LARGEST_PICKLE))
            wanted: dict[str, Storage] = {}
            value = unpickle(stream, origin, lambda pid: _storage(pid, wanted))
            if sum(map(_size, wanted.values())) > max(4 * len(data), _MOST_INFLATED):
                raise ValueError("its storages are larger than the file")
            storages = {
                key: _zip_storage(archive, members, f"{folder}/data/{key}", storage)
                for key, storage in wanted.items()
            }
    except _ZIP_ERRORS as error:
        raise UserError(_damaged(origin, error)) from error
    return Archive(value, storages)


def _members(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """The members by name. Raises ValueError where two readers could see different files: two
    members of one name, or members that share bytes."""
    infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
    members = {info.filename: info for info in infos}
    if len(members) != len(infos):
        raise ValueError("two of its members have one name")
    ends = [info.header_offset for info in infos[1:]]
    for info, end in zip(infos, [*ends, size], strict=False):
        if info.header_offset + info.compress_size > end:
            raise ValueError(f"{info.filename!r} overlaps what comes next")
        if info.compress_type not in _COMPRESSIONS:
            raise ValueError(f"{info.filename!r} is compressed in another way than torch does")
    return members


def _folder(members: dict[str, zipfile.ZipInfo], origin: str) -> str:
    """The one top folder that torch writes everything into."""
    folders = {name.partition("/")[0] for name in members}
    if any(name.endswith("/constants.pkl") for name in members):
        raise UserError(
            f"{origin} is a TorchScript archive, which holds compiled code instead of the network:"
            " give the best.pt that train.py wrote, or export ONNX and convert that"
        )
    with_pickle = [folder for folder in folders if f"{folder}/data.pkl" in members]
    if len(with_pickle) != 1:
        raise UserError(
            f"{origin} is a zip archive but no torch checkpoint: it has {len(with_pickle)} data.pkl"
        )
    return with_pickle[0]


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo, limit: int) -> bytes:
    """A member's bytes, whose checksum zipfile checks; no more than limit."""
    if member.file_size > limit:
        raise ValueError(f"{member.filename} says it has {member.file_size} bytes")
    with archive.open(member) as stream:
        found = stream.read(limit + 1)
    if len(found) != member.file_size:
        raise ValueError(f"{member.filename} is {len(found)} bytes, not {member.file_size}")
    return found


def _zip_storage(
    archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], name: str, storage: Storage
) -> np.ndarray:
    size, member = _size(storage), members[name]
    if member.file_size != size:
        raise ValueError(f"{name} has {member.file_size} bytes, {size} were expected")
    return _numbers(_read(archive, member, size), storage)


def _open_legacy(data: bytes, origin: str) -> Archive:
    stream = io.BytesIO(data)
    if not _is_legacy(stream, origin):
        raise UserError(
            f"{origin} is no torch checkpoint: give the best.pt that YOLOv5's train.py wrote"
        )
    wanted: dict[str, Storage] = {}
    system = unpickle(stream, origin, _no_persistent)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        _little_endian(b"big", origin)
    value = unpickle(stream, origin, lambda pid: _storage(pid, wanted))
    keys = unpickle(stream, origin, _no_persistent)
    try:
        named = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
        if not named or sorted(keys) != sorted(wanted):
            raise ValueError("its list of storages is not that of its pickle")
        storages = {key: _legacy_storage(stream, wanted[key]) for key in keys}
    except (ValueError, TypeError, struct.error) as error:
        raise UserError(_damaged(origin, error)) from error
    return Archive(value, storages)


def _is_legacy(stream: io.BytesIO, origin: str) -> bool:
    """Whether the stream begins with torch's magic number and protocol; leaves it behind them."""
    if stream.getbuffer()[:1] != b"\x80":
        return False
    magic = unpickle(stream, origin, _no_persistent)
    return magic == _LEGACY_MAGIC and unpickle(stream, origin, _no_persistent) == _LEGACY_PROTOCOL


def _legacy_storage(stream: io.BytesIO, storage: Storage) -> np.ndarray:
    (count,) = struct.unpack("<q", stream.read(8))
    size = _size(storage)
    left = stream.getbuffer().nbytes - stream.tell()
    if count != storage.count or size > left:
        raise ValueError(f"a storage of {storage.count} numbers is cut short")
    return _numbers(stream.read(size), storage)


def _storage(pid: Any, wanted: dict[str, Storage]) -> Any:
    """The record behind torch's persistent id, kept in wanted under its key."""
    match pid:
        case ("module", Global() as cls, *_):  # old files add each class's source text
            return cls
        case ("storage", Global("torch", kind), str(key), str(), int(count), *rest) if (
            kind in STORAGE_DTYPES and 0 <= count < 2**48 and rest in ([], [None])
        ):
            storage = Storage(key, STORAGE_DTYPES[kind], count)
            if wanted.setdefault(key, storage) != storage:
                raise ValueError(f"storage {key} is described twice, differently")
            return storage
    raise ValueError("a persistent id of unknown form")


def _no_persistent(_: Any) -> Any:
    raise ValueError("a persistent id where none belongs")


def _dtype(storage: Storage) -> np.dtype:
    """numpy's; it has no bfloat16, whose bits are read as they are."""
    return np.dtype("<u2" if storage.dtype == "bfloat16" else storage.dtype)


def _size(storage: Storage) -> int:
    return storage.count * _dtype(storage).itemsize


def _numbers(data: bytes, storage: Storage) -> np.ndarray:
    return np.frombuffer(data, _dtype(storage))


def _little_endian(order: bytes, origin: str) -> None:
    if order.strip() != b"little":
        raise UserError(f"{origin} was saved on a big-endian machine, which is not supported")


def _damaged(origin: str, error: Exception) -> str:
    reason = " ".join(str(error).split()) or type(error).__name__
    shown = "".join(c if c.isprintable() else "?" for c in reason[:200])  # it may name a member
    return f"{origin} is damaged or cut short ({shown}): copy it again from where it was trained"
