"""Pickles that would run code, written by hand, operation by operation.

A payload is made for a path: operations that push one value, and on the way there would make that
file. It uses no memo, so it can stand anywhere in another pickle.
"""

import functools
import io
import os
import pickle
import subprocess

import torch


def text(value):
    data = value.encode()
    return b"X" + len(data).to_bytes(4, "little") + data


def raw(value):
    return b"B" + len(value).to_bytes(4, "little") + value


def named(module, name):
    """A name, as protocols up to 3 write it."""
    return f"c{module}\n{name}\n".encode()


def stacked(module, name):
    """A name, as protocol 4 writes it; it may have dots."""
    return text(module) + text(name) + b"\x93"


def tupled(*items):
    return b"(" + b"".join(items) + b"t"


def call(function, *arguments):
    return function + tupled(*arguments) + b"R"


def attribute(owner, name):
    return call(named("builtins", "getattr"), owner, text(name))


def imported(module):
    return call(named("builtins", "__import__"), text(module))


def compiled(path):
    return call(named("builtins", "compile"), code(path), text("a"), text("eval"))


def command(path):
    return text(f"touch {path}")


def code(path):
    """An expression, and a statement."""
    return text(_code(path))


def _code(path):
    return f"open({str(path)!r}, 'w').close()"


class Reduced:
    """Pickled as what it is given."""

    def __init__(self, *parts):
        self.parts = parts

    def __reduce__(self):
        return self.parts


class ReducedByProtocol(Reduced):
    def __reduce_ex__(self, protocol):
        return self.parts


def _system(path):
    return Reduced(os.system, (f"touch {path}",))


def _eval(path):
    return Reduced(eval, (_code(path),))


REDUCED = {
    "two parts": _system,
    "a state": lambda p: Reduced(Reduced, (), {"a": _eval(p)}),
    "a state of slots": lambda p: Reduced(Reduced, (), (None, {"a": _eval(p)})),
    "items of a list": lambda p: Reduced(list, (), None, iter([_eval(p)])),
    "items of a dictionary": lambda p: Reduced(dict, (), None, None, iter([("a", _eval(p))])),
    "a key of a dictionary": lambda p: Reduced(dict, (), None, None, iter([(_eval(p), 1)])),
    "a setter of state": lambda p: Reduced(str, (_code(p),), {}, None, None, exec),
    "by protocol": lambda p: ReducedByProtocol(os.system, (f"touch {p}",)),
    "nested in its own arguments": lambda p: Reduced(str, (Reduced(str, (_system(p),)),)),
    "a partial": lambda p: Reduced(functools.partial(os.system, f"touch {p}"), ()),
    "a list of words": lambda p: Reduced(subprocess.check_output, (["touch", str(p)],)),
}
"""What pickle makes of an object's __reduce__, of every length it may have."""


def _nested(path):
    return pickle.dumps(_system(path), 2)


def _nested_checkpoint(path):
    stream = io.BytesIO()
    torch.save(_system(path), stream)
    return stream.getvalue()


