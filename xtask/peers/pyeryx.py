"""Measures PyPI's pyeryx: each program in a fresh sandbox with limits.

Standard input is a JSON list of programs (`name`, `source`, which sets `result`), each line of standard output the
figures of one.
"""

import importlib.metadata
import json
import sys
import time

import eryx

CALLS = 200
WARM_UP = 20


def call(source, limits):
    result = eryx.Sandbox(resource_limits=limits).execute(source)
    if not result.stdout:
        raise SystemExit(f"pyeryx printed nothing for: {source}")


for program in json.load(sys.stdin):
    source = program["source"] + "\nprint(result)"
    limits = eryx.ResourceLimits(execution_timeout_ms=60_000, max_memory_bytes=512 << 20)
    times = []
    for _ in range(WARM_UP + CALLS):
        begun = time.perf_counter()
        call(source, limits)
        times.append(time.perf_counter() - begun)
    times = sorted(times[WARM_UP:])
    figures = {
        "peer": "pyeryx " + importlib.metadata.version("pyeryx"),
        "what": program["name"],
        "p50_us": round(times[len(times) // 2] * 1e6, 1),
        "p99_us": round(times[len(times) * 99 // 100] * 1e6, 1),
    }
    print(json.dumps(figures), flush=True)
