"""Who may import whom: anchors <- runtime <- convert, and nothing heavy on the board."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(p for name in ("anchors", "runtime", "convert") for p in (ROOT / name).rglob("*.py"))

NOT_FOR = {
    "anchors": {"runtime", "convert", "cv2", "torch", "onnx", "onnxruntime", "pydantic"},
    "runtime": {"convert", "torch", "onnx", "onnxsim", "rknn", "scipy"},
    "convert": {"torch", "torchvision", "ultralytics"},
}

ON_THE_BOARD = """
import sys
from importlib import import_module
from pkgutil import walk_packages

ABSENT = {"torch", "onnx", "onnxsim", "rknn", "rknnlite", "onnxruntime", "convert"}


class Board:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ImportError(f"{name} is not on the board")


sys.meta_path.insert(0, Board())
count = 0
for package in map(import_module, ("anchors", "runtime")):
    for module in walk_packages(package.__path__, package.__name__ + "."):
        import_module(module.name)
        count += 1
print(count)
"""


def imported(path):
    """The top-level packages a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"a relative import in {path}"
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_arrows_go_one_way(path):
    package = path.relative_to(ROOT).parts[0]
    assert not NOT_FOR[package] & set(imported(path))


def test_every_module_imports_on_a_board():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ON_THE_BOARD],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stderr == ""
    modules = [p for p in FILES if p.relative_to(ROOT).parts[0] != "convert"]
    assert int(done.stdout) == len(modules) - 2  # the two packages themselves are not counted


def test_importing_does_nothing():
    code = "import runtime.cli, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.stderr == ""
    assert not {"convert", "cv2", "onnxruntime", "torch"} & set(done.stdout.split())
