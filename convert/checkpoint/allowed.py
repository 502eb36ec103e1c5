"""The allow-list: which names a checkpoint's pickle may hold, and what becomes of them.

Three kinds. Constructors below are turned into plain values by functions of ours. Classes of
neural-network modules, and of anything that is neither the standard library's nor torch's nor
numpy's, may be instantiated without arguments, as module objects are, which gives an inert record;
calling them is refused. A few torch names may stand as values. Everything else is refused as soon
as it is named.
"""

import sys
from _compat_pickle import IMPORT_MAPPING
from collections.abc import Callable
from typing import Any, NoReturn

from convert.checkpoint.numpy_values import (
    ARRAY,
    DTYPE,
    numpy_array,
    numpy_buffer,
    numpy_dtype,
    numpy_scalar,
)
from convert.checkpoint.values import (
    Global,
    Instance,
    Opaque,
    Storage,
    StoredTensor,
    expect,
    is_count,
)

Refuse = Callable[[str], NoReturn]

_OLD_MODULES = {
    "__builtin__": "builtins",
    "copy_reg": "copyreg",
    "numpy._core.multiarray": "numpy.core.multiarray",
    "numpy._core.numeric": "numpy.core.numeric",
    "pathlib._local": "pathlib",
}
"""Names by which other versions of Python, numpy and torch call the same things."""

STORAGE_DTYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "|b1",
}

_TORCH_VALUES = frozenset(
    "float16 half float32 float float64 double bfloat16 int8 int16 short int32 int int64 long"
    " uint8 bool strided contiguous_format channels_last preserve_format".split()
)
"""dtypes, layouts and memory formats, which stand in a module's attributes."""

_MODULE_PACKAGES = ("torch.nn.modules.", "torch.nn.parallel.", "torch.optim.", "torchvision.ops.")
"""Packages of torch whose classes are module or optimizer classes."""

_FOREIGN = frozenset(
    [
        *sys.stdlib_module_names,
        *(name for name in IMPORT_MAPPING if "." not in name),  # as Python 2 has them
        *("builtins", "numpy", "torch", "torchvision", "dill"),
    ]
)
"""Top-level packages from which nothing but what is listed here is accepted."""

_LONGEST_NAME = 300
_LARGEST_SET = 1000


def check_global(named: Global, refuse: Refuse) -> Global:
    """The name under its current spelling. Calls refuse for a name outside the allow-list."""
    readable = len(named.module) + len(named.name) <= _LONGEST_NAME and f"{named}".isprintable()
    if not readable or " " in f"{named}":
        refuse("a class whose name cannot be read")
    named = Global(_OLD_MODULES.get(named.module, named.module), named.name)
    if not (named in _CONSTRUCTORS or _is_value(named) or is_class(named)):
        refuse(f"{named}")
    return named


def is_class(named: Global) -> bool:
    """Whether a name may be a class whose objects become inert records."""
    if named in _PLAIN_CLASSES:
        return True
    if "." in named.name:  # an attribute of something
        return False
    if f"{named.module}.".startswith(_MODULE_PACKAGES):
        return True
    return named.module.partition(".")[0] not in _FOREIGN


def is_key(value: Any) -> bool:
    """Whether a value may be a key or in a set: text, bytes, a name, or a machine integer."""
    return isinstance(value, str | bytes | Global | None) or (
        isinstance(value, int) and -(2**63) <= value < 2**63
    )


def construct(function: Global, arguments: tuple[Any, ...], refuse: Refuse) -> Any:
    """What calling function would give, as a plain value. Calls refuse where it is not a
    constructor, or has arguments that no checkpoint gives it."""
    constructor = _CONSTRUCTORS.get(function)
    if constructor is None:
        refuse(f"a call of {function}")
    try:
        return constructor(*arguments)
    except (TypeError, ValueError, AttributeError, OverflowError):
        refuse(f"{function} with unexpected arguments")


def instantiate(cls: Global, refuse: Refuse) -> Any:
    """An object of a class, made without arguments: a plain value where the class is known, else an
    inert record. Calls refuse for a name that cannot be such a class."""
    if cls in _CONSTRUCTORS:
        return construct(cls, (), refuse)
    if not is_class(cls):
        refuse(f"an object of {cls}")
    return Instance(cls)


def _is_value(named: Global) -> bool:
    if named.module == "torch":
        return named.name in _TORCH_VALUES or named.name in STORAGE_DTYPES
    return named.module in ("torch.nn.functional", "torch._C._nn") and "." not in named.name


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> StoredTensor:
    expect(isinstance(storage, Storage) and isinstance(size, tuple) and isinstance(stride, tuple))
    expect(len(size) == len(stride) <= 8)
    expect(all(is_count(n) for n in (offset, *size, *stride)))
    return StoredTensor(storage, offset, size, stride)


def _parameter(tensor: Any, *_: Any) -> StoredTensor:
    expect(isinstance(tensor, StoredTensor))
    return tensor


def _tensor_of_type(function: Any, _: Any, arguments: Any, __: Any = None) -> StoredTensor:
    expect(function in (Global("torch._utils", "_rebuild_tensor_v2"), _PARAMETER))
    expect(isinstance(arguments, tuple))
    return _CONSTRUCTORS[function](*arguments)


