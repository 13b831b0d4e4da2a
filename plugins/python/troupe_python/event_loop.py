"""asyncio without files and sockets: coroutines, tasks, timers, queues and locks work; there is nothing else to
wait for in here. The library's own loops begin by opening a socket to themselves, which is denied.
"""

import asyncio
import time
import warnings


class _Clock:
    """Stands where asyncio expects a selector: it waits for nothing but time."""

    def select(self, timeout):
        if timeout is None:
            raise RuntimeError("every task waits and nothing is left that could wake one: a deadlock")
        if timeout > 0:
            time.sleep(timeout)
        return []


class TimerLoop(asyncio.BaseEventLoop):
    """An event loop of timers and callbacks."""

    def __init__(self):
        super().__init__()
        self._selector = _Clock()

    def _process_events(self, event_list):
        pass

    def _write_to_self(self):
        pass  # It would wake a loop that sleeps, from another thread; there are no other threads.


class _Policy(asyncio.events._AbstractEventLoopPolicy):
    def __init__(self):
        self._loop = None

    def get_event_loop(self):
        if self._loop is None:
            raise RuntimeError("there is no current event loop; use `asyncio.run`")
        return self._loop

    def set_event_loop(self, loop):
        self._loop = loop

    def new_event_loop(self):
        return TimerLoop()


def install():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.set_event_loop_policy(_Policy())
