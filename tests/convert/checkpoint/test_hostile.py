"""Pickles that would run code are refused, wherever they stand, and run nothing."""

import os
import pickle
import subprocess
import sys
from functools import partial

import pytest
from hostile_pickles import OUTSIDE, REDUCED, RUNNING, call, command, named, text, tupled
from torch_files import legacy, legacy_parts, members_of, spliced, with_pickle, zip_of, zipped
from torch_yolo import Conv, checkpoint_of, network, save

from convert.checkpoint import read_checkpoint
from runtime.errors import UserError


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """A valid checkpoint with None for names, EMA, optimizer and an attribute, in both formats."""
    folder = tmp_path_factory.mktemp("valid")
    model = network([Conv(3, 8, 3, 2)])
    model.names = model.hyp = None
    value = checkpoint_of(model)
    newer = save(value, folder / "zip.pt")
    older = save(value, folder / "older.pt", _use_new_zipfile_serialization=False)
    newer.write_bytes(with_pickle(newer.read_bytes(), bytes))
    for path in (newer, older):
        read_checkpoint(path)  # so that what reading itself imports is there
    return {"zip": newer.read_bytes(), "older": older.read_bytes()}


def beside(operations, content):
    """In front of a valid value, and thrown away before it."""
    return content[:2] + operations + b"0" + content[2:]


def in_place(key):
    return lambda operations, content: spliced(content, key, operations)


def alone(operations, content):
    return b"\x80\x02" + operations + b"."


PLACES = {
    "alone": alone,
    "beside a valid model": beside,
    "as the ema": in_place("ema"),
    "as the optimizer": in_place("optimizer"),
    "as the names": in_place("names"),
    "as an attribute of the model": in_place("hyp"),
}


def everywhere(checkpoints, operations):
    """(what to call it, the checkpoint) with operations in every place of both formats."""
    for container, data in checkpoints.items():
        for name, place in PLACES.items():
            yield f"{container}, {name}.pt", with_pickle(data, partial(place, operations))


def assert_refused(data, path, reason="is refused: it asks for "):
    path.write_bytes(data)
    before = set(sys.modules)
    with pytest.raises(UserError, match=reason) as caught:
        read_checkpoint(path)
    assert str(caught.value).isprintable()
    assert set(sys.modules) == before
    assert not (path.parent / "ran").exists()


def test_the_places_are_places(checkpoints, tmp_path):
    """What stands there is read, and does no harm if it is harmless."""
    for name, data in everywhere(checkpoints, b"N"):
        path = tmp_path / name
        path.write_bytes(data)
        if "alone" in name:
            with pytest.raises(UserError, match=r"holds a NoneType|its list of storages"):
                read_checkpoint(path)
        else:
            assert len(read_checkpoint(path).layers) == 1


@pytest.mark.parametrize("make", RUNNING.values(), ids=RUNNING)
def test_the_payloads_would_run(make, tmp_path):
    """In the standard library's unpickler; else the tests below would show nothing."""
    try:
        pickle.loads(b"\x80\x04" + make(tmp_path / "ran") + b".")
    except Exception as error:  # what they raise once they have run does not matter
        print(error)
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("make", REDUCED.values(), ids=REDUCED)
@pytest.mark.parametrize("protocol", range(6))
def test_the_reduced_objects_would_run(make, protocol, tmp_path):
    data = pickle.dumps(make(tmp_path / "ran"), protocol)
    assert not (tmp_path / "ran").exists()
    try:
        pickle.loads(data)
    except Exception as error:
        print(error)
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("make", RUNNING.values(), ids=RUNNING)
def test_what_would_run_is_refused(checkpoints, make, tmp_path):
    for name, data in everywhere(checkpoints, make(tmp_path / "ran")):
        assert_refused(data, tmp_path / name)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("make", REDUCED.values(), ids=REDUCED)
def test_what_reduces_is_refused(checkpoints, protocol, make, tmp_path):
    whole = pickle.dumps(make(tmp_path / "ran"), protocol)
    assert_refused(zipped(whole), tmp_path / "best.pt")
    assert_refused(legacy(whole), tmp_path / "best.pt")
    for name, data in everywhere(checkpoints, whole[2 if protocol > 1 else 0 : -1]):
        assert_refused(data, tmp_path / name)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("function", [os.system, eval, subprocess.Popen], ids=repr)
