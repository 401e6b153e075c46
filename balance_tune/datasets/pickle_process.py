"""A process that reads one pickle and writes what it holds as plain data; `pickles` starts it and reads the answer.

It builds no object that the pickle names: numpy's arrays, types and numbers become the inert classes below, whose
fields are checked. The process has little memory and time, and neither numpy nor this package, so that the worst that
a forged file can do is to end it. Usage: `python -I -S pickle_process.py BYTES SECONDS < FILE`.

The answer on standard output: 8 bytes, the length of the header; the header as JSON; then the content of the buffers.
The header is {"error": text}, or {"value": node, "buffers": [[type, shape, order, bytes], ...]}, where a node is a JSON
scalar, or ["list" | "tuple", [nodes]], ["dict", [[node, node], ...]], ["array" | "scalar" | "bytes", index of buffer].
"""

from __future__ import annotations

import json
import math
import os
import pickle
import re
import resource
import sys
from typing import Any

DEEPEST, MOST = 16, 4_000_000  # containers in each other; nodes in all
TYPE = re.compile(r"(b1|[iu][1248]|f[248]|[SU][0-9]{1,6})\Z")


class Refused(pickle.UnpicklingError):
    """The pickle holds something that is neither an array of numbers or text nor a plain container."""


class Type:
    """A numpy type by its name: booleans, integers, floats and text of a fixed width; "O" only for lists."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any, align: Any = False, copy: Any = True) -> None:
        name = _text(code)
        if name.startswith("O"):
            name = "O"
        elif not TYPE.match(name):
            raise Refused(f"it holds values of type {name[:40]!r}")
        self.code, self.order = name, "|"

    def __setstate__(self, state: Any) -> None:
        order = _text(state[1]) if isinstance(state, tuple) and 5 <= len(state) <= 9 else ""
        if order not in ("<", ">", "|", "=") or any(part is not None for part in state[2:5]):
            raise Refused("it holds values of a structured type")
        self.order = order

    @property
    def name(self) -> str:
        """The name of the type."""
        return self.order + self.code if self.order in "<>" else "<" + self.code

    @property
    def size(self) -> int:
        """Bytes of one value."""
        return int(self.code[1:]) * (4 if self.code[0] == "U" else 1)


class Array:
    """An array's type, shape, order and bytes; of an array of objects the list of them."""

    __slots__ = ("content", "order", "shape", "type")

    def __init__(self) -> None:
        self.content: Any = None

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise Refused("it holds an array whose state is none")
        shape, kind, fortran, content = state[-4:]
        self._fill(content, kind, shape, "F" if fortran else "C")

    def _fill(self, content: Any, kind: Any, shape: Any, order: str) -> None:
        if isinstance(shape, int):
            shape = (shape,)
        if not isinstance(kind, Type) or not isinstance(shape, tuple) or len(shape) > 8:
            raise Refused("it holds an array without a type or a shape")
        if any(type(n) is not int or not 0 <= n < 2**40 for n in shape):
            raise Refused(f"it holds an array of shape {str(shape)[:60]}")
        count = math.prod(shape)
        if kind.code == "O":
            if not isinstance(content, list) or len(content) != count:
                raise Refused("it holds an array of objects that are not all there")
        else:
            content = content.encode("latin1") if isinstance(content, str) else content
            if not isinstance(content, bytes | bytearray):
                raise Refused("it holds an array without its bytes")
            if len(content) != count * kind.size:
                raise Refused(f"it holds an array of {count * kind.size} bytes, of which {len(content)} are there")
        self.content, self.type, self.shape, self.order = content, kind, shape, order


class Scalar:
    """One number of a numpy type."""

    __slots__ = ("content", "type")

    def __init__(self, kind: Any, content: Any = b"") -> None:
        content = content.encode("latin1") if isinstance(content, str) else content
        if not isinstance(kind, Type) or kind.code == "O":
            raise Refused("it holds a number without a type")
        if not isinstance(content, bytes) or len(content) != kind.size:
            raise Refused("it holds a number that is not all there")
        self.content, self.type = content, kind


class Name:
    """What a pickle may name but not call."""

    __slots__ = ()


NDARRAY = Name()


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("latin1")
    if not isinstance(value, str):
        raise Refused("it holds a type without a name")
    return value


def _reconstruct(cls: Any, shape: Any, code: Any) -> Array:
    if cls is not NDARRAY:
        raise Refused("it holds an array of a class of its own")
    return Array()


