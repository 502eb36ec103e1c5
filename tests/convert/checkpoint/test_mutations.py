"""Damaged checkpoints end in a model or in a UserError, and never in anything else."""

import json
import os

import pytest
from conftest import DATA, ROOT
from limited import MOST_SECONDS, python

from convert.checkpoint import read_checkpoint
from convert.network import deploy_graph, facts_for

GOLDEN = DATA / "golden" / "checkpoints"
SEED, COUNT = 20, int(os.environ.get("CHECKPOINT_MUTATIONS", "500"))
"""2,000 were run, and can be again; the rest of the time is better spent elsewhere."""


def mutate(count, seed=SEED):
    script = ROOT / "tests" / "mutations.py"
    return json.loads(python(script, GOLDEN, seed, count, timeout=600))


DETECTORS = [path for path in sorted(GOLDEN.glob("*.pt")) if path.stem != "v70_seg"]


@pytest.mark.parametrize("path", DETECTORS, ids=lambda path: path.stem)
def test_what_is_not_damaged_is_a_model(path):
    checkpoint = read_checkpoint(path)
    assert deploy_graph(checkpoint, facts_for(checkpoint, (128, 128), "none")).graph.output


def test_damaged_checkpoints():
    result = mutate(COUNT)
    print(f"{json.dumps(result['counts'], indent=1)}\nslowest {result['slowest']:.2f} s")
    assert result["strange"] == {}, "\n".join(result["strange"].values())
    assert result["slowest"] < MOST_SECONDS
    assert result["peak"] < 1 << 30
    counts = result["counts"]
    assert len(counts) == 3 and sum(sum(kind.values()) for kind in counts.values()) == COUNT
    assert all(kind["model"] > 0 and kind["refused"] > 0 for kind in counts.values())
    assert sum(kind["model"] for kind in counts.values()) >= 50


def test_mutations_are_the_same_again():
    assert mutate(30)["counts"] == mutate(30)["counts"]
