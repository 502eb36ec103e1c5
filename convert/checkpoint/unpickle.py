"""A pickle machine that builds records and calls nothing.

The standard unpickler imports what a pickle names and calls what it says. This one keeps names as
names, lets an allow-list (convert.checkpoint.allowed) turn the few known constructors into plain
values, makes an inert record of every module class, and refuses the rest.
"""

import io
import pickletools
from collections.abc import Callable
from typing import Any

from convert.checkpoint.allowed import check_global, construct, instantiate
from convert.checkpoint.limits import Limits
from convert.checkpoint.values import Global, Instance, NumpyValue
from runtime.errors import UserError

_MOST_OPERATIONS = 2_000_000
"""A bound on time and memory. The largest YOLOv5 with its optimizer takes a tenth of it."""


def unpickle(stream: io.BytesIO, origin: str, persistent: Callable[[Any], Any]) -> Any:
    """The value of the next pickle in a stream, which is left behind it.

    persistent turns a persistent id, plain values only, into a value. Raises UserError for a
    damaged pickle and for anything outside the allow-list; origin names the file in errors.
    """
    limits = Limits(origin)
    machine = _Machine(limits, persistent)
    try:
        for _ in range(_MOST_OPERATIONS):
            opcode = _OPCODES[stream.read(1)]
            if opcode.name == "STOP":
                return machine.result()
            machine.step(opcode, stream)
        limits.refuse_size()
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise UserError(
            f"{origin} is damaged: its pickle cannot be read; copy the file again from where it was"
            " trained"
        ) from error


def _line(stream: io.BytesIO) -> str:
    line = stream.readline()
    if not line.endswith(b"\n"):
        raise ValueError("a line without an end")
    return line[:-1].decode()


def _two_lines(stream: io.BytesIO) -> tuple[str, str]:
    return _line(stream), _line(stream)


