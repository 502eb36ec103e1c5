"""torch's two containers, taken apart and put together again by hand."""

import io
import pickle
import pickletools
import zipfile

MAGIC = 0x1950A86A20F9469CFC6C
PICKLE = "archive/data.pkl"


def members_of(data):
    """The members of a zip archive, by name."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zip_of(members, compression=zipfile.ZIP_STORED):
    """A zip archive of these members, with right checksums."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def zipped(content, **more):
    """A checkpoint of the newer format around a pickle; more are members beside it."""
    return zip_of({PICKLE: content, "archive/version": b"3\n"} | more)


def legacy(content, storages=b"", keys=()):
    """A checkpoint of the older format around a pickle."""
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2}}
    head = b"".join(pickle.dumps(value, 2) for value in (MAGIC, 1001, system))
    return head + content + pickle.dumps(list(keys), 2) + storages


def legacy_parts(data):
    """(what comes before, the main pickle, the list of keys and the storages)."""
    stream, ends = io.BytesIO(data), []
    for _ in range(4):
        for opcode, _, _ in pickletools.genops(stream):
            if opcode.name == "STOP":
                ends.append(stream.tell())
    return data[: ends[2]], data[ends[2] : ends[3]], data[ends[3] :]


def with_pickle(data, change):
    """A checkpoint of either format whose main pickle is what change makes of it."""
    if not data.startswith(b"PK"):
        head, content, tail = legacy_parts(data)
        return head + change(content) + tail
    members = members_of(data)
    (name,) = (name for name in members if name.endswith("/data.pkl"))
    return zip_of(members | {name: change(members[name])})


def spliced(content, key, operations):
    """A pickle in which a dictionary's key, whose value is None, gets what operations push."""
    seen = [None, None]
    for opcode, argument, position in pickletools.genops(content):
        if opcode.name == "NONE" and seen[0] == key:
            return content[:position] + operations + content[position + 1 :]
        seen = [seen[1], argument if "UNICODE" in opcode.name else None]
    raise ValueError(f"the pickle has no {key!r} that is None")
