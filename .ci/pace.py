"""Prints every ten seconds how slow the machine is, until its parent ends: a fixed piece of work, 1 on a quiet machine.

Neighbours on a shared processor can double the processor time of the same work, so a limit on it counts in this unit.
"""

import argparse
import ast
import inspect
import json
import os
import time

#: Processor seconds of the work on a quiet machine.
QUIET = 0.2


def work() -> None:
    """Read, compile and walk a module of Python, and write and read JSON, as the tests do."""
    source = inspect.getsource(argparse)
    for _ in range(3):
        tree = ast.parse(source)
        compile(tree, "argparse", "exec")
        names = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]
        json.loads(json.dumps({str(number): names[number % len(names)] for number in range(20_000)}))


parent = os.getppid()
while os.getppid() == parent:
    before = time.process_time()
    work()
    print(round((time.process_time() - before) / QUIET, 2), flush=True)
    time.sleep(10)
