"""Checks of what runs on the board: the vendor's library, its Python package, the model."""

from runtime.doctor.board import LIBRARY, VARIABLE, Board
from runtime.doctor.disk import Absent
from runtime.doctor.finding import Finding
from runtime.doctor.model import CompiledModel
from runtime.doctor.version import parse_version

PACKAGE = "rknn-toolkit-lite2"
_PYTHONS = ((3, 8), (3, 12))
"""The first and the last CPython there are wheels of 2.5.0 for."""
_TWINS = {"rk3566", "rk3568"}
"""They have the same NPU; the vendor's table of NPU models says so."""
_WHERE = (
    "rknpu2/runtime/Linux/librknn_api/aarch64/librknnrt.so of"
    " https://github.com/airockchip/rknn-toolkit2"
)


def check_library(board: Board, model: CompiledModel | None) -> list[Finding]:
    """That librknnrt is there, is a library, and is as new as the toolkit that built the model."""
    library = board.library
    if library.absent is Absent.MISSING:
        finding = _missing_library(board, model)
    elif library.absent is Absent.UNREADABLE:
        what, fix = f"{LIBRARY} cannot be read", f"sudo chmod 644 {LIBRARY}"
        finding = Finding("library", "fault", what, fix)
    elif not library.arm64:
        what = f"{LIBRARY} is no 64-bit ARM library; it may be a web page saved in its place"
        finding = Finding("library", "fault", what, _install(model))
    elif library.version is None:
        what = f"{LIBRARY} does not say its version"
        fix = f"if the model does not load: {_install(model)}"
        finding = Finding("library", "unknown", what, fix)
    else:
        finding = _compare(board, model)
    return [finding, *_ignored_variable(board), *_other_place(board)]


def _missing_library(board: Board, model: CompiledModel | None) -> Finding:
    others = board.other_libraries
    if others:
        what = f"librknnrt is at {others[0]}, but {PACKAGE} looks at {LIBRARY} only"
        return Finding("library", "fault", what, f"sudo ln -s {others[0]} {LIBRARY}")
    fix = _install(model)
    if board.container:
        fix = f"start the container with -v {LIBRARY}:{LIBRARY}, or in its image {fix}"
    return Finding("library", "fault", f"{LIBRARY} is missing", fix)


def _compare(board: Board, model: CompiledModel | None) -> Finding:
    version = board.library.version
    needed = model.toolkit if model else None
    if needed is None:
        return Finding("library", "ok", f"librknnrt {version}")
    if version < needed:
        what = f"librknnrt {version} is older than {needed}, the toolkit that built the model"
        return Finding("library", "fault", what, _install(model))
    return Finding("library", "ok", f"librknnrt {version}, the model needs {needed}")


def _install(model: CompiledModel | None) -> str:
    """How to get the library, in the version that the model needs."""
    needed = model.toolkit if model else None
    version = f"version {needed}" if needed else "the version of the toolkit that built your model"
    return f"download {version} or newer, {_WHERE}, and sudo install -m 644 it to {LIBRARY}"


def _ignored_variable(board: Board) -> list[Finding]:
    path = board.process.environ.get("LIBRKNNRT_PATH") if board.process else None
    if not path:
        return []
    there = "" if board.disk.exists(path) else ", where there is nothing"
    what = f"LIBRKNNRT_PATH is set to {path}{there}; {PACKAGE} does not read it"
    return [Finding("library", "warning", what, f"unset it, and keep the library at {LIBRARY}")]


def _other_place(board: Board) -> list[Finding]:
    path = board.process.environ.get(VARIABLE) if board.process else None
    if not path:
        return []
    what = f"{VARIABLE} makes backend rknnrt take {path}, which is not what was checked here"
    return [Finding("library", "warning", what, f"unset it where {LIBRARY} is the right one")]


def check_package(board: Board, model: CompiledModel | None) -> list[Finding]:
    """That the vendor's Python package is installed, and as new as the model."""
    if board.process is None:
        return []
    python = board.process.python
    shown = ".".join(map(str, python))
    if not _PYTHONS[0] <= python <= _PYTHONS[1]:
        what = f"{PACKAGE} has no wheel for Python {shown}"
        fix = "install rkyolo into an environment of Python 3.10, 3.11 or 3.12"
        return [Finding("package", "fault", what, fix)]
    version = board.process.package(PACKAGE)
    needed = model.toolkit if model else None
    wanted = f"'{PACKAGE}>={needed}'" if needed else PACKAGE
    if version is None:
        what = f"{PACKAGE} is not installed for this Python ({shown}): backend rknnrt needs none"
        return [Finding("package", "warning", what, f"python3 -m pip install {wanted}")]
    installed = parse_version(version)
    if needed and installed and installed < needed:
        what = f"{PACKAGE} {version} is older than {needed}, the toolkit that built the model"
        return [Finding("package", "warning", what, f"python3 -m pip install {wanted}")]
    return [Finding("package", "ok", f"{PACKAGE} {version}, Python {shown}")]


def check_model(board: Board, model: CompiledModel | None) -> list[Finding]:
    """That the model is whole and built for this SoC."""
    if model is None:
        return []
    if model.damage:
        return [Finding("model", "fault", model.damage, "copy it again, or convert it again")]
    if board.soc and not _runs_on(model.target, board.soc):
        what = f"{model.path} is built for {model.target}, this is a {board.soc}"
        return [Finding("model", "fault", what, f"convert it again with --target {board.soc}")]
    if model.obstacles:
        what = f"{model.path} cannot be run: {'; '.join(model.obstacles)}"
        return [Finding("model", "fault", what, "convert the .pt or .onnx it was made from")]
    built = f", by toolkit {model.toolkit}" if model.toolkit else ""
    return [Finding("model", "ok", f"{model.path} is built for {model.target}{built}")]


def _runs_on(target: str | None, soc: str) -> bool:
    return target == soc or {target, soc} == _TWINS
