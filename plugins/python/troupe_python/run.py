"""Runs one program and finds its result, or its error as its author should see it."""

import ast
import asyncio
import builtins
import dis
import functools
import itertools
import json
import linecache
import logging
import sys
import time
import traceback
import types

from troupe_python import packages, streams
from troupe_python.context import Context
from troupe_python.values import text_of, to_json

# Functions on the stack that a traceback shows: the outermost and the innermost of a deep recursion.
CALLS_SHOWN = (20, 40)
# Longer texts are cut in the middle: a message may quote megabytes.
TEXT_CHARS_MAX = 20_000
# Exceptions of a chain or a group that are shown.
CAUSES_SHOWN = 50
# The interface has 32 bits for a line.
LINE_MAX = 2**32 - 1
# A program may have lowered it to less than what describing its error takes.
RECURSION_LIMIT = 1_000

# What describing an error relies on, as it is before a program can replace it.
_set_recursion_limit = sys.setrecursionlimit
_builtins = vars(builtins)
_builtins_as_they_were = dict(_builtins)
_type = type
_CLASS_NAME = type.__dict__["__name__"].__get__
_TRACEBACK = BaseException.__dict__["__traceback__"].__get__


class Raised(Exception):
    """The program failed: what to tell its author."""

    def __init__(self, kind, message, trace, line):
        super().__init__(kind)
        self.kind, self.message, self.traceback, self.line = kind, message, trace, line


def run(source, filename, input_json, action):
    """Runs source code and returns the JSON of its result."""
    _begin()
    return _run(source, filename, functools.partial(_result, source, filename, input_json, action))


def run_next(source, filename, input_json, action):
    """The same for the next program of a session, which finds what those before it left."""
    if not _session:
        _begin()
        _session.append(_module(filename))
    return _run(source, filename, functools.partial(_next_result, source, filename, input_json, action))


# The module whose names all programs of a session share, once there is one; and the names of their sources.
_session = []
_filenames = set()


def _begin():
    # The snapshot's clock stood still since the build.
    logging._startTime = time.time_ns()
    packages.use()


def _run(source, filename, result):
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    _filenames.add(filename)
    try:
        return to_json(result())
    except BaseException as error:  # The author's code may raise anything.
        raised = _describe(error, filename)
    finally:
        streams.flush()
    raise raised


def _module(filename):
    main = types.ModuleType("__main__")
    main.__file__ = filename
    sys.modules["__main__"] = main
    return main


_MISSING = object()


def _result(source, filename, input_json, action):
    value = json.loads(input_json)
    main = _module(filename)
    main.input = value
    main.context = Context()
    namespace = main.__dict__
    try:
        last = _execute(_compile(source, filename), namespace)
        result = namespace.get("result", _MISSING)
        if result is not _MISSING:
            return result
        function = namespace.get(action)
        if callable(function) and getattr(function, "__module__", None) == "__main__":
            return _called(function, value)
        return last
    except SystemExit as exit:
        if exit.code is None or exit.code == 0:
            return namespace.get("result")
        raise


def _next_result(source, filename, input_json, action):
    value = json.loads(input_json)
    main = _session[0]
    sys.modules["__main__"] = main
    main.__file__ = filename
    main.input = value
    main.context = Context()
    namespace = main.__dict__
    before = namespace.get("result", _MISSING)
    codes = _compile(source, filename)

    def own_result():
        """The variable `result`, where this program stores it: that of an earlier one is a variable like any other."""
        result = namespace.get("result", _MISSING)
        return result if result is not before or _stores_result(codes) else _MISSING

    try:
        last = _execute(codes, namespace)
        result = own_result()
        if result is not _MISSING:
            return result
        if not action:
            return text_of(last)
        function = namespace.get(action)
        if not callable(function):
            raise NameError(f"there is no function `{action}` in this session: define it, or name another `action`")
        return _called(function, value)
    except SystemExit as exit:
        if exit.code is None or exit.code == 0:
            result = own_result()
            return None if result is _MISSING else result
        raise


def _called(function, value):
    returned = function(value)
    return asyncio.run(_awaited(returned)) if hasattr(returned, "__await__") else returned


async def _awaited(awaitable):
    return await awaitable


def _compile(source, filename):
    """The code of the source, and that of its last statement, where that is an expression."""
    tree = ast.parse(source, filename)
    last = tree.body[-1] if tree.body else None
    if not isinstance(last, ast.Expr):
        return compile(tree, filename, "exec", dont_inherit=True), None
    tree.body.pop()
    code = compile(tree, filename, "exec", dont_inherit=True)
    # The expression sees the same `from __future__` imports as what stands before it.
    futures = code.co_flags & _FUTURES
    return code, compile(ast.Expression(last.value), filename, "eval", flags=futures, dont_inherit=True)