class _Machine:
    """The stack, the marks and the memo of one pickle."""

    def __init__(self, limits: Limits, persistent: Callable[[Any], Any]):
        self._limits = limits
        self._persistent = persistent
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def step(self, opcode: pickletools.OpcodeInfo, stream: io.BytesIO) -> None:
        """Carry out one operation, whose argument comes next in the stream."""
        name = opcode.name
        operation = _OPERATIONS.get(name)
        if not (operation or name in _LITERALS or name in _CONSTANTS or name in _EMPTY):
            self._limits.refuse(f"the pickle operation {name}")
        read = _READERS.get(name) or (opcode.arg and opcode.arg.reader)
        argument = read(stream) if read else None
        if operation:
            operation(self, argument)
        elif name in _LITERALS:
            self._stack.append(argument)
        else:
            self._stack.append(_EMPTY[name]() if name in _EMPTY else _CONSTANTS[name])

    def result(self) -> Any:
        if len(self._stack) != 1:
            raise ValueError("stack is not down to the result")
        return self._stack[0]

    def _pop(self, count: int) -> list[Any]:
        floor = self._marks[-1] if self._marks else 0
        if len(self._stack) - count < floor:
            raise IndexError("stack underflow")
        taken = self._stack[len(self._stack) - count :]
        del self._stack[len(self._stack) - count :]
        return taken

    def _pop_mark(self) -> list[Any]:
        mark = self._marks.pop()
        taken = self._stack[mark:]
        del self._stack[mark:]
        return taken

    def _mark(self, _: Any) -> None:
        self._marks.append(len(self._stack))

    def _pop_one(self, _: Any) -> None:
        if self._marks and self._marks[-1] == len(self._stack):
            self._marks.pop()
        else:
            self._pop(1)

    def _duplicate(self, _: Any) -> None:
        self._stack.append(self._stack[-1])

    def _put(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    def _memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _get(self, index: int) -> None:
        self._stack.append(self._memo[index])

    def _tuple(self, _: Any) -> None:
        self._stack.append(tuple(self._pop_mark()))

    def _tuple_of(self, count: int) -> None:
        self._stack.append(tuple(self._pop(count)))

    def _list(self, _: Any) -> None:
        self._stack.append(self._pop_mark())

    def _frozenset(self, _: Any) -> None:
        self._stack.append(frozenset(self._limits.keys(self._pop_mark())))

    def _dict(self, _: Any) -> None:
        items = self._pop_mark()
        self._stack.append({})
        self._set_items(items)

    def _append(self, _: Any) -> None:
        self._extend(self._pop(1))

    def _appends(self, _: Any) -> None:
        self._extend(self._pop_mark())

    def _extend(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, Instance):  # a subclass of list
            target.items.extend(items)
        elif isinstance(target, list):
            target.extend(items)
        else:
            raise TypeError("append to something that is no list")

    def _add_items(self, _: Any) -> None:
        items = self._limits.keys(self._pop_mark())
        target = self._stack[-1]
        if not isinstance(target, set):
            raise TypeError("add to something that is no set")
        target.update(items)

    def _set_item(self, _: Any) -> None:
        self._set_items(self._pop(2))

    def _set_items_from_mark(self, _: Any) -> None:
        self._set_items(self._pop_mark())

    def _set_items(self, items: list[Any]) -> None:
        keys, values = self._limits.keys(items[::2]), items[1::2]
        target = self._stack[-1]
        if isinstance(target, Instance):  # a subclass of dict
            target.items.extend(zip(keys, values, strict=True))
        elif isinstance(target, dict):
            target.update(zip(keys, values, strict=True))
        else:
            raise TypeError("set an item of something that is no dict")

    def _global(self, argument: tuple[str, str]) -> None:
        self._stack.append(check_global(Global(*argument), self._limits.refuse))

    def _stack_global(self, _: Any) -> None:
        module, name = self._pop(2)
        if not (isinstance(module, str) and isinstance(name, str)):
            raise TypeError("a global's name is no string")
        self._global((module, name))

    def _reduce(self, _: Any) -> None:
        self._construct(*self._pop(2))

    def _new_object(self, _: Any) -> None:
        cls, arguments = self._pop(2)
        if isinstance(cls, Global) and arguments == ():
            self._stack.append(instantiate(cls, self._limits.refuse))
        else:
            self._construct(cls, arguments)

    def _object(self, _: Any) -> None:
        function, *arguments = self._pop_mark()
        self._construct(function, tuple(arguments))

    def _instance(self, argument: tuple[str, str]) -> None:
        arguments = tuple(self._pop_mark())
        self._global(argument)
        self._construct(*self._pop(1), arguments)

    def _new_object_ex(self, _: Any) -> None:
        cls, arguments, keywords = self._pop(3)
        if keywords:
            self._limits.refuse("an object with keywords")
        self._stack += [cls, arguments]
        self._new_object(None)

    def _construct(self, function: Any, arguments: Any) -> None:
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            self._limits.refuse("a call of something that is no class")
        self._limits.count_copy(arguments, *arguments)
        self._stack.append(construct(function, arguments, self._limits.refuse))

    def _build(self, _: Any) -> None:
        (state,) = self._pop(1)
        target = self._stack[-1]
        if isinstance(target, Instance):
            # an object with slots has a pair of states
            for part in state if isinstance(state, tuple) and len(state) == 2 else (state,):
                if isinstance(part, dict):
                    self._limits.count_copy(part)
                    target.state.update(part)
        elif isinstance(target, NumpyValue):
            construct(target.of, (target, state), self._limits.refuse)
        elif not isinstance(target, dict):  # a dict's own attributes do not matter
            self._limits.refuse(f"state for a {type(target).__name__}")

    def _persistent_id(self, argument: str) -> None:
        self._stack.append(self._persistent(argument))

    def _binary_persistent_id(self, _: Any) -> None:
        self._stack.append(self._persistent(*self._pop(1)))

    def _nothing(self, _: Any) -> None:
        pass


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set}
_OPCODES = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes}
_LITERALS = frozenset(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT BINSTRING SHORT_BINSTRING"
    " UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8"
    " BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8".split()
)
_OPERATIONS = {
    "MARK": _Machine._mark,
    "POP": _Machine._pop_one,
    "POP_MARK": lambda machine, _: machine._pop_mark() and None,
    "DUP": _Machine._duplicate,
    "PUT": _Machine._put,
    "BINPUT": _Machine._put,
    "LONG_BINPUT": _Machine._put,
    "MEMOIZE": _Machine._memoize,
    "GET": _Machine._get,
    "BINGET": _Machine._get,
    "LONG_BINGET": _Machine._get,
    "TUPLE": _Machine._tuple,
    "TUPLE1": lambda machine, _: machine._tuple_of(1),
    "TUPLE2": lambda machine, _: machine._tuple_of(2),
    "TUPLE3": lambda machine, _: machine._tuple_of(3),
    "LIST": _Machine._list,
    "FROZENSET": _Machine._frozenset,
    "DICT": _Machine._dict,
    "APPEND": _Machine._append,
    "APPENDS": _Machine._appends,
    "ADDITEMS": _Machine._add_items,
    "SETITEM": _Machine._set_item,
    "SETITEMS": _Machine._set_items_from_mark,
    "GLOBAL": _Machine._global,
    "STACK_GLOBAL": _Machine._stack_global,
    "REDUCE": _Machine._reduce,
    "NEWOBJ": _Machine._new_object,
    "NEWOBJ_EX": _Machine._new_object_ex,
    "OBJ": _Machine._object,
    "INST": _Machine._instance,
    "BUILD": _Machine._build,
    "PERSID": _Machine._persistent_id,
    "BINPERSID": _Machine._binary_persistent_id,
    "PROTO": _Machine._nothing,
    "FRAME": _Machine._nothing,
}
_READERS = {"GLOBAL": _two_lines, "INST": _two_lines, "PERSID": _line}
"""For arguments that pickletools would take escapes out of, which pickle does not."""
