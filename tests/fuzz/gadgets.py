"""Hostile files of every known family, by name. None of them does harm: what they run, if anything runs them, writes a file `pwned`."""

import io
import pickle
import stat
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import torch

MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
VERSION = pickle.dumps(1001, 2)
SYSTEM = pickle.dumps({"protocol_version": 1001, "little_endian": True, "type_sizes": {}}, 2)
COMMAND = "touch pwned"
CODE = "open('pwned', 'w').close()"


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def short(value: str) -> bytes:
    raw = value.encode()
    return b"\x8c" + bytes([len(raw)]) + raw


def name(module: str, attribute: str) -> bytes:
    return b"c" + module.encode() + b"\n" + attribute.encode() + b"\n"


# Functions that run, import, read or reach what they are given, with arguments that would do so: of the standard library, and of the
# packages that are there wherever a checkpoint is opened. From picklescan's and fickling's lists, and the reports against them.
CALLS: dict[str, tuple[tuple[str, str], tuple[Any, ...]]] = {
    f"{module}.{attribute}": ((module, attribute), arguments)
    for module, attribute, arguments in (
        ("os", "system", (COMMAND,)),
        ("posix", "system", (COMMAND,)),
        ("nt", "system", (COMMAND,)),
        ("os", "popen", (COMMAND,)),
        ("os", "execv", ("/bin/sh", ["sh", "-c", COMMAND])),
        ("os", "spawnlp", (0, "sh", "sh", "-c", COMMAND)),
        ("os", "remove", ("precious",)),
        ("os", "putenv", ("A", "b")),
        ("subprocess", "Popen", (["sh", "-c", COMMAND],)),
        ("subprocess", "call", (["sh", "-c", COMMAND],)),
        ("subprocess", "check_output", (["sh", "-c", COMMAND],)),
        ("subprocess", "run", (["sh", "-c", COMMAND],)),
        ("commands", "getoutput", (COMMAND,)),
        ("pty", "spawn", (["sh", "-c", COMMAND],)),
        ("builtins", "eval", (CODE,)),
        ("builtins", "exec", (CODE,)),
        ("__builtin__", "eval", (CODE,)),
        ("__builtin__", "execfile", ("x",)),
        ("builtins", "compile", (CODE, "x", "exec")),
        ("builtins", "__import__", ("antigravity",)),
        ("builtins", "getattr", ("", "join")),
        ("builtins", "setattr", ("", "a", 1)),
        ("builtins", "open", ("pwned", "w")),
        ("builtins", "input", ()),
        ("builtins", "breakpoint", ()),
        ("builtins", "print", ("x",)),
        ("builtins", "map", ()),
        ("builtins", "type", ("a", (), {})),
        ("builtins", "vars", ()),
        ("builtins", "globals", ()),
        ("io", "open", ("pwned", "w")),
        ("_io", "FileIO", ("pwned", "w")),
        ("codecs", "open", ("pwned", "w")),
        ("shutil", "rmtree", ("precious",)),
        ("pathlib", "Path.touch", ("pwned",)),
        ("tempfile", "mktemp", ()),
        ("socket", "socket", ()),
        ("socket", "create_connection", (("127.0.0.1", 9),)),
        ("urllib.request", "urlopen", ("http://127.0.0.1:9/",)),
        ("http.client", "HTTPConnection", ("127.0.0.1",)),
        ("requests", "get", ("http://127.0.0.1:9/",)),
        ("ssl", "get_server_certificate", (("127.0.0.1", 9),)),
        ("webbrowser", "open", ("http://127.0.0.1:9/",)),
        ("ctypes", "CDLL", ("libc.so.6",)),
        ("importlib", "import_module", ("antigravity",)),
        ("runpy", "run_path", ("pwned",)),
        ("code", "interact", ()),
        ("pickle", "loads", (b"cos\nsystem\n(S'touch pwned'\ntR.",)),
        ("_pickle", "loads", (b"cos\nsystem\n(S'touch pwned'\ntR.",)),
        ("marshal", "loads", (b"N",)),
        ("dill", "loads", (b"N.",)),
        ("joblib", "load", ("pwned",)),
        ("functools", "partial", (CODE,)),
        ("functools", "reduce", ()),
        ("operator", "attrgetter", ("system",)),
        ("operator", "methodcaller", ("system", COMMAND)),
        ("operator", "itemgetter", (0,)),
        ("types", "FunctionType", ()),
        ("types", "CodeType", ()),
        ("copyreg", "_reconstructor", ()),
        ("copyreg", "add_extension", ("os", "system", 1)),
        ("sys", "exit", ()),
        ("sys", "addaudithook", ()),
        ("sys", "modules", ()),
        ("timeit", "timeit", (CODE,)),
        ("cProfile", "run", (CODE,)),
        ("profile", "run", (CODE,)),
        ("pdb", "run", (CODE,)),
        ("bdb", "Bdb", ()),
        ("trace", "Trace", ()),
        ("doctest", "debug_script", (CODE,)),
        ("pydoc", "pipepager", ("x", COMMAND)),
        ("pydoc", "locate", ("antigravity",)),
        ("pip", "main", (["install", "x"],)),
        ("ensurepip", "_run_pip", (["install", "x"],)),
        ("venv", "create", ("pwned",)),
        ("asyncio", "run", ()),
        ("asyncio.unix_events", "_UnixSubprocessTransport._start", ()),
        ("multiprocessing.util", "spawnv_passfds", ()),
        ("logging.config", "fileConfig", ("x",)),
        ("zipimport", "zipimporter", ("x",)),
        ("pkgutil", "resolve_name", ("os:system",)),
        ("uuid", "_get_command_stdout", ("sh", "-c", COMMAND)),
        ("lib2to3.pgen2.grammar", "Grammar.loads", ()),
        ("distutils.file_util", "write_file", ("pwned", ["x"])),
        ("idlelib.pyshell", "ModifiedInterpreter.runcode", ()),
        ("site", "execsitecustomize", ()),
        ("turtle", "__import__", ("os",)),
        ("numpy", "load", ("x", None, True)),
        ("numpy", "fromfile", ("x",)),
        ("numpy", "memmap", ("pwned", "u1", "w+", 0, 10)),
        ("numpy.f2py.crackfortran", "_eval_length", (CODE, {})),
        ("numpy.testing._private.utils", "runstring", (CODE, {})),
        ("numpy.core.multiarray", "fromstring", (b"x",)),
        ("torch", "load", ("x",)),
        ("torch.serialization", "load", ("x",)),
        ("torch.storage", "_load_from_bytes", (b"x",)),
        ("torch.hub", "load", ("a/b", "c")),
        ("torch.jit", "load", ("x",)),
        ("torch", "from_file", ("pwned", True, 10)),
        ("torch", "UntypedStorage.from_file", ("pwned", True, 10)),
        ("torch.utils.cpp_extension", "load_inline", ("x", CODE)),
        ("torch.utils.collect_env", "run", (COMMAND,)),
        ("torch.jit.unsupported_tensor_ops", "execWrapper", (CODE, {}, {})),
        ("torch._inductor.codecache", "compile_file", ("", "", ["sh", "-c", COMMAND])),
        ("torch.fx.experimental.symbolic_shapes", "ShapeEnv.evaluate_guards_expression", ()),
        ("torch._dynamo.guards", "GuardBuilder.get", ()),
        ("torch.utils.bottleneck.__main__", "run_cprofile", (CODE, {})),
        ("torch.utils._config_module", "ConfigModule.load_config", ()),
        ("torch.nn.modules.module", "Module", ()),
        ("torch", "os.system", (COMMAND,)),
        ("torch._utils", "torch.os.system", (COMMAND,)),
        ("torch._utils", "_import_dotted_name", ("os.system",)),
        ("torch._utils", "_rebuild_tensor_v2.__globals__", ()),
        ("torch._tensor", "os.system", (COMMAND,)),
        ("collections", "OrderedDict.__init__", ()),
        ("collections", "_sys.exit", ()),
        ("_codecs", "lookup", ("zip",)),
        ("_codecs", "register", ()),
        ("pytorch_lightning", "os.system", (COMMAND,)),
        ("PIL.ImageMath", "eval", (CODE,)),
        ("safetensors.torch", "load_file", ("x",)),
        ("transformers", "pipeline", ()),
        ("sfumato.checkpoints.pickle_globals", "encode", ()),
        ("__main__", "main", ()),
    )
}