def _execute(codes, namespace):
    """Runs the code and returns the value of its last statement, where that is an expression."""
    code, last = codes
    exec(code, namespace)
    return None if last is None else eval(last, namespace)


def _stores_result(codes):
    """Whether the code of a module stores the variable `result`; a function's own is another one."""
    stores = ("STORE_NAME", "STORE_GLOBAL")
    steps = (step for code in codes if code and "result" in code.co_names for step in dis.get_instructions(code))
    return any(step.opname in stores and step.argval == "result" for step in steps)


def _future_flags():
    import __future__

    flags = 0
    for name in __future__.all_feature_names:
        flags |= getattr(__future__, name).compiler_flag
    return flags


_FUTURES = _future_flags()


def _named_for_what_it_is(error):
    """Of a size that 32 bits cannot hold Python says that a number overflows. What the program asked for is memory."""
    if type(error) is OverflowError and str(error) == "cannot fit 'int' into an index-sized integer":
        return MemoryError("more than a value can have here: 2 GiB").with_traceback(error.__traceback__)
    return error


def _describe(error, filename):
    """What to tell the author. An exception of the author's own making may fail in every part that is looked at."""
    _set_recursion_limit(RECURSION_LIMIT)
    _builtins.update(_builtins_as_they_were)
    try:
        return _described(_named_for_what_it_is(error), filename)
    except BaseException:
        kind = _kind(error)
    message = "the exception cannot be shown: its own code fails when it is described"
    return Raised(kind, message, f"{kind}: {message}\n", _last_line(error, filename))


def _described(error, filename):
    # Source lines are looked up for the frames that are shown, not for a thousand of a recursion.
    trace = traceback.TracebackException.from_exception(error, compact=True, lookup_lines=False)
    _keep_own_frames(trace)
    return Raised(_kind(error), _message(error), _cut("".join(trace.format())), _line(error, filename))


def _kind(error):
    """The name of an exception's class, which a metaclass may not change."""
    return _cut(_CLASS_NAME(_type(error)))


def _keep_own_frames(trace):
    """Leaves the author's frames, and the first exceptions of a chain that may have thousands."""
    traces = [trace]
    for position, trace in enumerate(traces):  # It grows meanwhile.
        own = _Calls(frame for frame in trace.stack if frame.filename in _filenames)
        trace.stack = own or None
        if position >= CAUSES_SHOWN:
            trace.__cause__ = trace.__context__ = trace.exceptions = None
        following = (trace.__cause__, trace.__context__, *(trace.exceptions or ()))
        traces += [other for other in following if other is not None]


class _Calls(traceback.StackSummary):
    """Frames that look like Python's own, and take no quarter of a second for a thousand of them."""

    def format(self, **options):
        same_line = itertools.groupby(self, key=lambda frame: (frame.lineno, frame.name))
        runs = [list(run) for _, run in same_line]
        first, last = CALLS_SHOWN
        hidden = runs[first:-last]
        for run in runs if not hidden else [*runs[:first], *runs[-last:]]:
            if hidden and run is runs[-last]:
                yield f"  [… {sum(map(len, hidden))} calls left out]\n"
            yield from traceback.StackSummary(run[:3]).format(**options)
            if len(run) > 3:
                yield f"  [Previous line repeated {len(run) - 3} more times]\n"


def _message(error):
    if isinstance(error, SystemExit):
        return f"the program ended itself with the exit code {error.code!r}"
    try:
        message = str(error)
    except BaseException:
        return "the exception cannot be shown: its own `__str__` fails"
    if not message and isinstance(error, MemoryError):
        return "the program needs more memory than it may have"
    return _cut(message)


def _line(error, filename):
    """The line where the author's code last was."""
    if isinstance(error, SyntaxError) and error.filename == filename:
        return _valid_line(error.lineno)
    return _last_line(error, filename)


def _last_line(error, filename):
    line = None
    trace = _TRACEBACK(error)
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == filename:
            line = trace.tb_lineno
        trace = trace.tb_next
    return _valid_line(line)


def _valid_line(line):
    """A program may raise a SyntaxError with anything for a line."""
    if _type(line) is not int:
        return None
    return min(max(line, 1), LINE_MAX)


def _cut(text):
    # Through `str` itself: a text may be of a class of the author's own.
    text = str.encode(text, "utf-8", "replace").decode()
    if len(text) > TEXT_CHARS_MAX:
        half = TEXT_CHARS_MAX // 2
        text = f"{text[:half]}\n[… {len(text) - 2 * half} characters left out]\n{text[-half:]}"
    return text
