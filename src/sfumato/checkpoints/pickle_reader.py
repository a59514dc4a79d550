"""A pickle read as data: a machine of its own for the opcodes that write values, which calls nothing but what is listed.

Python's own unpickler imports and calls what a file names. This one looks names up in a table (`pickle_globals`); a name that is not
there, or an opcode that no checkpoint needs, ends the reading with an error that says which.
Source: the opcodes as CPython's `pickletools` documents them; protocols 2 to 5.
"""

import re
import struct
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, cast

from sfumato.checkpoints.pickle_globals import find_global
from sfumato.checkpoints.pickle_numpy import NumpyArray, NumpyType, set_array, set_numpy_type
from sfumato.checkpoints.pickle_values import Global, Instance, Pairs, Parameters, as_tuple
from sfumato.checkpoints.stored_tensor import StoredTensor
from sfumato.errors import CorruptFileError, UnsafeFileError

MOST_OPCODES = 2_000_000
"""A Stable Diffusion checkpoint has some 50,000, with its optimizer 100,000. A value takes some 100 bytes: 200 MB at the worst."""
MOST_NUMBER = 64
"""Bytes of one whole number."""
MOST_NAME = 512
"""Letters of a module's or class's name."""
SLACK = 64 << 20
"""Bytes that texts, arrays and the like may take beyond three times those of their pickle."""
MOST_BEYOND = 256 << 20
"""Bytes that they may take beyond those of their pickle, however long it is, and the SLACK."""

# Opcodes that make values in ways no checkpoint does: the text forms of protocol 0, classes by name, numbered extensions, buffers
# from elsewhere. Named so that the error can say which it was.
REFUSED = {
    b"I": "INT", b"L": "LONG", b"F": "FLOAT", b"S": "STRING", b"V": "UNICODE", b"g": "GET", b"p": "PUT", b"P": "PERSID",
    b"i": "INST", b"o": "OBJ", b"l": "LIST", b"d": "DICT", b"2": "DUP", b"\x82": "EXT1", b"\x83": "EXT2", b"\x84": "EXT4",
    b"\x97": "NEXT_BUFFER", b"\x98": "READONLY_BUFFER",
}  # fmt: skip
ABSENT = object()
"""A memo entry that was never put."""


