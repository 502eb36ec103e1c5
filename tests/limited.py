"""Read a checkpoint, and build its graph, in a process that may not have more than a gigabyte."""

import json
import os
import re
import subprocess
import sys

from conftest import ROOT

MOST_SECONDS = 10
READER = """
import json, resource, sys, time
from pathlib import Path

resource.setrlimit(resource.RLIMIT_DATA, (1 << 30, 1 << 30))

from convert.checkpoint import read_checkpoint
from runtime.errors import UserError

start = time.process_time()
try:
    checkpoint = read_checkpoint(Path(sys.argv[1]))
    from convert.network import deploy_graph, facts_for
    deploy_graph(checkpoint, facts_for(checkpoint, (64, 64), "none"))
    outcome = "a model"
except UserError as error:
    outcome = str(error)
print(json.dumps([outcome, time.process_time() - start]))
"""


def python(*arguments, timeout=60):
    """The standard output of a Python that finds this project and treats warnings as errors."""
    threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | threads | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def outcome_of(path):
    """A refusal, or "a model", within the limits."""
    outcome, seconds = json.loads(python("-c", READER, path))
    assert seconds < MOST_SECONDS
    return outcome


def assert_refused(path, reason):
    """That a file is refused within the limits, in a line that can be read."""
    outcome = outcome_of(path)
    assert outcome.startswith(str(path)) and outcome.isprintable() and len(outcome) < 1000
    assert re.search(reason, outcome), outcome
