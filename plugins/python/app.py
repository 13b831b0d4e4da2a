"""The component's entry: what `troupe:agent/interpreter` exports.

This module runs while the component is built; what it leaves in memory is the snapshot every call begins with.
"""

from troupe_python import snapshot  # First: it must see the standard library before anything else is asked for.
from troupe_python.run import Raised, run, run_next

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports import interpreter


def _exception(raised):
    return interpreter.Exception(raised.kind, raised.message, raised.traceback, raised.line)


class Interpreter(exports.Interpreter):
    def execute(self, program: interpreter.Program) -> str:
        try:
            return run(program.source, program.filename, program.input, program.action)
        except Raised as raised:
            error = _exception(raised)
        raise Err(error)


class Session(exports.Session):
    def execute(self, program: interpreter.Program) -> str:
        try:
            return run_next(program.source, program.filename, program.input, program.action)
        except Raised as raised:
            error = _exception(raised)
        raise Err(error)


snapshot.finish()