def written(value: Any) -> bytes:
    """A value's opcodes, without the protocol and the end."""
    return pickle.dumps(value, 2)[2:-1]


def laughs() -> list[Any]:
    """A list of two of a list of two of a list …"""
    value: list[Any] = ["ha"]
    for _ in range(100):
        value = [value, value]
    return value


def pickles() -> Iterator[tuple[str, bytes]]:
    """Pickles, each of which would do harm if it were loaded."""
    for full, ((module, attribute), values) in CALLS.items():
        yield f"reduce {full}", b"\x80\2" + name(module, attribute) + written(values) + b"R."
        yield f"stack global {full}", b"\x80\4" + short(module) + short(attribute) + b"\x93" + written(values) + b"R."
    system = name("os", "system")
    command = text(COMMAND)
    listed = name("collections", "OrderedDict")
    yield from {
        "name only": b"\x80\2" + system + b".",
        "inst": b"\x80\2(" + command + b"ios\nsystem\n.",
        "inst in text": b"(S'touch pwned'\nios\nsystem\n.",
        "obj": b"\x80\2(" + system + command + b"o.",
        "protocol 0": b"cos\nsystem\n(S'touch pwned'\ntR.",
        "newobj": b"\x80\2" + name("subprocess", "Popen") + command + b"\x85\x81.",
        "newobj_ex": b"\x80\4" + name("subprocess", "Popen") + b")}" + text("args") + command + b"s\x92.",
        "newobj_ex listed": b"\x80\4" + listed + b")}" + text("a") + b"K\1s\x92.",
        "newobj function": b"\x80\2" + name("torch._utils", "_rebuild_tensor_v2") + b")\x81.",
        "ext1": b"\x80\2\x82\1" + command + b"\x85R.",
        "ext2": b"\x80\2\x83\1\0" + command + b"\x85R.",
        "ext4": b"\x80\2\x84\1\0\0\0" + command + b"\x85R.",
        "memo": b"\x80\4" + short("os") + b"\x940" + short("system") + b"\x940h\0h\1\x93" + command + b"\x85R.",
        "memo put over": b"\x80\2" + text("collections") + b"q\0" + b"0" + text("os") + b"q\x000h\0" + text("system") + b"\x93" + command + b"\x85R.",
        "memo of a listed name put over": b"\x80\2" + listed + b"q\x000" + system + b"q\x000h\0" + command + b"\x85R.",
        "text as function": b"\x80\2" + text("os.system") + command + b"\x85R.",
        "tuple as function": b"\x80\2" + text("os") + text("system") + b"\x86" + command + b"\x85R.",
        "bytes as names": b"\x80\4C\2osC\6system\x93" + command + b"\x85R.",
        "numbers as names": b"\x80\4K\1K\2\x93.",
        "build listed": b"\x80\2" + listed + b"}" + text("__reduce__") + system + b"sb.",
        "build setstate": b"\x80\2" + listed + b")R}" + text("__setstate__") + system + b"sb" + command + b"b.",
        "build class": b"\x80\2" + listed + b")R}" + text("__class__") + name("subprocess", "Popen") + b"sb.",
        "build function": b"\x80\2" + name("torch._utils", "_rebuild_tensor_v2") + b"}" + text("__code__") + b"Nsb.",
        "build slots": b"\x80\2" + listed + b")RN}" + text("__init__") + system + b"s\x86b.",
        "build tensor": b"\x80\2" + name("torch", "Tensor") + b")\x81(K\1K\2tb.",
        "setitem on a name": b"\x80\2" + listed + text("fromkeys") + system + b"s.",
        "setitem on a list": b"\x80\2]K\1K\2s.",
        "setitems on a tensor": b"\x80\2(Ntb.",
        "append to a name": b"\x80\2" + listed + system + b"a.",
        "getattr chain": b"\x80\4" + name("builtins", "getattr") + name("builtins", "__import__") + text("os") + b"\x85R" + text("system") + b"\x86R" + command + b"\x85R.",
        "getattr by dots": b"\x80\4" + short("collections") + short("OrderedDict.__init__.__globals__") + b"\x93.",
        "from type": b"\x80\2" + name("torch._tensor", "_rebuild_from_type_v2") + b"(" + system + name("torch", "Tensor") + command + b"\x85}tR.",
        "from type of itself": b"\x80\2" + name("torch._tensor", "_rebuild_from_type_v2") + b"(" + name("torch._tensor", "_rebuild_from_type_v2") + name("torch", "Tensor") + b")}tR.",
        "default factory": b"\x80\2" + name("collections", "defaultdict") + system + b"\x85R" + command + b"K\1s.",
        "reconstructor": b"\x80\2" + name("copyreg", "_reconstructor") + b"(" + name("subprocess", "Popen") + name("builtins", "object") + b"NtR.",
        "reconstructor of a base": b"\x80\2" + name("copyreg", "_reconstructor") + b"(" + name("argparse", "Namespace") + name("subprocess", "Popen") + command + b"tR.",
        "codec": b"\x80\2" + name("_codecs", "encode") + text("x") + text("zip") + b"\x86R.",
        "codec rot13": b"\x80\2" + name("_codecs", "encode") + text("x") + text("rot13") + b"\x86R.",
        "huge bytearray": b"\x80\2" + name("builtins", "bytearray") + b"\x8a\x06" + (1 << 44).to_bytes(6, "little") + b"\x85R.",
        "huge bytes": b"\x80\2" + name("builtins", "bytes") + b"J\xff\xff\xff\x7f\x85R.",
        "object array": b"\x80\2" + name("numpy", "dtype") + text("O8") + b"K\0K\1\x87R.",
        "object scalar": b"\x80\2" + name("numpy.core.multiarray", "scalar") + name("numpy", "dtype") + text("O") + b"\x85R" + text("x") + b"\x86R.",
        "structured array": b"\x80\2" + name("numpy", "dtype") + text("V8") + b"K\0K\1\x87R.",
        "array subclass": b"\x80\2" + name("numpy.core.multiarray", "_reconstruct") + name("numpy", "memmap") + b"K\0\x85C\1b\x87R.",
        "persistent text": b"\x80\2Pos.system\n.",
        "persistent number": b"\x80\2K\1Q.",
        "persistent empty": b"\x80\2)Q.",
        "persistent module": b"\x80\2(" + text("module") + system + text("/etc/passwd") + text(CODE) + b"tQ.",
        "persistent with a function": b"\x80\2(" + text("storage") + system + text("0") + text("cpu") + b"K\1tQ.",
        "persistent key that is a path": b"\x80\2(" + text("storage") + name("torch", "FloatStorage") + text("../../etc/passwd") + text("cpu") + b"K\1tQ.",
        "persistent huge": b"\x80\2(" + text("storage") + name("torch", "FloatStorage") + text("0") + text("cpu") + b"\x8a\x08" + b"\xff" * 7 + b"\x7ftQ.",
        "persistent negative": b"\x80\2(" + text("storage") + name("torch", "FloatStorage") + text("0") + text("cpu") + b"J\xff\xff\xff\xfftQ.",
        "buffer": b"\x80\5\x97.",
        "readonly buffer": b"\x80\5C\1x\x98.",
        "second pickle": pickle.dumps({"a": 1}, 2) + b"\x80\2" + system + command + b"\x85R.",
        "after the end": pickle.dumps({}, 2) + b"cos\nsystem\n",
        "huge text": b"\x80\4\x8d" + b"\xff" * 7 + b"\x7fx.",
        "huge bytes in place": b"\x80\4\x8e" + b"\xff" * 7 + b"\x7fx.",
        "huge memo": b"\x80\2Nr\xff\xff\xff\xff.",
        "huge frame": b"\x80\4\x95" + b"\xff" * 7 + b"\x7fN.",
        "huge number": b"\x80\2\x8b\xff\xff\xff\x7f" + b"x" * 100 + b".",
        "a number of 100,000 digits": b"L" + b"9" * 100_000 + b"L\n.",
        "a list in itself": b"\x80\2]q\0h\0a.",
        "a dict in itself": b"\x80\2}q\0" + text("a") + b"h\0s.",
        "a billion laughs": pickle.dumps(laughs(), 2),
        "deep tuples": b"\x80\2)" + b"\x85" * 200_000 + b".",
        "deep tuple as a key": b"\x80\2})" + b"\x85" * 200_000 + b"K\1s.",
        "deep marks": b"\x80\2" + b"(" * 200_000 + b".",
        "many dicts": b"\x80\2(" + b"}" * 300_000 + b"t.",
    }.items()  # fmt: skip


