"""Read a checkpoint, and build its graph, in a process that may not have more than a gigabyte."""

import atexit
import functools
import json
import os
import re
import subprocess
import sys

from conftest import ROOT

_THREADS = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
_AS_HERE = {
    "cwd": ROOT,
    "env": os.environ | _THREADS | {"PYTHONPATH": str(ROOT)},
    "text": True,
}
MOST_SECONDS = 10
MEMORY = 1 << 30
READER = f"""
import json, os, resource, signal, sys, time
from pathlib import Path

from convert.checkpoint import read_checkpoint
from convert.network import deploy_graph, facts_for
from runtime.errors import UserError


def outcome(path):
    try:
        checkpoint = read_checkpoint(Path(path))
        deploy_graph(checkpoint, facts_for(checkpoint, (64, 64), "none"))
        return "a model"
    except UserError as error:
        return str(error)


for line in sys.stdin:
    process = os.fork()
    if process == 0:
        signal.alarm(60)
        resource.setrlimit(resource.RLIMIT_DATA, ({MEMORY}, {MEMORY}))
        start = time.process_time()
        said = outcome(json.loads(line))
        print(json.dumps([said, time.process_time() - start]), flush=True)
        os._exit(0)
    status = os.waitpid(process, 0)[1]
    if status:
        print(json.dumps([f"it ended with status {{status}}", 0]), flush=True)
"""


def python(*arguments, timeout=60):
    """The standard output of a Python that finds this project and treats warnings as errors."""
    done = subprocess.run(_command(*arguments), **_AS_HERE, capture_output=True, timeout=timeout)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def _command(*arguments):
    return [sys.executable, "-W", "error", *map(str, arguments)]


@functools.cache
def _reader():
    """A process that has loaded the project, and reads each file in a copy of itself."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen(_command("-c", READER), **_AS_HERE, **pipes)
    atexit.register(process.__exit__, None, None, None)
    return process


def outcome_of(path):
    """A refusal, or "a model", within the limits."""
    reader = _reader()
    print(json.dumps(str(path)), file=reader.stdin, flush=True)
    outcome, seconds = json.loads(reader.stdout.readline())
    assert seconds < MOST_SECONDS
    return outcome


def assert_refused(path, reason):
    """That a file is refused within the limits, in a line that can be read."""
    outcome = outcome_of(path)
    assert outcome.startswith(str(path)) and outcome.isprintable() and len(outcome) < 1000
    assert re.search(reason, outcome), outcome