RUNNING = {
    "os.system": lambda p: call(named("os", "system"), command(p)),
    "posix.system": lambda p: call(named("posix", "system"), command(p)),
    "subprocess.getoutput": lambda p: call(named("subprocess", "getoutput"), command(p)),
    "subprocess.check_output": lambda p: call(
        named("subprocess", "check_output"), b"(" + text("touch") + text(str(p)) + b"l"
    ),
    "torch's own shell": lambda p: call(named("torch.utils.collect_env", "run"), command(p)),
    "numpy's test runner": lambda p: call(
        named("numpy.testing._private.utils", "runstring"), code(p), b"}"
    ),
    "eval": lambda p: call(named("builtins", "eval"), code(p)),
    "exec": lambda p: call(named("builtins", "exec"), code(p)),
    "exec of a compiled script": lambda p: call(named("builtins", "exec"), compiled(p)),
    "a function made of code": lambda p: call(
        call(named("types", "FunctionType"), compiled(p), b"}")
    ),
    "timeit": lambda p: call(
        named("timeit", "timeit"), code(p), text("pass"), named("time", "time"), b"K\x01"
    ),
    "getattr of an import": lambda p: call(attribute(imported("os"), "system"), command(p)),
    "getattr of getattr": lambda p: call(
        attribute(attribute(imported("pathlib"), "os"), "system"), command(p)
    ),
    "the globals of a function": lambda p: call(
        call(
            attribute(named("builtins", "dict"), "get"),
            attribute(named("os", "walk"), "__globals__"),
            text("system"),
        ),
        command(p),
    ),
    "importlib": lambda p: call(
        attribute(call(named("importlib", "import_module"), text("os")), "system"), command(p)
    ),
    "a name put together on the stack": lambda p: call(stacked("os", "system"), command(p)),
    "a name with dots": lambda p: call(
        stacked("pathlib", "Path.touch"), call(named("pathlib", "PosixPath"), text(str(p)))
    ),
    "a name with dots in an allowed module": lambda p: call(
        stacked("torch.nn.functional", "torch.hub.os.system"), command(p)
    ),
    "a name with dots in a module of layers": lambda p: call(
        stacked("torch.nn.modules.module", "torch.hub.os.system"), command(p)
    ),
    "what a module of layers imports": lambda p: call(
        attribute(attribute(attribute(_TORCH, "hub"), "os"), "system"), command(p)
    ),
    "INST": lambda p: b"(" + command(p) + b"ios\nsystem\n",
    "OBJ": lambda p: call(b"(" + _PARTIAL + named("os", "system") + command(p) + b"o"),
    "NEWOBJ": lambda p: call(_PARTIAL + tupled(named("os", "system"), command(p)) + b"\x81"),
    "NEWOBJ_EX": lambda p: call(_PARTIAL + tupled(named("os", "system"), command(p)) + b"}\x92"),
    "BUILD": lambda p: call(
        call(_PARTIAL, named("builtins", "len"))
        + tupled(named("os", "system"), tupled(command(p)), b"}", b"N")
        + b"b"
    ),
    "functools.partial": lambda p: call(call(_PARTIAL, named("os", "system"), command(p))),
    "functools.reduce": lambda p: call(
        named("functools", "reduce"), named("builtins", "eval"), tupled(code(p), b"}")
    ),
    "operator.attrgetter": lambda p: call(
        call(call(named("operator", "attrgetter"), text("system")), imported("os")), command(p)
    ),
    "operator.methodcaller": lambda p: call(
        call(named("operator", "methodcaller"), text("system"), command(p)), imported("os")
    ),
    "a list of a map": lambda p: call(
        named("builtins", "list"),
        call(named("builtins", "map"), named("os", "system"), tupled(command(p))),
    ),
    "a set of a starmap": lambda p: call(
        named("builtins", "set"),
        call(named("itertools", "starmap"), named("os", "system"), tupled(tupled(command(p)))),
    ),
    "an ordered dictionary of an iterator": lambda p: call(
        named("collections", "OrderedDict"),
        call(named("builtins", "zip"), call(named("builtins", "iter"), _partial(p), b"K\x00")),
    ),
    "a default factory": lambda p: call(
        attribute(call(named("collections", "defaultdict"), _partial(p)), "__missing__"), b"K\x00"
    ),
    "a nested pickle": lambda p: call(named("pickle", "loads"), raw(_nested(p))),
    "a nested pickle, in C": lambda p: call(named("_pickle", "loads"), raw(_nested(p))),
    "a nested checkpoint": lambda p: call(
        named("torch.storage", "_load_from_bytes"), raw(_nested_checkpoint(p))
    ),
}
"""Payloads that the standard library's pickle would run, as a test shows."""


def _partial(path):
    return call(_PARTIAL, named("os", "system"), command(path))


_PARTIAL = named("functools", "partial")
_TORCH = named("torch.nn.modules.module", "torch")
_CONV = named("models.common", "Conv")
_TENSOR = named("torch._utils", "_rebuild_tensor_v2")


