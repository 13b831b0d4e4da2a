"""Puts the standard library into the snapshot.

A component has no files, so what is not in memory when it is built cannot be imported later. What agents use
often is imported here, once, for all calls; the rest of the library is kept as compiled code, and imported from
there when a program asks for it.
"""

import gc
import importlib
import importlib.machinery
import importlib.util
import json
import marshal
import os
import pkgutil
import socket
import sys
import time

import wit_world

from troupe_python import event_loop, streams

# Where the build shows us the standard library. (`os` is frozen and does not know its place.)
LIBRARY = os.path.dirname(os.path.dirname(json.__file__))

# Needs a screen, a package index or a person at a terminal.
LEFT_OUT = {"ensurepip", "idlelib", "site-packages", "test", "tkinter", "turtle.py", "turtledemo", "venv"}

# Imported while building: a program that uses them starts at once.
COMMON = """
    abc argparse array ast asyncio base64 bisect binascii calendar cmath codecs collections collections.abc
    colorsys configparser contextlib contextvars copy csv dataclasses datetime decimal difflib email
    email.message email.parser email.utils enum errno fractions functools glob graphlib gzip hashlib heapq hmac
    html html.entities html.parser http http.client importlib.metadata importlib.resources inspect io ipaddress
    itertools json keyword linecache locale logging marshal math mimetypes numbers opcode operator os os.path
    pathlib pickle pkgutil platform posixpath pprint queue quopri random re reprlib sched secrets selectors
    shlex shutil signal socket sqlite3 stat statistics string string.templatelib struct subprocess sys tempfile
    textwrap threading time timeit token tokenize tomllib traceback types typing unicodedata unittest
    urllib.error urllib.parse urllib.request uuid warnings weakref xml.dom.minidom xml.etree.ElementTree
    zipfile zlib zoneinfo encodings.ascii encodings.cp1252 encodings.idna encodings.latin_1 encodings.punycode
    encodings.utf_16 encodings.utf_32 encodings.utf_8_sig _strptime
""".split()

# How large the places are that `_fill_holes` looks for, in bytes: every size that the allocator keeps a list of, and some of
# those above.
HOLE_SIZES = (16384, 8192, 4096, 2048, 1024, *range(768, 256, -64), *range(256, 0, -4))

# What `_fill_holes` took.
_filling = None

# Module name to (marshalled code, whether it is a package). Filled by `finish`.
_code: dict[str, tuple[bytes, bool]] = {}


class LibraryImporter:
    """Finds and loads modules of the standard library that the snapshot holds as code."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name not in _code:
            return None
        return importlib.util.spec_from_loader(name, LibraryImporter, origin=_origin(name))

    @staticmethod
    def create_module(spec):
        return None

    @staticmethod
    def exec_module(module):
        module.__file__ = module.__spec__.origin
        exec(LibraryImporter.get_code(module.__name__), module.__dict__)

    @staticmethod
    def is_package(name):
        return _code[name][1]

    @staticmethod
    def get_code(name):
        return marshal.loads(_code[name][0])

    @staticmethod
    def get_source(name):
        return None


def _origin(name):
    path = name.replace(".", "/")
    return f"{LIBRARY}/{path}/__init__.py" if _code[name][1] else f"{LIBRARY}/{path}.py"


def _modules(folder, package):
    """Yields (name, path, whether it is a package) of every module below a folder."""
    for entry in sorted(os.listdir(folder)):
        path = f"{folder}/{entry}"
        if entry in LEFT_OUT or entry == "__pycache__":
            continue
        if entry.endswith(".py"):
            if entry == "__init__.py":
                yield package, path, True
            else:
                yield f"{package}.{entry[:-3]}" if package else entry[:-3], path, False
        elif os.path.isdir(path) and os.path.isfile(f"{path}/__init__.py"):
            yield from _modules(path, f"{package}.{entry}" if package else entry)


def _keep_library():
    for name, path, is_package in _modules(LIBRARY, ""):
        if name in sys.modules:
            continue
        with open(path, "rb") as file:
            source = file.read()
        try:
            code = compile(source, path, "exec", dont_inherit=True)
        except SyntaxError:
            continue  # Templates of other tools.
        _code[name] = (marshal.dumps(code), is_package)


def _no_network(*args, **kwargs):
    raise PermissionError("there is no network in here: search with an agent of type `search`, call services with a tool")


def _replace_names():
    """Gives clear errors where the platform's own are riddles (`Non-recoverable error`)."""
    socket.getaddrinfo = socket.gethostbyname = socket.gethostbyname_ex = _no_network


def _begin_clocks_with_the_call():
    """The processor's clock counts from the build; the monotonic one begins with each call."""
    time.process_time = time.thread_time = time.monotonic
    time.process_time_ns = time.thread_time_ns = time.monotonic_ns


def _fill_holes():
    """Takes the free places between what stays, so that what a call allocates lies together, behind them.

    The allocator prefers such a place, and each is on another page of the snapshot, which has to be copied before
    it can be written to.
    """
    filling = None
    for size in HOLE_SIZES:
        # Where so many lie at the same distance from each other, they are not in holes.
        enough = 32 if size < 1024 else 4
        in_a_row = last = distance = 0
        while in_a_row < enough:
            filling = (bytes(size), filling)
            place = id(filling[0])
            in_a_row = in_a_row + 1 if place - last == distance else 0
            last, distance = place, place - last
    return filling


def finish():
    """Fills the snapshot. Called once, as the last act of the build."""
    global _filling
    for name in COMMON:
        importlib.import_module(name)
    for module in pkgutil.walk_packages(wit_world.__path__, "wit_world."):
        importlib.import_module(module.name)  # The runtime asks for these once we are done.
    event_loop.install()
    _replace_names()
    _begin_clocks_with_the_call()
    streams.open_streams()
    _keep_library()
    # The build's folders do not exist later; searching them would cost time and tell of them.
    sys.path[:] = []
    sys.path_importer_cache.clear()
    sys.meta_path[:] = [importlib.machinery.BuiltinImporter, importlib.machinery.FrozenImporter, LibraryImporter]
    sys.path_hooks[:] = []
    sys.dont_write_bytecode = True
    os.environ.clear()
    # What stays is never looked at by the garbage collector again: looking would copy its pages in every call.
    gc.collect()
    _filling = _fill_holes()
    gc.freeze()