def _method(owner: Any, name: Any) -> Opaque:
    """A method of a module class, as segmentation heads keep one, or of a module, as fused ones do;
    getattr of anything else, or of a private name, is how pickles reach for code."""
    cls = owner.cls if isinstance(owner, Instance) else owner
    expect(isinstance(cls, Global) and cls not in _CONSTRUCTORS and is_class(cls))
    expect(isinstance(name, str) and name.isidentifier() and not name.startswith("_"))
    return Opaque(cls)


def _encoded(text: Any, encoding: Any = "latin1") -> bytes:
    expect(isinstance(text, str) and encoding in ("latin1", "latin-1", "utf-8", "ascii"))
    return text.encode(encoding)


def _reconstructed(cls: Any, base: Any, state: Any) -> Instance:
    expect(isinstance(cls, Global) and is_class(cls) and cls not in _CONSTRUCTORS)
    expect(base == Global("builtins", "object") and state is None)
    return Instance(cls)


def _path(*parts: Any) -> str:
    expect(all(isinstance(part, str) for part in parts))
    return "/".join(parts)


def _dill_type(name: Any) -> Global:
    """dill names builtin types by a string."""
    named = Global("builtins", name)
    expect(isinstance(name, str) and named in _CONSTRUCTORS and name != "getattr")
    return named


def _pairs(pairs: Any = ()) -> dict[Any, Any]:
    """An OrderedDict, or a defaultdict with its factory, which does not matter here."""
    if isinstance(pairs, Global):
        return {}
    expect(isinstance(pairs, list | tuple | dict))
    result = {}
    for key, value in pairs.items() if isinstance(pairs, dict) else pairs:
        expect(isinstance(key, str))
        result[key] = value
    return result


def _hashables(items: Any = ()) -> list[Any]:
    expect(isinstance(items, list | tuple | set | frozenset))
    expect(len(items) <= _LARGEST_SET and all(map(is_key, items)))
    return list(items)


def _sequence(items: Any = ()) -> list[Any]:
    expect(isinstance(items, list | tuple | set))
    return list(items)


_PARAMETER = Global("torch._utils", "_rebuild_parameter")


def _record_maker(named: Global) -> Callable[[], Instance]:
    return lambda: Instance(named)


def _opaque(module: str, name: str) -> tuple[Global, Callable[..., Any]]:
    named = Global(module, name)
    return named, lambda *_: Opaque(named)


_CONSTRUCTORS: dict[Global, Callable[..., Any]] = {
    # weights
    Global("torch._utils", "_rebuild_tensor"): _tensor,
    Global("torch._utils", "_rebuild_tensor_v2"): _tensor,
    _PARAMETER: _parameter,
    Global("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    Global("torch._tensor", "_rebuild_from_type_v2"): _tensor_of_type,
    # module state: hooks, parameters and children are ordered dictionaries, and sets of names
    Global("collections", "OrderedDict"): _pairs,
    Global("collections", "defaultdict"): _pairs,
    Global("builtins", "set"): lambda items=(): set(_hashables(items)),
    Global("builtins", "frozenset"): lambda items=(): frozenset(_hashables(items)),
    Global("builtins", "dict"): _pairs,
    Global("builtins", "list"): _sequence,
    Global("builtins", "tuple"): lambda items=(): tuple(_sequence(items)),
    Global("builtins", "getattr"): _method,
    Global("copyreg", "_reconstructor"): _reconstructed,
    Global("dill._dill", "_load_type"): _dill_type,
    # options of YOLOv8 and later, whose heads are refused with a better reason
    **{
        named: _record_maker(named)
        for named in (
            Global("types", "SimpleNamespace"),
            Global("ultralytics.utils", "IterableSimpleNamespace"),
            Global("ultralytics.yolo.utils", "IterableSimpleNamespace"),
        )
    },
    # training options: shapes, devices, paths of either operating system, dates
    Global("torch", "Size"): lambda items=(): tuple(_sequence(items)),
    **dict([_opaque("torch", "device"), _opaque("datetime", "datetime")]),
    **dict([_opaque("datetime", "date"), _opaque("datetime", "timedelta")]),
    **{
        Global("pathlib", name): _path
        for name in "Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath".split()
    },
    # best_fitness and the like, as numpy scalars and arrays; bytes in protocol 2
    Global("_codecs", "encode"): _encoded,
    Global("builtins", "bytes"): lambda: b"",
    DTYPE: numpy_dtype,
    ARRAY: numpy_array,
    Global("numpy.core.multiarray", "scalar"): numpy_scalar,
    Global("numpy.core.numeric", "_frombuffer"): numpy_buffer,
}

_PLAIN_CLASSES = frozenset(
    {
        Global("builtins", "object"),  # only ever the base that copyreg names
        Global("numpy", "ndarray"),  # only ever the class that _reconstruct names
        Global("argparse", "Namespace"),  # training options
        Global("torch.nn.parameter", "Parameter"),  # only ever the class that _rebuild names
        Global("torch", "Tensor"),  # likewise
    }
)
