"""Pictures shared among workers give what one process gives."""

import json

import pytest

from convert.evaluate import parts


@pytest.mark.parametrize(
    ("files", "workers", "expected"),
    [
        (10, 2, [5, 5]),
        (10, 3, [3, 3, 4]),
        (2, 4, [1, 1]),
        (1, 0, [1]),
        (1200, 2, [400, 400, 400]),
        (1000, 1, [500, 500]),
    ],
)
def test_parts(files, workers, expected):
    items = list(range(files))
    made = parts._parts(items, workers)
    assert [len(part) for part in made] == expected
    assert [item for part in made for item in part] == items


def test_workers_find_the_same(rkyolo, demo, few_yaml, tmp_path):
    results, rows = [], []
    for name, more in (("one", []), ("two", ["--workers", 2])):
        out = tmp_path / f"{name}.json"
        command = ["evaluate", demo / "shapes.pt", "--data", few_yaml, "--size", 160, *more]
        done = rkyolo(*command, "--save-json", out, "--json", "-")
        assert done.returncode == 0, done.stderr
        results.append(json.loads(out.read_text()))
        rows.append(json.loads(done.stdout)["results"][0]["rows"])
    assert "Detect in 8 pictures, backend auto, 2 parts: " in done.stderr
    assert results[0] == results[1] and rows[0] == rows[1]
    assert results[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--workers 0", "--workers 0 is too few: give 1 or more"),
        ("--workers 1 --scheduler tcp://x:1", "--scheduler has its own: leave one out"),
        ("--scheduler nowhere", "--scheduler nowhere does not answer"),
        # told by a worker
        ("--workers 1 --backend simulator", "the simulator runs bundles"),
    ],
)
def test_what_cannot_be_done(rkyolo, demo, few_yaml, arguments, message):
    model = demo / "shapes.pt"
    done = rkyolo("evaluate", model, "--data", few_yaml, "--size", 64, *arguments.split())
    assert (done.returncode, done.stdout) == (2, "")
    error = done.stderr.splitlines()[-1]
    assert error.startswith("error: ") and message in error and "Traceback" not in done.stderr
