"""The vendor's C library for the NPU, librknnrt.so, by ctypes: what the backend rknnrt calls."""

import os
from ctypes import (
    CDLL,
    POINTER,
    Structure,
    c_char,
    c_float,
    c_int,
    c_int8,
    c_int32,
    c_uint8,
    c_uint32,
    c_uint64,
    c_void_p,
)
from functools import lru_cache
from pathlib import Path

from runtime.doctor.board import LIBRARY, VARIABLE, VERSION_MARK
from runtime.doctor.version import Version, parse_version
from runtime.errors import NpuError

LEAST_VERSION = Version((2, 0, 0), (True, 0))
"""Older libraries have shorter structures than these here."""

QUERY_IN_OUT_NUM, QUERY_INPUT_ATTR, QUERY_OUTPUT_ATTR, QUERY_SDK_VERSION = 0, 1, 2, 5
NCHW, NHWC = 0, 1
FORMATS = {NCHW: "NCHW", NHWC: "NHWC", 2: "NC1HWC2"}
INT8, UINT8 = 2, 3
AFFINE_ASYMMETRIC = 2


class InOutNum(Structure):
    _fields_ = [("n_input", c_uint32), ("n_output", c_uint32)]


class SdkVersion(Structure):
    _fields_ = [("api_version", c_char * 256), ("drv_version", c_char * 256)]


class TensorAttr(Structure):
    """An input or output. index goes in, the rest comes out; real values are (q - zp) * scale."""

    _fields_ = [
        ("index", c_uint32),
        ("n_dims", c_uint32),
        ("dims", c_uint32 * 16),
        ("name", c_char * 256),
        ("n_elems", c_uint32),
        ("size", c_uint32),
        ("fmt", c_int),
        ("type", c_int),
        ("qnt_type", c_int),
        ("fl", c_int8),
        ("zp", c_int32),
        ("scale", c_float),
        ("w_stride", c_uint32),
        ("size_with_stride", c_uint32),
        ("pass_through", c_uint8),
        ("h_stride", c_uint32),
    ]


class Input(Structure):
    _fields_ = [
        ("index", c_uint32),
        ("buf", c_void_p),
        ("size", c_uint32),
        ("pass_through", c_uint8),
        ("type", c_int),
        ("fmt", c_int),
    ]


class Output(Structure):
    """want_float: float32 instead of what the model gives. is_prealloc: buf, of size bytes, is the
    caller's."""

    _fields_ = [
        ("want_float", c_uint8),
        ("is_prealloc", c_uint8),
        ("index", c_uint32),
        ("buf", c_void_p),
        ("size", c_uint32),
    ]


_SIGNATURES = {
    "rknn_init": (POINTER(c_uint64), c_void_p, c_uint32, c_uint32, c_void_p),
    "rknn_dup_context": (POINTER(c_uint64), POINTER(c_uint64)),
    "rknn_destroy": (c_uint64,),
    "rknn_query": (c_uint64, c_int, c_void_p, c_uint32),
    "rknn_set_core_mask": (c_uint64, c_int),
    "rknn_inputs_set": (c_uint64, c_uint32, c_void_p),
    "rknn_run": (c_uint64, c_void_p),
    "rknn_outputs_get": (c_uint64, c_uint32, c_void_p, c_void_p),
    "rknn_outputs_release": (c_uint64, c_uint32, c_void_p),
}
"""Each gives 0, or a code below 0. A context is a number."""

_CODES = {
    -1: ("RKNN_ERR_FAIL", "it failed and does not say why"),
    -2: ("RKNN_ERR_TIMEOUT", "the NPU did not finish in time"),
    -3: ("RKNN_ERR_DEVICE_UNAVAILABLE", "there is no NPU to be had: its driver or node is missing"),
    -4: ("RKNN_ERR_MALLOC_FAIL", "there is not enough memory"),
    -5: ("RKNN_ERR_PARAM_INVALID", "it does not take this argument"),
    -6: ("RKNN_ERR_MODEL_INVALID", "it does not know this model's format: it may be too old"),
    -7: ("RKNN_ERR_CTX_INVALID", "there is no such context"),
    -8: ("RKNN_ERR_INPUT_INVALID", "the input is not as the model's"),
    -9: ("RKNN_ERR_OUTPUT_INVALID", "the outputs are not as the model's"),
    -10: ("RKNN_ERR_DEVICE_UNMATCH", "library and driver do not fit, update the older one"),
    -11: ("RKNN_ERR_INCOMPATILE_PRE_COMPILE_MODEL", "the model was made for another driver"),
    -12: (
        "RKNN_ERR_INCOMPATILE_OPTIMIZATION_LEVEL_VERSION",
        "the model's optimization level is of another version",
    ),
    -13: ("RKNN_ERR_TARGET_PLATFORM_UNMATCH", "the model was built for another chip"),
}
"""The vendor's names, as they are spelled, and what they mean."""


class RknnError(NpuError):
    """A call of the library that failed."""

    def __init__(self, call: str, code: int):
        name, meaning = _CODES.get(code, (str(code), "a code that is not documented"))
        super().__init__(f"{call} gave {name}: {meaning}")


class Library:
    """The library, loaded. Raises OSError where it does not load, AttributeError where a function
    is missing."""

    def __init__(self, path: Path):
        self._functions = {}
        loaded = CDLL(str(path))
        for name, arguments in _SIGNATURES.items():
            function = getattr(loaded, name)
            function.argtypes, function.restype = arguments, c_int
            self._functions[name] = function

    def call(self, name: str, *arguments: object) -> None:
        """Call a function by its name. Raises RknnError."""
        code = self._functions[name](*arguments)
        if code != 0:
            raise RknnError(name, code)


def library_path() -> Path:
    return Path(os.environ.get(VARIABLE) or LIBRARY)


def obstacle(path: Path, toolkit: str | None) -> str | None:
    """Why the library at a path cannot run a model that this version of the toolkit built (None
    where that is not known), in a line; None where it can."""
    try:
        stat = path.stat()
        Library(path)
        version = _version_in(path, stat.st_size, stat.st_mtime_ns)
    except FileNotFoundError:
        return f"{path} is missing"
    except AttributeError as error:
        return f"{path} has no function {_missing(error)}"
    except OSError as error:
        return f"{path} does not load ({error})"
    return too_old(version, toolkit)


def too_old(version: Version | None, toolkit: str | None) -> str | None:
    """Why a library of this version cannot run what the toolkit built; None where it can, or where
    it does not say its version."""
    needed = max(LEAST_VERSION, parse_version(toolkit or "") or LEAST_VERSION)
    if version is None or version >= needed:
        return None
    return f"librknnrt is {version}, and the model needs {needed} or newer"


def _missing(error: AttributeError) -> str:
    """The function that an error of the dynamic linker names: LIBRARY: undefined symbol: NAME."""
    return str(error).rpartition(" ")[2]


@lru_cache(maxsize=4)
def _version_in(path: Path, size: int, mtime_ns: int) -> Version | None:
    """The version that the library's file holds in clear; a context is needed to ask for it. size
    and mtime_ns tell a file that was replaced."""
    found = VERSION_MARK.search(path.read_bytes())
    return parse_version(found.group(1).decode("ascii", "replace")) if found else None