def _from_buffer(content: Any, kind: Any, shape: Any, order: Any) -> Array:
    array = Array()
    array._fill(content, kind, shape, "F" if order == "F" else "C")
    return array


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    if encoding != "latin1" or not isinstance(text, str):
        raise Refused("it encodes text otherwise than as latin1")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    return b""


NAMES: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): NDARRAY,
    ("numpy", "dtype"): Type,
    ("_codecs", "encode"): _encode,  # how Python 3 writes bytes for Python 2
    ("__builtin__", "bytes"): _no_bytes,  # ... and no bytes
}
for _module in ("numpy.core", "numpy._core"):
    NAMES[_module + ".multiarray", "_reconstruct"] = _reconstruct
    NAMES[_module + ".multiarray", "scalar"] = Scalar
    NAMES[_module + ".numeric", "_frombuffer"] = _from_buffer


class Reader(pickle.Unpickler):
    """Finds the names above, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return NAMES[module, name]
        except KeyError:
            raise Refused(f"it asks for {module}.{name}") from None

    def persistent_load(self, pid: Any) -> Any:
        raise Refused("it asks for something outside of it")


class Plain:
    """Turns what was read into nodes and buffers, each buffer once."""

    def __init__(self, size: int) -> None:
        self.buffers: list[list[Any]] = []
        self.contents: list[bytes | bytearray] = []
        self._room, self._nodes = size, 0
        self._known: dict[tuple[int, str, tuple[int, ...], str], int] = {}

    def node(self, value: Any, depth: int = 0) -> Any:
        """Return `value` as a node of the answer.

        Raises:
            Refused: it is nested too deep, has too many parts, or is of another kind.
        """
        self._nodes += 1
        if depth > DEEPEST or self._nodes > MOST:
            raise Refused("it holds containers in each other, too deep or too many")
        if value is None or type(value) in (bool, int, float, str):
            return value
        if type(value) is list or type(value) is tuple:
            return [type(value).__name__, [self.node(v, depth + 1) for v in value]]
        if type(value) is dict:
            return ["dict", [[self._key(k, depth + 1), self.node(v, depth + 1)] for k, v in value.items()]]
        if type(value) is Array and value.content is not None:
            if value.type.code == "O":
                return self._nested(value.content, value.shape, depth + 1)
            return ["array", self._buffer(value.content, value.type.name, value.shape, value.order)]
        if type(value) is Scalar:
            return ["scalar", self._buffer(value.content, value.type.name, (), "C")]
        if type(value) in (bytes, bytearray):
            return ["bytes", self._buffer(value, "|u1", (len(value),), "C")]
        raise Refused(f"it holds a {type(value).__name__}")

    def _key(self, key: Any, depth: int) -> Any:
        if type(key) not in (bool, int, float, str, bytes):
            raise Refused(f"it holds a mapping whose keys are of type {type(key).__name__}")
        return self.node(key, depth)

    def _nested(self, content: list[Any], shape: tuple[int, ...], depth: int) -> Any:
        if len(shape) < 2:
            return self.node(content if shape else content[0], depth)
        step = math.prod(shape[1:])
        rows = range(shape[0]) if step else ()
        self._nodes += len(rows)
        return ["list", [self._nested(content[i * step : (i + 1) * step], shape[1:], depth + 1) for i in rows]]

    def _buffer(self, content: bytes | bytearray, name: str, shape: tuple[int, ...], order: str) -> int:
        key = (id(content), name, shape, order)
        if key not in self._known:
            self._room -= len(content)  # two arrays of the same bytes are two arrays when they are read
            if self._room < 0:
                raise Refused("it holds arrays that take more bytes than it has")
            self._known[key] = len(self.buffers)
            self.buffers.append([name, shape, order, len(content)])
            self.contents.append(content)
        return self._known[key]


def main(memory: int, seconds: int) -> None:
    """Read a pickle from standard input with at most `memory` bytes and `seconds` of processor time; write it."""
    if sys.platform == "linux":  # elsewhere a limit of the address space is refused or has no effect
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    out = sys.stdout.buffer
    contents: list[bytes | bytearray] = []
    try:
        plain = Plain(os.fstat(0).st_size)
        value = plain.node(Reader(sys.stdin.buffer, encoding="latin1").load())
        header = json.dumps({"value": value, "buffers": plain.buffers}).encode()
        contents = plain.contents
    except Exception as error:  # whatever a damaged or hostile pickle makes of the unpickler
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        header = json.dumps({"error": reason[:200]}).encode()
    out.write(len(header).to_bytes(8, "little"))
    out.write(header)
    for content in contents:
        out.write(content)
    out.flush()
    os._exit(0)  # nothing of what the pickle made is taken apart


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
