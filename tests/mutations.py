"""Damage golden checkpoints at random and read what comes out, as a program of its own.

    python tests/mutations.py FOLDER SEED COUNT

Prints JSON: how many of each third ended in a model, how many in a UserError, and what ended in
anything else. A mutation is the same for the same seed and number.
"""

import json
import pickletools
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

import onnx
from peak import peak_bytes
from torch_files import legacy_parts, members_of, zip_of

from convert.checkpoint import read_checkpoint
from convert.network import deploy_graph, facts_for
from runtime.errors import UserError

MOST_SECONDS = 10
MOST_BYTES = 1 << 30
SMALL = "v70_v3tiny"
OLDER = "v50_s_legacy"
EXTREME = [b"\x00", b"\xff", b"\x7f", b"\x80", b"\x01"]
NUMBERS = [b"\x00\x7c", b"\x00\xfc", b"\x01\x7c", b"\x00\x80", b"\xff\x7b"]
"""In half precision: infinities, not a number, minus zero, the largest."""


def damaged(data, rng, first=0, last=None):
    """Bytes with one to four small accidents between first and last."""
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        end = min(last or len(data), len(data))
        at = rng.randrange(min(first, end - 1), end) if end else 0
        length = rng.choice([1, 1, 1, 2, 4, 8, 100])
        kind = rng.randrange(8)
        if kind <= 2:
            flipped = 1 << rng.randrange(8)
            data[at : at + 1] = bytes(byte ^ flipped for byte in data[at : at + 1])
        elif kind == 3:
            data[at : at + length] = rng.choice(EXTREME) * length
        elif kind == 4:
            data[at : at + length] = rng.randbytes(length)
        elif kind == 5:
            del data[at : at + length]
        elif kind == 6:
            data[at:at] = data[at : at + length]
        elif rng.random() < 0.3:
            del data[at:]
        else:
            data[at:at] = rng.randbytes(length)
    return bytes(data)


def operations_of(content):
    """(where it begins, where it ends) of every operation of a pickle."""
    begins = [position for _, _, position in pickletools.genops(content)]
    return list(zip(begins, [*begins[1:], len(content)], strict=True))


def rewritten(content, operations, rng):
    """A pickle with whole operations lost, repeated, swapped or become others."""
    for _ in range(rng.choice([1, 1, 2])):
        begin, end = rng.choice(operations)
        other, behind = rng.choice(operations)
        kind = rng.randrange(5)
        if kind == 0:
            part = b""
        elif kind == 1:
            part = content[begin:end] * 2
        elif kind == 2:
            part = content[other:behind]
        elif kind == 3:
            part = rng.choice(pickletools.opcodes).code.encode("latin-1") + content[begin + 1 : end]
        else:
            part = content[begin : begin + 1] + damaged(content[begin + 1 : end] or b"\0", rng)
        content = content[:begin] + part + content[end:]
    return content


class Mutations:
    """Mutation number i of a seed: a third each of raw bytes, of what an archive holds, and of the
    older format."""

    def __init__(self, folder, seed):
        self.seed = seed
        self.files = {path.stem: path.read_bytes() for path in sorted(folder.glob("*.pt"))}
        self.older = self.files.pop(OLDER)
        self.members = {stem: members_of(data) for stem, data in self.files.items()}
        self.operations = {
            stem: operations_of(members[f"{stem}/data.pkl"])
            for stem, members in self.members.items()
        }
        self.older_operations = operations_of(legacy_parts(self.older)[1])

    def __call__(self, number):
        """(what kind it is, the file's bytes)."""
        rng = random.Random(f"{self.seed} {number}")
        kind = ("raw bytes", "inside the archive", "older format")[number % 3]
        stem = SMALL if rng.random() < 0.7 else rng.choice(sorted(self.files))
        if kind == "raw bytes":
            return kind, self._raw(stem, rng)
        if kind == "inside the archive":
            return kind, self._inside(stem, rng)
        return kind, self._older(rng)

    def _raw(self, stem, rng):
        data = self.files[stem]
        # the directory at the end is what an archive is read by
        first = len(data) - 6000 if rng.random() < 0.4 else 0
        return damaged(data, rng, first)

    def _inside(self, stem, rng):
        members = self.members[stem]
        name = f"{stem}/data.pkl"
        if rng.random() < 0.4:
            name = rng.choice([n for n in members if "/data/" in n])
            content = self._storage(members[name], rng)
        elif rng.random() < 0.5:
            content = damaged(members[name], rng)
        else:
            content = rewritten(members[name], self.operations[stem], rng)
        return zip_of(members | {name: content})

    def _storage(self, content, rng):
        if len(content) < 2 or rng.random() < 0.2:
            return damaged(content, rng)
        content = bytearray(content)
        for _ in range(rng.choice([1, 3, 50])):
            at = rng.randrange(0, len(content), 2)
            content[at : at + 2] = rng.choice([*NUMBERS, *[rng.randbytes(2)] * 10])
        return bytes(content)

    def _older(self, rng):
        head, content, tail = legacy_parts(self.older)
        if rng.random() < 0.4:
            return head + rewritten(content, self.older_operations, rng) + tail
        if rng.random() < 0.4:
            return damaged(self.older, rng, 0, len(head) + len(content))
        return damaged(self.older, rng)


def outcome_of(path):
    """Whether a file is a model or refused; anything else is raised."""
    try:
        checkpoint = read_checkpoint(path)
        stride = checkpoint.anchors.largest_stride
        side = -(-128 // stride) * stride
        graph = deploy_graph(checkpoint, facts_for(checkpoint, (side, side), "none"))
    except UserError as error:
        assert str(error).isprintable(), ascii(str(error))
        return "refused"
    onnx.checker.check_model(graph, full_check=True)
    return "model"


def too_long(*_):
    raise TimeoutError(f"takes more than {MOST_SECONDS} seconds")


def main(folder, seed, count):
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_BYTES, MOST_BYTES))
    signal.signal(signal.SIGALRM, too_long)
    mutations, counts, strange, slowest = Mutations(folder, seed), {}, {}, 0.0
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "best.pt"
        for number in range(count):
            kind, data = mutations(number)
            path.write_bytes(data)
            signal.alarm(MOST_SECONDS)
            start = time.perf_counter()
            try:
                outcome = outcome_of(path)
            except Exception:  # which is what the test looks for
                outcome, strange[number] = "strange", traceback.format_exc(limit=-4)
            signal.alarm(0)
            slowest = max(slowest, time.perf_counter() - start)
            of_kind = counts.setdefault(kind, {"model": 0, "refused": 0, "strange": 0})
            of_kind[outcome] += 1
    print(
        json.dumps({"counts": counts, "strange": strange, "slowest": slowest, "peak": peak_bytes()})
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