def test_what_reduces_to_a_name_is_refused(checkpoints, protocol, function, tmp_path):
    whole = pickle.dumps(function, protocol)
    for name, data in everywhere(checkpoints, whole[2 if protocol > 1 else 0 : -1]):
        assert_refused(data, tmp_path / name)


@pytest.mark.parametrize("operations", OUTSIDE.values(), ids=OUTSIDE)
def test_what_is_outside_the_allow_list_is_refused(checkpoints, operations, tmp_path):
    for name, data in everywhere(checkpoints, operations):
        assert_refused(data, tmp_path / name)


@pytest.mark.parametrize("make", RUNNING.values(), ids=RUNNING)
def test_what_would_run_inside_a_persistent_id(make, tmp_path):
    identifier = tupled(text("storage"), make(tmp_path / "ran"), text("0"), text("cpu"), b"K\x01")
    content = b"\x80\x02" + identifier + b"Q."
    assert_refused(zipped(content), tmp_path / "best.pt")
    assert_refused(legacy(content, keys=["0"]), tmp_path / "best.pt")


def test_a_function_as_the_class_of_a_storage(tmp_path):
    identifier = tupled(text("storage"), named("os", "system"), text("0"), text("cpu"), b"K\x01")
    assert_refused(zipped(b"\x80\x02" + identifier + b"Q."), tmp_path / "best.pt")


def test_a_function_by_the_identifier_of_a_class(tmp_path):
    """The older format wraps classes in persistent ids, with their source text."""
    for function in (named("os", "system"), named("builtins", "eval")):
        identifier = tupled(text("module"), function, text("a.py"), text("pass"))
        content = b"\x80\x02" + call(identifier + b"Q", command(tmp_path / "ran")) + b"."
        assert_refused(legacy(content), tmp_path / "best.pt")


@pytest.mark.parametrize("make", RUNNING.values(), ids=RUNNING)
def test_the_older_format_is_guarded_in_all_its_pickles(checkpoints, make, tmp_path):
    operations = b"\x80\x02" + make(tmp_path / "ran") + b"."
    head, content, tail = legacy_parts(checkpoints["older"])
    magic, protocol = head[:15], head[15:21]
    assert protocol.endswith(b".") and magic.endswith(b".")
    assert_refused(operations + protocol + content, tmp_path / "best.pt")
    assert_refused(magic + operations + content, tmp_path / "best.pt")
    assert_refused(magic + protocol + operations + content, tmp_path / "best.pt")
    assert_refused(head + content + operations + tail, tmp_path / "best.pt")


def test_another_pickle_in_the_archive_is_not_read(checkpoints, tmp_path):
    """constants.pkl is TorchScript's; any other is nobody's."""
    operations = b"\x80\x02" + RUNNING["os.system"](tmp_path / "ran") + b"."
    members = members_of(checkpoints["zip"])
    path = tmp_path / "best.pt"
    path.write_bytes(zip_of(members | {"zip/other.pkl": operations, "data.pkl": operations}))
    assert len(read_checkpoint(path).layers) == 1
    assert not (tmp_path / "ran").exists()


def test_what_comes_behind_the_pickle_is_not_read(checkpoints, tmp_path):
    operations = RUNNING["os.system"](tmp_path / "ran")
    path = tmp_path / "best.pt"
    path.write_bytes(with_pickle(checkpoints["zip"], lambda content: content + operations))
    assert len(read_checkpoint(path).layers) == 1
    assert not (tmp_path / "ran").exists()


def test_a_class_of_a_fork_is_a_record_and_never_imported(checkpoints, tmp_path, monkeypatch):
    """Even where it could be."""
    (tmp_path / "forkmodule.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    monkeypatch.syspath_prepend(tmp_path)
    thing = named("forkmodule", "Thing")
    state = b"}" + text("a") + b"K\x01s"
    path = tmp_path / "best.pt"
    for operations in (
        thing,
        thing + b")\x81",
        thing + b")\x81" + state + b"b",
        thing + b")}\x92",
        thing + b")\x81" + b"K\x01a" + text("a") + b"K\x02s",
        call(named("builtins", "getattr"), thing, text("forward")),
        call(named("copyreg", "_reconstructor"), thing, named("builtins", "object"), b"N"),
    ):
        data = with_pickle(checkpoints["zip"], lambda c, o=operations: spliced(c, "hyp", o))
        path.write_bytes(data)
        assert len(read_checkpoint(path).layers) == 1
    assert "forkmodule" not in sys.modules
    assert not (tmp_path / "ran").exists()
