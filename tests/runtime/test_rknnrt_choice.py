"""Whether the vendor's library can be used, and what is used where it cannot."""

import logging
import re
import subprocess
import sys
from pathlib import Path

import librknnrt as stand_in
import pytest
from made_files import write_bundle
from scenes import facts_of
from servers import program

from runtime.backends import librknnrt as declared
from runtime.backends import open_backend
from runtime.backends.rknnlite import RknnLiteBackend
from runtime.backends.rknnrt import RknnRtBackend
from runtime.errors import UserError
from runtime.model import open_model

FAKES = Path(__file__).parent / "fakes"


@pytest.fixture
def lite(monkeypatch):
    """The vendor's Python package, as we wrote it down."""
    monkeypatch.syspath_prepend(FAKES)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "rknnlite"]:
        del sys.modules[name]


@pytest.fixture
def model(tmp_path):
    return open_model(write_bundle(tmp_path / "mine", facts_of(wh=(128, 128), classes=2)))


def made_library(folder, source):
    text, path = folder / "made.c", folder / "made.so"
    text.write_text(source)
    subprocess.run([program("cc"), "-shared", "-fPIC", "-o", path, text], check=True, timeout=60)
    return path


def unusable(kind, folder):
    """A library that cannot be used, in one of these ways."""
    path = folder / "librknnrt.so"
    if kind == "old":
        return stand_in.build(folder, version="2.3.2")
    if kind == "no-functions":
        return made_library(folder, "int rknn_init(void) { return 0; }")
    if kind == "folder":
        path.mkdir()
    if kind == "text":
        path.write_text("<html>404</html>")
    return path


UNUSABLE = [
    ("missing", r"librknnrt\.so is missing"),
    ("text", r"librknnrt\.so does not load \(.*(file too short|invalid ELF header)\)"),
    ("folder", r"librknnrt\.so does not load \(.*Is a directory\)"),
    ("old", "librknnrt is 2.3.2, and the model needs 2.5.0 or newer"),
    ("no-functions", r"made\.so has no function rknn_dup_context"),
]


@pytest.mark.parametrize(("kind", "reason"), UNUSABLE)
def test_a_library_that_cannot_be_used(model, tmp_path, monkeypatch, kind, reason):
    monkeypatch.setenv(declared.VARIABLE, str(unusable(kind, tmp_path)))
    with pytest.raises(UserError, match=f"rknnrt cannot be used, .*{reason}: rkyolo doctor says"):
        open_backend("rknnrt", model)


@pytest.mark.parametrize(("kind", "reason"), UNUSABLE)
def test_auto_is_then_rknnlite_and_says_why(
    lite, model, tmp_path, monkeypatch, caplog, kind, reason
):
    monkeypatch.setenv(declared.VARIABLE, str(unusable(kind, tmp_path)))
    caplog.set_level(logging.INFO)
    chosen = open_backend("auto", model)
    assert isinstance(chosen, RknnLiteBackend)
    chosen.close()
    (record,) = caplog.records
    assert record.getMessage().startswith("backend rknnlite and not rknnrt: ")
    assert re.search(reason, record.getMessage())


def test_auto_is_rknnrt_where_it_can_be(lite, npu, model, caplog):
    caplog.set_level(logging.INFO)
    chosen = open_backend("auto", model)
    assert isinstance(chosen, RknnRtBackend)
    chosen.close()
    assert caplog.records == []


def test_the_cpu_does_it_only_with_a_warning(model, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv(declared.VARIABLE, str(unusable("old", tmp_path)))
    with pytest.raises(UserError, match="ONNX Runtime cannot load the graph"):  # which is none
        open_backend("auto", model)
    assert "backend onnxruntime and not rknnrt: librknnrt is 2.3.2, and" in caplog.text


def test_a_library_that_was_replaced_is_looked_at_again(model, tmp_path):
    path = stand_in.build(tmp_path, version="2.3.2")
    assert declared.obstacle(path, "2.5.0")
    assert declared.obstacle(path, "2.3.2") is None
    path.unlink()  # the loaded one stays as it is
    stand_in.build(tmp_path, version="2.10.0")
    assert declared.obstacle(path, "2.5.0") is None