def archive(
    pickled: bytes, *, compression: int = zipfile.ZIP_STORED, others: tuple[tuple[str, bytes], ...] = ()
) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(buffer, "w", compression) as target:
            for member, contents in (("a/data.pkl", pickled), ("a/data/0", bytes(64)), ("a/version", b"3\n"), *others):
                target.writestr(member, contents)
    return buffer.getvalue()


def good() -> bytes:
    """A pickle of one tensor in storage 0, of 16 floats."""
    return tensor_pickle()


def tensor_pickle(
    *,
    key: str = "0",
    count: int = 16,
    offset: int = 0,
    shape: tuple[int, ...] = (4, 4),
    stride: tuple[int, ...] = (4, 1),
) -> bytes:
    storage = b"(" + text("storage") + name("torch", "FloatStorage") + text(key) + text("cpu") + written(count) + b"tQ"
    rest = written(offset) + written(shape) + written(stride)
    return (
        b"\x80\2}" + text("w") + name("torch._utils", "_rebuild_tensor_v2") + b"(" + storage + rest + b"\x89"
        + name("collections", "OrderedDict") + b")RtRs."
    )  # fmt: skip


def archives() -> Iterator[tuple[str, bytes]]:
    """Archives that lie."""
    inner = archive(b"\x80\2" + name("os", "system") + text(COMMAND) + b"\x85R.")
    for evil in ("/etc/cron.d/x", "../../x", "a/../../x", "C:\\x", "\\\\host\\x", "a/data/../0", "a/\x00", "a//b"):
        yield f"zip name {evil!r}", archive(good(), others=((evil, b"x"),)).replace(b"a/\x01", b"a/\x00")
    yield "zip in a zip", archive(inner)
    yield "zip as a storage", archive(tensor_pickle(key="1"), others=(("a/data/1", inner),))
    yield "two pickles", archive(good(), others=(("b/data.pkl", inner),))
    yield "one name twice", archive(good(), others=(("a/data.pkl", b"\x80\2" + name("os", "system") + b"."),))
    yield "torchscript", archive(good(), others=(("a/constants.pkl", b"\x80\2)."), ("a/code/x.py", CODE.encode())))
    buffer = io.BytesIO(archive(good()))
    with zipfile.ZipFile(buffer, "a") as target:
        link = zipfile.ZipInfo("a/data/1")
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        target.writestr(link, "/etc/passwd")
    yield "symlink", buffer.getvalue()
    yield "bomb", archive(good(), compression=zipfile.ZIP_DEFLATED, others=(("a/data/1", bytes(80 << 20)),))
    yield "bomb in the pickle", archive(b"\x80\2(" + b"N" * (3 << 20) + b"t.", compression=zipfile.ZIP_DEFLATED)
    whole = archive(good())
    entry = whole.index(b"PK\1\2", whole.index(b"PK\1\2") + 1)
    for field, value in (
        ("stored", b"\xfe\xff\xff\xff"),
        ("size", b"\xfe\xff\xff\xff"),
        ("both", b"\xfe\xff\xff\xff" * 2),
    ):
        at = entry + (24 if field == "size" else 20)
        yield f"huge {field}", whole[:at] + value + whole[at + len(value) :]
    yield "bomb that hides its size", _hidden_bomb()
    first, second = whole.index(b"PK\3\4"), whole.index(b"PK\3\4", 4)
    yield "entries that share", whole[: entry + 42] + struct.pack("<I", first) + whole[entry + 46 :]
    yield "entries that overlap", whole[: second - 20] + whole[second:]
    yield "polyglot: stream, then archive", MAGIC + VERSION + SYSTEM + pickle.dumps({}, 2) + pickle.dumps([], 2) + inner
    yield "polyglot: archive, then stream", whole + MAGIC + VERSION
    yield "polyglot: two archives", whole + inner
    yield "polyglot: an archive in the comment", whole[:-2] + struct.pack("<H", len(inner)) + inner
    yield "zip that starts like safetensors", struct.pack("<Q", 2) + b"{}" + inner
    for what, described in {
        "count": {"count": 1 << 40},
        "shape": {"shape": (1 << 20, 1 << 20)},
        "huge shape of strides 0": {"shape": (1 << 20, 1 << 20), "stride": (0, 0)},
        "large shape of strides 0": {"shape": (1 << 13, 1 << 13), "stride": (0, 0)},
        "offset": {"offset": 1},
        "negative offset": {"offset": -4},
        "negative stride": {"stride": (-4, 1)},
        "overlapping": {"shape": (4, 4), "stride": (1, 1), "offset": 13},
        "missing": {"key": "7"},
        "key with dots": {"key": "../data.pkl"},
        "count times size overflows": {"count": (1 << 62) + 16},
        "shape overflows": {"shape": (1 << 32, 1 << 32), "stride": (0, 0)},
        "stride overflows": {"stride": ((1 << 63) // 3 + 1, 1)},
    }.items():
        yield f"tensor: {what}", archive(tensor_pickle(**described))


def _hidden_bomb() -> bytes:
    """80 MB of zeros that say they are 64 bytes."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(bytes(80 << 20)) + packer.flush()
    whole = archive(tensor_pickle(key="1"), others=(("a/data/1", packed),))
    at = whole.index(b"PK\3\4", whole.index(b"a/version"))
    entry = whole.rindex(b"PK\1\2")
    data = bytearray(whole)
    data[at + 8 : at + 10] = data[entry + 10 : entry + 12] = b"\x08\0"
    data[entry + 24 : entry + 28] = struct.pack("<I", 64)
    return bytes(data)


def safetensors() -> Iterator[tuple[str, bytes]]:
    """Headers that lie."""
    entry = b'{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
    for what, header in {
        "length": b"",
        "one name twice": b'{"a":' + entry + b',"a":' + entry + b"}",
        "overlapping": b'{"a":' + entry + b',"b":' + entry + b"}",
        "huge shape": entry.replace(b"[1]", b"[9223372036854775807,9223372036854775807]").join((b'{"a":', b"}")),
        "huge offsets": entry.replace(b"[0,4]", b"[0,9223372036854775807]").join((b'{"a":', b"}")),
        "many dimensions": entry.replace(b"[1]", b"[" + b"1," * 100_000 + b"1]").join((b'{"a":', b"}")),
        "deep": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "huge number": entry.replace(b"[1]", b"[" + b"9" * 100_000 + b"]").join((b'{"a":', b"}")),
        "path as a name": entry.join((b'{"../../x":', b"}")),
        "no object": b"[" + entry + b"]",
    }.items():
        data = struct.pack("<Q", len(header) or 1 << 62) + (header or b"{") + bytes(4)
        yield f"safetensors: {what}", data


def all_files() -> Iterator[tuple[str, bytes]]:
    """Every hostile file: each pickle by itself, in an archive, and in each place of the older format."""
    for what, pickled in pickles():
        yield f"bare: {what}", pickled
        yield f"archive: {what}", archive(pickled)
        yield f"stream: {what}", MAGIC + VERSION + SYSTEM + pickled + pickle.dumps([], 2)
    system = b"\x80\2" + name("os", "system") + text(COMMAND) + b"\x85R."
    yield "stream: as the magic number", system + VERSION + SYSTEM
    yield "stream: as the version", MAGIC + system + SYSTEM
    yield "stream: as the machine", MAGIC + VERSION + system
    yield "stream: as the keys", MAGIC + VERSION + SYSTEM + pickle.dumps({}, 2) + system
    yield "archive: compressed", archive(system, compression=zipfile.ZIP_DEFLATED)
    yield from archives()
    yield from safetensors()


# What opens all the same, harmlessly: a member that nothing asks for is never read, and much of nothing is nothing.
MAY_OPEN = (
    "zip as a storage",
    "safetensors: path as a name",
    "archive: many dicts",
    "stream: many dicts",
)

if __name__ == "__main__":
    print(f"{sum(1 for _ in all_files()):,} files; PyTorch {torch.__version__}")