OUTSIDE = {
    "subprocess.Popen": call(named("subprocess", "Popen"), text("id")),
    "subprocess.Popen, shell": named("subprocess", "Popen") + tupled(text("id")) + b"}\x92",
    "nt.system": call(named("nt", "system"), text("calc")),
    "commands of Python 2": call(named("commands", "getoutput"), text("id")),
    "eval of Python 2": call(named("__builtin__", "eval"), text("1")),
    "builtins.open": call(named("builtins", "open"), text("a"), text("w")),
    "io.open": call(named("io", "open"), text("a"), text("w")),
    "a file of Python 2": call(named("__builtin__", "file"), text("a"), text("w")),
    "socket": call(named("socket", "create_connection"), tupled(text("localhost"), b"K\x50")),
    "urlopen": call(named("urllib.request", "urlopen"), text("http://localhost")),
    "webbrowser": call(named("webbrowser", "open"), text("http://localhost")),
    "ctypes": call(named("ctypes", "CDLL"), text("libc.so.6")),
    "runpy": call(named("runpy", "run_path"), text("a.py")),
    "pty": call(named("pty", "spawn"), text("id")),
    "shutil": call(named("shutil", "rmtree"), text("a")),
    "marshal": call(named("marshal", "loads"), raw(b"N")),
    "shelve": call(named("shelve", "open"), text("a")),
    "logging": call(named("logging", "FileHandler"), text("a")),
    "sys.exit": call(named("sys", "exit")),
    "multiprocessing": call(named("multiprocessing", "Process")),
    "a module that is imported by name": named("antigravity", "x"),
    "a name that nothing calls": named("os", "system"),
    "an object of a function": named("os", "system") + b")\x81",
    "a module as an object": named("builtins", "__import__") + b")\x81",
    "state for a function": named("os", "system") + b"}b",
    "state for a function of a fork": named("models.common", "autopad") + b"}b",
    "state for a list": b"]}b",
    "state for a number": b"K\x01}b",
    "state for a method": attribute(_CONV, "forward") + b"}b",
    "a call of a class": call(_CONV),
    "a call of a class, with words": call(_CONV, text("id")),
    "a call of a function of a fork": call(named("utils.general", "check_requirements")),
    "the same with words": call(named("utils.general", "run"), text("id")),
    "an object made with words": _CONV + tupled(text("id")) + b"\x81",
    "an object made with keywords": _CONV + b")" + b"}" + text("a") + b"K\x01s\x92",
    "OBJ of a class": b"(" + _CONV + text("id") + b"o",
    "INST of a class": b"(" + text("id") + b"imodels.common\nConv\n",
    "a call of an object": call(_CONV + b")\x81"),
    "a call of a method": call(attribute(_CONV, "forward"), text("id")),
    "a call of a method of an object": call(attribute(_CONV + b")\x81", "forward"), text("id")),
    "a call of a layer's class": call(named("torch.nn.modules.conv", "Conv2d"), b"K\x03"),
    "a call of a function of layers": call(named("torch.nn.functional", "relu"), b"K\x03"),
    "a namespace of something": call(named("types", "SimpleNamespace"), b"K\x05"),
    "a namespace of an object": call(named("types", "SimpleNamespace"), _CONV + b")\x81"),
    "a namespace of a namespace": call(
        named("ultralytics.utils", "IterableSimpleNamespace"), b"}", b"]"
    ),
    "a call of text": call(text("os.system"), text("id")),
    "a call of None": call(b"N"),
    "a call with no tuple": named("collections", "OrderedDict") + b"]R",
    "a private method": attribute(_CONV, "_forward"),
    "a dunder of a class": attribute(_CONV, "__init__"),
    "a dunder of an object": attribute(_CONV + b")\x81", "__class__"),
    "a dunder of a layer": attribute(named("torch.nn.modules.conv", "Conv2d"), "__mro__"),
    "a method with dots": attribute(_CONV, "forward.__globals__"),
    "a method of a method": attribute(attribute(_CONV, "forward"), "im_func"),
    "a method of a known class": attribute(named("collections", "OrderedDict"), "fromkeys"),
    "a method of text": attribute(text("a"), "format"),
    "a method of a list": attribute(b"]", "append"),
    "getattr with a default": call(named("builtins", "getattr"), _CONV, text("a"), text("b")),
    "getattr by dill's name": call(
        call(named("dill._dill", "_load_type"), text("getattr")), _CONV, text("forward")
    ),
    "dill: a type of code": call(named("dill._dill", "_load_type"), text("CodeType")),
    "dill: a type that is eval": call(named("dill._dill", "_load_type"), text("eval")),
    "dill: a type that is none": call(named("dill._dill", "_load_type"), b"]"),
    "dill: a function": call(named("dill._dill", "_create_function"), b"N", b"}"),
    "dill: a code": call(named("dill._dill", "_create_code")),
    "dill: an import": call(named("dill._dill", "_import_module"), text("os")),
    "dill: an attribute": call(named("dill._dill", "_get_attr"), b"N", text("a")),
    "dill: loads": call(named("dill", "loads"), raw(b"N.")),
    "cloudpickle: a type": call(named("cloudpickle.cloudpickle", "_builtin_type"), text("a")),
    "cloudpickle: a function": call(named("cloudpickle.cloudpickle", "_make_function"), b"N"),
    "cloudpickle: an import": call(named("cloudpickle.cloudpickle", "subimport"), text("os")),
    "joblib": call(named("joblib", "load"), text("a")),
    "pandas": call(named("pandas", "read_pickle"), text("a")),
    "yaml": call(named("yaml", "unsafe_load"), text("a")),
    "pip": call(named("pip", "main"), b"]"),
    "numpy.load": call(named("numpy", "load"), text("a"), b"N", b"\x88"),
    "numpy, where it lives": call(named("numpy.lib.npyio", "load"), text("a")),
    "numpy.fromfile": call(named("numpy", "fromfile"), text("/etc/passwd")),
    "numpy.memmap": call(named("numpy", "memmap"), text("a")),
    "numpy's compiler": call(named("numpy.f2py", "compile"), text("a")),
    "numpy: a type that is evaluated": call(named("numpy", "dtype"), text("f4,(1f4")),
    "numpy: an array of a function": call(
        named("numpy.core.multiarray", "scalar"), named("os", "system"), raw(b"")
    ),
    "torch.load": call(named("torch", "load"), text("a")),
    "torch.load, where it lives": call(named("torch.serialization", "load"), text("a")),
    "torch.hub": call(named("torch.hub", "load"), text("a"), text("b")),
    "torch.jit": call(named("torch.jit", "load"), text("a")),
    "torch.ops": call(named("torch._ops", "load_library"), text("a")),
    "torch.package": call(named("torch.package", "PackageImporter"), text("a")),
    "torch.from_file": call(named("torch", "from_file"), text("/etc/passwd")),
    "torch: a tensor of a function": call(
        named("torch._tensor", "_rebuild_from_type_v2"), named("os", "system"), _CONV, b")", b"N"
    ),
    "torch: a tensor of a tensor of": call(
        named("torch._tensor", "_rebuild_from_type_v2"),
        named("torch._tensor", "_rebuild_from_type_v2"),
        _CONV,
        b")",
        b"N",
    ),
    "torch: a tensor of words": call(_TENSOR, text("a"), b"K\x00", b")", b")"),
    "torch: a parameter of a function": call(
        named("torch._utils", "_rebuild_parameter"), named("os", "system"), b"\x88", b"N"
    ),
    "torchvision": call(named("torchvision.io", "read_file"), text("/etc/passwd")),
    "copyreg: a reconstructor of a function": call(
        named("copyreg", "_reconstructor"), named("os", "system"), named("builtins", "object"), b"N"
    ),
    "copyreg: a reconstructor of text": call(
        named("copyreg", "_reconstructor"), _CONV, named("builtins", "str"), text("a")
    ),
    "copyreg: a new object": call(named("copyreg", "__newobj__"), _CONV),
    "copyreg: an extension": call(named("copyreg", "add_extension"), text("os"), text("system")),
    "extension 1": b"\x82\x01",
    "extension 2": b"\x83\x01\x00",
    "extension 4": b"\x84\x01\x00\x00\x00",
    "a codec that unpacks": call(named("_codecs", "encode"), text("a"), text("zlib_codec")),
    "a codec that decodes": call(named("_codecs", "decode"), raw(b"a"), text("rot13")),
    "a buffer of elsewhere": b"\x97",
    "a buffer made read-only": b"C\x01a\x98",
    "text that is escaped": b"S'\\d'\n",
    "a name of two words": b"cos system\nx\n",
    "a name of no words": b"c\n\n" + b"(tR",
    "a name with escapes": b"cos\\x2epath\nsystem\n(tR",
    "a name with a line": stacked("os\nsystem", "x") + b"(tR",
}
"""Operations outside the allow-list, whether or not they would do harm here."""
