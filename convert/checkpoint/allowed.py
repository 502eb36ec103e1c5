"""The allow-list: which names a checkpoint's pickle may hold, and what becomes of them.

Three kinds. Constructors below are turned into plain values by functions of ours. Classes of
neural-network modules, and of anything that is neither the standard library's nor torch's nor
numpy's, may be instantiated without arguments, as module objects are, which gives an inert record;
calling them is refused. A few torch names may stand as values. Everything else is refused as soon
as it is named.
"""

import sys
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from convert.checkpoint.values import Global, Instance, NumpyValue, Opaque, Storage, StoredTensor

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

_FOREIGN = frozenset(sys.stdlib_module_names) | {
    "builtins",
    "numpy",
    "torch",
    "torchvision",
    "dill",
}
"""Top-level packages from which nothing but what is listed here is accepted."""


def check_global(named: Global, refuse: Refuse) -> Global:
    """The name under its current spelling. Calls refuse for a name outside the allow-list."""
    named = Global(_OLD_MODULES.get(named.module, named.module), named.name)
    if not (named in _CONSTRUCTORS or _is_value(named) or is_class(named)):
        refuse(f"{named}")
    return named


def is_class(named: Global) -> bool:
    """Whether a name may be a class whose objects become inert records."""
    if named in _PLAIN_CLASSES:
        return True
    if f"{named.module}.".startswith(_MODULE_PACKAGES):
        return True
    return named.module.partition(".")[0] not in _FOREIGN and "." not in named.name


def construct(function: Global, arguments: tuple[Any, ...], refuse: Refuse) -> Any:
    """What calling function would give, as a plain value. Calls refuse where it is not a
    constructor, or has arguments that no checkpoint gives it."""
    constructor = _CONSTRUCTORS.get(function)
    if constructor is None:
        refuse(f"a call of {function}")
    try:
        return constructor(*arguments)
    except (_UnexpectedArgumentsError, TypeError, ValueError, AttributeError, OverflowError):
        refuse(f"{function} with unexpected arguments")


def instantiate(cls: Global, refuse: Refuse) -> Any:
    """An object of a class, made without arguments: a plain value where the class is known, else an
    inert record. Calls refuse for a name that cannot be such a class."""
    if cls in _CONSTRUCTORS:
        return construct(cls, (), refuse)
    if not is_class(cls):
        refuse(f"an object of {cls}")
    return Instance(cls)


class _UnexpectedArgumentsError(Exception):
    pass


def _expect(condition: bool) -> None:
    if not condition:
        raise _UnexpectedArgumentsError


def _is_value(named: Global) -> bool:
    if named.module == "torch":
        return named.name in _TORCH_VALUES or named.name in STORAGE_DTYPES
    return named.module in ("torch.nn.functional", "torch._C._nn") and "." not in named.name


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**48


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> StoredTensor:
    _expect(isinstance(storage, Storage) and isinstance(size, tuple) and isinstance(stride, tuple))
    _expect(len(size) == len(stride) <= 8)
    _expect(all(_is_number(n) for n in (offset, *size, *stride)))
    return StoredTensor(storage, offset, size, stride)


def _parameter(tensor: Any, *_: Any) -> StoredTensor:
    _expect(isinstance(tensor, StoredTensor))
    return tensor


def _tensor_of_type(function: Any, _: Any, arguments: Any, __: Any = None) -> StoredTensor:
    _expect(function in (Global("torch._utils", "_rebuild_tensor_v2"), _PARAMETER))
    _expect(isinstance(arguments, tuple))
    return _CONSTRUCTORS[function](*arguments)


def _method(cls: Any, name: Any) -> Opaque:
    """A method of a module class, as segmentation heads keep one; getattr of anything else, or of
    a private name, is how pickles reach for code."""
    _expect(isinstance(cls, Global) and cls not in _CONSTRUCTORS and is_class(cls))
    _expect(isinstance(name, str) and name.isidentifier() and not name.startswith("_"))
    return Opaque(cls)


def _encoded(text: Any, encoding: Any = "latin1") -> bytes:
    _expect(isinstance(text, str) and encoding in ("latin1", "latin-1", "utf-8", "ascii"))
    return text.encode(encoding)


def _reconstructed(cls: Any, base: Any, state: Any) -> Instance:
    _expect(isinstance(cls, Global) and is_class(cls) and cls not in _CONSTRUCTORS)
    _expect(base == Global("builtins", "object") and state is None)
    return Instance(cls)


def _path(*parts: Any) -> str:
    _expect(all(isinstance(part, str) for part in parts))
    return "/".join(parts)


def _dill_type(name: Any) -> Global:
    """dill names builtin types by a string."""
    named = Global("builtins", name)
    _expect(isinstance(name, str) and named in _CONSTRUCTORS and name != "getattr")
    return named


def _pairs(pairs: Any = ()) -> dict[Any, Any]:
    """An OrderedDict, or a defaultdict with its factory, which does not matter here."""
    if isinstance(pairs, Global):
        return {}
    _expect(isinstance(pairs, list | tuple | dict))
    result = {}
    for key, value in pairs.items() if isinstance(pairs, dict) else pairs:
        _expect(isinstance(key, str | int | float))
        result[key] = value
    return result


def _hashables(items: Any = ()) -> list[Any]:
    _expect(isinstance(items, list | tuple | set | frozenset))
    items = list(items)
    _expect(all(isinstance(item, str | int | float | bytes | None) for item in items))
    return items


def _sequence(items: Any = ()) -> list[Any]:
    _expect(isinstance(items, list | tuple | set))
    return list(items)


def _numpy_dtype(first: Any, *rest: Any) -> NumpyValue:
    if isinstance(first, NumpyValue):  # its state: version and byte order
        (state,) = rest
        _expect(isinstance(first.value, str) and isinstance(state, tuple) and len(state) > 1)
        _expect(state[1] in ("<", "|", "="))
        return first
    _expect(isinstance(first, str) and len(first) <= 8)
    return NumpyValue(_DTYPE, first)


def _numpy_array(first: Any, *rest: Any) -> NumpyValue:
    if isinstance(first, NumpyValue):  # its state: version, shape, dtype, order, bytes
        (state,) = rest
        _, shape, dtype, _, data = state
        first.value = _numbers(dtype, data)
        _expect(first.value is None or np.prod(shape, dtype=object) == first.value.size)
        return first
    return NumpyValue(_ARRAY)


def _numpy_scalar(dtype: Any, data: Any) -> Any:
    value = _numbers(dtype, data)
    return None if value is None else value.item()


def _numbers(dtype: Any, data: Any) -> np.ndarray | None:
    """Bytes as numbers; None for arrays of anything else."""
    _expect(isinstance(dtype, NumpyValue) and dtype.of == _DTYPE)
    if not isinstance(data, bytes) or dtype.value[:1] not in ("f", "i", "u", "b"):
        return None
    return np.frombuffer(data, np.dtype(f"<{dtype.value}"))


_DTYPE = Global("numpy", "dtype")
_ARRAY = Global("numpy.core.multiarray", "_reconstruct")
_PARAMETER = Global("torch._utils", "_rebuild_parameter")


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
    Global("types", "SimpleNamespace"): lambda: Instance(Global("types", "SimpleNamespace")),
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
    _DTYPE: _numpy_dtype,
    _ARRAY: _numpy_array,
    Global("numpy.core.multiarray", "scalar"): _numpy_scalar,
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