class PickleReader:
    """Reads pickles that lie one after another in some bytes.

    `persistent` makes the storage that a persistent id stands for. The opcodes and the memory of all the pickles count together.
    """

    def __init__(
        self, data: memoryview, position: int = 0, persistent: Callable[[object], object] | None = None
    ) -> None:
        self.position = position
        self.opcodes = 0
        """How many were read so far."""
        self._data = data
        self._persistent = persistent
        self._left = min(3 * len(data), len(data) + MOST_BEYOND) + SLACK

    def load(self) -> Any:
        """The value of the next pickle: numbers, texts, lists, and the classes of `pickle_values` and `stored_tensor`.

        Raises UnsafeFileError for a name or opcode that is not on the lists, CorruptFileError for a pickle that is damaged or whose
        values would take more memory than its file justifies. Neither names the file.
        """
        self._stack: list[Any] = []
        self._marked: list[list[Any]] = []
        self._memo: list[Any] = []
        self._puts = 0
        self._at = self.position
        if self._take(1) != b"\x80" or not 2 <= self._take(1)[0] <= 5:
            raise CorruptFileError("there is no pickle of protocol 2 to 5 where one belongs")
        try:
            while (opcode := self._opcode()) != b".":
                self.opcodes += 1
                if self.opcodes > MOST_OPCODES:
                    raise UnsafeFileError(f"its pickle has more than {MOST_OPCODES:,} opcodes")
                method = self._OPCODES.get(opcode)
                if method is None:
                    raise self._unknown(opcode)
                method(self)
            value = self._stack.pop()
        except IndexError:
            raise CorruptFileError(f"its pickle takes what it never put, at byte {self._at:,}") from None
        if self._stack or self._marked:
            raise CorruptFileError(f"its pickle ends with values left over, at byte {self._at:,}")
        return value

    def _unknown(self, opcode: bytes) -> Exception:
        where = f"at byte {self._at:,} of its pickle"
        if opcode in REFUSED:
            return UnsafeFileError(f"uses the opcode {REFUSED[opcode]} {where}; refused, no checkpoint needs it")
        return CorruptFileError(f"there is no pickle opcode {opcode[0]:#04x} {where}")

    def _spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise UnsafeFileError("its values would take far more memory than the file has bytes")

    # --- reading bytes

    def _take(self, size: int) -> bytes:
        end = self.position + size
        if end > len(self._data):
            raise CorruptFileError(f"its pickle is cut short: {size:,} bytes expected at byte {self.position:,}")
        taken = bytes(self._data[self.position : end])
        self.position = end
        return taken

    def _opcode(self) -> bytes:
        self._at = self.position
        return self._take(1)

    def _number(self, format_: str) -> int:
        return struct.unpack(format_, self._take(struct.calcsize(format_)))[0]

    def _counted(self, format_: str) -> bytes:
        size = self._number(format_)
        if size < 0:
            raise CorruptFileError(f"its pickle counts {size} bytes at byte {self._at:,}")
        self._spend(min(size, len(self._data)))
        return self._take(size)

    def _line(self) -> str:
        line = bytes(self._data[self.position : self.position + MOST_NAME])
        end = line.find(b"\n")
        if end < 0:
            raise CorruptFileError(f"its pickle names something without end at byte {self._at:,}")
        self.position += end + 1
        return line[:end].decode("ascii", "backslashreplace")

    def _text(self, raw: bytes) -> str:
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            self._spend(3 * len(raw))  # each byte that is no text is written out in four letters
            return raw.decode("utf-8", "backslashreplace")
        # A text takes up to four bytes a letter, if a single one is beyond Latin-1 (whose first bytes in UTF-8 end at 0xC3).
        if not raw.isascii() and max(raw) > 0xC3:
            self._spend(3 * len(raw))
        return text

    # --- the stack

    def _push(self, value: object) -> None:
        self._stack.append(value)

    def _pop_to_mark(self) -> list[Any]:
        items = self._stack
        self._stack = self._marked.pop()
        return items

    def _mark(self) -> None:
        self._marked.append(self._stack)
        self._stack = []

    def _pop(self) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._pop_to_mark()

    # --- the memo: a list, because a dict of numbers that the file chooses can be made slow

    def _put(self, index: int) -> None:
        value = self._stack[-1]
        self._puts += 1
        # Picklers count from 0, or from 1; room for gaps grows with what was put, so that no number takes memory of its own.
        if index > 2 * self._puts + 1024:
            raise CorruptFileError(f"its pickle puts entry {index:,} of a memo of {self._puts:,}")
        while len(self._memo) <= index:
            self._memo.append(ABSENT)
        self._memo[index] = value

    def _memoize(self) -> None:
        self._puts += 1
        self._memo.append(self._stack[-1])

    def _get(self, index: int) -> None:
        if index >= len(self._memo) or self._memo[index] is ABSENT:
            raise CorruptFileError(f"its pickle asks for entry {index:,} of its memo, which was never put")
        self._stack.append(self._memo[index])

    # --- numbers and texts

    def _long(self, format_: str) -> None:
        size = self._number(format_)
        if not 0 <= size <= MOST_NUMBER:
            raise CorruptFileError(f"its pickle has a whole number of {size:,} bytes at byte {self._at:,}")
        self._push(int.from_bytes(self._take(size), "little", signed=True))

    def _python_2_string(self, raw: bytes) -> None:
        self._push(raw.decode("ascii") if raw.isascii() else raw)

    # --- containers

    def _items(self, count: int) -> tuple[Any, ...]:
        if len(self._stack) < count:
            raise IndexError
        items = tuple(self._stack[-count:])
        del self._stack[-count:]
        return items

    def _append(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is list:
            cast("list[Any]", target).extend(items)
        elif not isinstance(target, Instance):
            raise CorruptFileError(f"its pickle appends to a {type(target).__name__} at byte {self._at:,}")

    def _set_items(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if len(items) % 2:
            raise CorruptFileError(f"its pickle sets a key without a value at byte {self._at:,}")
        if isinstance(target, Pairs):
            target.extend(items)
        elif not isinstance(target, Instance):
            raise CorruptFileError(f"its pickle sets items of a {type(target).__name__} at byte {self._at:,}")

    # --- names, and what they make

    def _global(self, module: object, name: object) -> None:
        if type(module) is not str or type(name) is not str or len(module) + len(name) > MOST_NAME:
            raise CorruptFileError(f"its pickle names something by other than two texts at byte {self._at:,}")
        found = find_global(module, name)
        if found is None:
            full = re.sub(r"[^\w.<>-]", "?", f"{module}.{name}")
            raise UnsafeFileError(f"wants to run {full} at byte {self._at:,} of its pickle; refused")
        if found.inert:
            self._spend(len(found.name))
        self._push(found)

    def _call(self, function: object, arguments: object) -> None:
        where = f"at byte {self._at:,}"
        if not isinstance(function, Global):
            raise UnsafeFileError(f"wants to call a {type(function).__name__} {where} of its pickle; refused")
        if function.make is None and not function.inert:
            raise UnsafeFileError(f"wants to call {function.name} {where} of its pickle; refused, it is only a name")
        given = as_tuple(arguments)
        if given is None:
            raise CorruptFileError(f"its pickle calls {function.name} with a {type(arguments).__name__} {where}")
        made: Any = function.make(given) if function.make else Instance(function.name)
        # What is made of values that the memo holds can be made of them again and again.
        self._spend(_size(made))
        self._push(made)

    def _reduce(self) -> None:
        function, arguments = self._items(2)
        self._call(function, arguments)

    def _new_with_keywords(self) -> None:
        kind, arguments, keywords = self._items(3)
        if not isinstance(keywords, Pairs):
            raise CorruptFileError(f"its pickle gives keywords as a {type(keywords).__name__}")
        self._call(kind, arguments)
        if keywords and not isinstance(self._stack[-1], Instance):
            raise CorruptFileError("its pickle gives keywords to what takes none")

    def _build(self) -> None:
        state = self._stack.pop()
        target = self._stack[-1]
        if isinstance(target, Parameters):
            found = _parameters(state)
            self._spend(_size(state) + _size(found))
            target.extend(found)
        elif isinstance(target, NumpyType):
            set_numpy_type(target, state)
        elif isinstance(target, NumpyArray):
            set_array(target, state)
            self._spend(_size(target))
        elif not isinstance(target, Pairs | Instance):
            # A state dict carries version numbers as attributes, which say nothing of the weights, and objects are not kept.
            name = target.name if isinstance(target, Global) else f"a {type(target).__name__}"
            raise UnsafeFileError(f"wants to change the state of {name} at byte {self._at:,} of its pickle; refused")

    def _persistent_id(self) -> None:
        identifier = self._stack.pop()
        if self._persistent is None:
            raise CorruptFileError("its pickle refers to a storage where there can be none")
        self._push(self._persistent(identifier))

    def _frame(self) -> None:
        size = self._number("<Q")
        if size > len(self._data) - self.position:
            raise CorruptFileError(f"its pickle is cut short: a frame of {size:,} bytes at byte {self._at:,}")

    # The opcodes that are read, by their byte. The two ways to make an object are the same here: neither calls a class.
    _OPCODES: ClassVar[Mapping[bytes, Callable[["PickleReader"], object]]] = {
        b"\x95": lambda m: m._frame(),
        b"(": lambda m: m._mark(),
        b"0": lambda m: m._pop(),
        b"1": lambda m: m._pop_to_mark(),
        b"N": lambda m: m._push(None),
        b"\x88": lambda m: m._push(True),
        b"\x89": lambda m: m._push(False),
        b"J": lambda m: m._push(m._number("<i")),
        b"K": lambda m: m._push(m._number("<B")),
        b"M": lambda m: m._push(m._number("<H")),
        b"\x8a": lambda m: m._long("<B"),
        b"\x8b": lambda m: m._long("<i"),
        b"G": lambda m: m._push(m._number(">d")),
        b"U": lambda m: m._python_2_string(m._counted("<B")),
        b"T": lambda m: m._python_2_string(m._counted("<i")),
        b"C": lambda m: m._push(m._counted("<B")),
        b"B": lambda m: m._push(m._counted("<I")),
        b"\x8e": lambda m: m._push(m._counted("<Q")),
        b"\x96": lambda m: m._push(m._counted("<Q")),
        b"\x8c": lambda m: m._push(m._text(m._counted("<B"))),
        b"X": lambda m: m._push(m._text(m._counted("<I"))),
        b"\x8d": lambda m: m._push(m._text(m._counted("<Q"))),
        b"]": lambda m: m._push([]),
        b"\x8f": lambda m: m._push([]),
        b"}": lambda m: m._push(Pairs()),
        b")": lambda m: m._push(()),
        b"a": lambda m: m._append(list(m._items(1))),
        b"e": lambda m: m._append(m._pop_to_mark()),
        b"\x90": lambda m: m._append(m._pop_to_mark()),
        b"\x91": lambda m: m._push(m._pop_to_mark()),
        b"s": lambda m: m._set_items(list(m._items(2))),
        b"u": lambda m: m._set_items(m._pop_to_mark()),
        b"t": lambda m: m._push(tuple(m._pop_to_mark())),
        b"\x85": lambda m: m._push(m._items(1)),
        b"\x86": lambda m: m._push(m._items(2)),
        b"\x87": lambda m: m._push(m._items(3)),
        b"h": lambda m: m._get(m._number("<B")),
        b"j": lambda m: m._get(m._number("<I")),
        b"q": lambda m: m._put(m._number("<B")),
        b"r": lambda m: m._put(m._number("<I")),
        b"\x94": lambda m: m._memoize(),
        b"c": lambda m: m._global(m._line(), m._line()),
        b"\x93": lambda m: m._global(*m._items(2)),
        b"R": lambda m: m._reduce(),
        b"\x81": lambda m: m._reduce(),
        b"\x92": lambda m: m._new_with_keywords(),
        b"b": lambda m: m._build(),
        b"Q": lambda m: m._persistent_id(),
    }


def _size(value: object) -> int:
    """The bytes of memory that a value takes, roughly, what is in a collection left out."""
    if isinstance(value, NumpyArray):
        return len(value.raw)
    if isinstance(value, StoredTensor):
        return 200 + 8 * (len(value.shape) + len(value.stride))
    if isinstance(value, bytes):
        return len(value)
    return 8 * len(cast("list[Any]", value)) if isinstance(value, list) else 0


def _parameters(state: object) -> Pairs:
    """The parameters in the state of a ParameterDict, whose other parts are a module's workings."""
    values = cast("list[Any]", state) if isinstance(state, Pairs) else []
    for key, value in zip(values[::2], values[1::2], strict=True):
        if isinstance(key, str) and key == "_parameters" and isinstance(value, Pairs):
            return value
    raise CorruptFileError("a ParameterDict has no parameters")
