"""The variable `context`: what the workflow knows so far, asked for when it is looked at."""

import json
from collections.abc import Mapping

from componentize_py_types import Err
from wit_world.imports import context as host
from wit_world.imports import types


def _raise(error, step):
    if isinstance(error, types.Error_NotFound):
        raise KeyError(step)
    if isinstance(error, types.Error_Denied):
        raise PermissionError(error.value.message)
    detail = getattr(error, "value", None)
    name = type(error).__name__.removeprefix("Error_")
    raise RuntimeError(f"the output of {step!r} cannot be read: {name}{f' ({detail})' if detail else ''}")


class _Outputs(Mapping):
    """Outputs of earlier steps, by name. Each is fetched once."""

    def __init__(self):
        self._known = {}

    def __getitem__(self, step):
        if step not in self._known:
            error = None
            try:
                self._known[step] = json.loads(host.output(str(step)))
            except Err as denied:
                error = denied.value
            if error is not None:
                _raise(error, step)
        return self._known[step]

    def __iter__(self):
        return iter(host.steps())

    def __len__(self):
        return len(host.steps())

    def __repr__(self):
        return f"<outputs of {', '.join(self) or 'no step'}>"


class Context:
    """What the workflow knows so far.

    `context.inputs` are the execution's inputs, `context.outputs["plan"]` or `context.output("plan")` is the
    output of an earlier step.
    """

    def __init__(self):
        self._inputs = None
        self.outputs = _Outputs()

    @property
    def inputs(self):
        if self._inputs is None:
            self._inputs = json.loads(host.inputs())
        return self._inputs

    def output(self, step):
        return self.outputs[step]

    def __repr__(self):
        return "<context: inputs, outputs>"
