"""What a model costs: the compiler's table read, and rkyolo cost over models and bundles."""

import json
import re
import shutil

import numpy as np
import pytest
import yaml
from stock import save_stock

from convert.cost import as_text, read_cost
from convert.estimate import beside, unknown
from convert.quantize import Options, Toolkit
from runtime.cost import BASIS, MS_PER_MEGACYCLE, Cost, Costs
from runtime.manifest import Manifest

P = "D RKNN: [10:42:19.627] "
RULE = f"{P}{'-' * 120}"
HEADER = (
    f"{P}ID   OpType   DataType Target InputShape    OutputShape    Cycles(DDR/NPU/Total)"
    "    RW(KB)    FullName        "
)
INPUT = (
    f"{P}0    InputOperator      INT8     CPU    \\                (1,3,64,64)"
    "   0/0/0              0       InputOperator:images"
)
CONV = (
    f"{P}1    ConvExSwish        INT8     NPU    (1,3,64,64),(16,3,6,6),(16)   (1,16,32,32)"
    "   1216/36864/36864   12.5    Conv:/model/0/conv/Conv   "
)
CONCAT = (
    f"{P}2    Concat   INT8   NPU    (1,8,32,32),(1,8,32,32),...  (1,16,32,32)  900/0/900  8"
    "     Concat:a name: with spaces"
)
MEMORY = [f"{P}Total Internal Memory Size: 44KB", f"{P}Total Weight Memory Size: 2.5KB"]
WHOLE = ["I rknn building ...", RULE, HEADER, RULE, INPUT, CONV, CONCAT, RULE, *MEMORY, RULE]


def test_a_table():
    cost = read_cost("\n".join([*WHOLE, "I rknn building done."]))
    assert (cost.layers, cost.cycles, cost.moved_kib) == (3, 37764, 20.5)
    assert (cost.weights_kib, cost.features_kib) == (2.5, 44)
    assert [(layer.name, layer.operation, layer.cycles) for layer in cost.dearest] == [
        ("/model/0/conv/Conv", "ConvExSwish", 36864),
        ("a name: with spaces", "Concat", 900),
    ]
    assert cost.dearest[0].memory_cycles == 1216 and cost.dearest[0].arithmetic_cycles == 36864


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ([], "nothing"),
        (["I rknn building done."], "another log"),
        (WHOLE[:-4], "cut off in the table"),
        (WHOLE[:-3], "no memory"),
        ([*WHOLE[:-3], MEMORY[0], MEMORY[0]], "one kind of memory twice"),
        ([*WHOLE, *WHOLE], "two tables"),
        ([line for line in WHOLE if line != CONV], "a row is missing"),
        ([line.replace("36864/36864", "36864") for line in WHOLE], "a row of another form"),
        ([line.replace("36864/36864", "36864/-1") for line in WHOLE], "a negative number"),
        ([line.replace("12.5", "nan") for line in WHOLE], "no number"),
        ([line.replace("36864", "9" * 5000) for line in WHOLE], "a number of no end"),
        ([line.replace("FullName", "Name") for line in WHOLE], "another header"),
        ([line.replace("2.5KB", "2.5MB") for line in WHOLE], "another unit"),
        ([line for line in WHOLE if line not in (INPUT, CONV, CONCAT)], "no rows"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_read_for_sure_is_no_cost(log, reason):
    assert read_cost("\n".join(log)) is None


def test_names_are_shortened_and_printable():
    row = CONCAT.replace("a name: with spaces", "\x1b[2J" + "n" * 500)
    name = read_cost("\n".join(row if line == CONCAT else line for line in WHOLE)).dearest[1].name
    assert name == "?[2J" + "n" * 116


def test_the_range_holds_what_the_vendor_publishes():
    """The ratio of the two that BASIS shows, for each of its models, and no wider than that."""
    ratios = [1e3 / rate / cycles for _, cycles, rate in BASIS]
    low, high = MS_PER_MEGACYCLE
    assert low <= min(ratios) < low + 0.1 and high - 0.1 < max(ratios) <= high


def test_a_range_is_given_only_where_its_basis_holds():
    cost = Cost(layers=1, cycles=10_000_000, moved_kib=1, weights_kib=1, features_kib=1, dearest=())
    text = as_text(Costs(int8=cost, fp16=None), "rk3588")
    assert re.search(r"estimate, ms +14.0 to 19.0\n", text) and "yolov5m: 32.5 million" in text
    assert "not a measurement" in text and "fp16" not in text
    other = as_text(Costs(int8=None, fp16=cost), "rk3566")
    assert "RK3566" in other and "not a measurement" in other
    assert "estimate" not in other and "yolov5m" not in other
    assert as_text(Costs(int8=None, fp16=None), "rk3588") == ""
    assert len(unknown(Costs(int8=cost, fp16=None))) == 1


@pytest.mark.parametrize(
    ("letter", "megacycles", "int8_mib", "fp16_mib"),
    [("n", 6.64, 1.83, None), ("s", 11.73, 6.98, None), ("m", 32.5, 20.4, 40.4)],
)
def test_models_as_large_as_the_releases(letter, megacycles, int8_mib, fp16_mib, tmp_path, rkyolo):
    """Of yolov5m a board measured 20.03 and 39.83 MiB of weights."""
    path = tmp_path / f"{letter}.pt"
    save_stock(path, letter)
    done = rkyolo("cost", path, "--activation", "none", "--json")
    assert done.returncode == 0, done.stderr
    plain = json.loads(done.stdout)
    assert plain["int8"]["cycles"] / 1e6 == pytest.approx(megacycles, rel=0.03)
    assert plain["int8"]["weights_kib"] / 1024 == pytest.approx(int8_mib, rel=0.03)
    if fp16_mib:
        assert plain["fp16"]["weights_kib"] / 1024 == pytest.approx(fp16_mib, rel=0.03)
    assert plain["int8"]["estimate_ms"] == pytest.approx(
        [megacycles * 1.4, megacycles * 1.9], rel=0.03
    )
    assert plain["int8"]["cycles"] < plain["fp16"]["cycles"]
    assert len(plain["int8"]["dearest"]) == 5
    assert "not a measurement" in plain["label"]


def test_estimating_leaves_what_was_built_as_it_is(small):
    with Toolkit(small.facts, Options()) as toolkit:
        toolkit.build(small.graph, small.inputs)
        ranges = toolkit.ranges()
        toolkit.start_simulator()
        before = toolkit.infer(small.inputs[0][None])
        costs = beside(toolkit, small.graph)
        after = toolkit.infer(small.inputs[0][None])
        assert toolkit.ranges() == ranges
        log = toolkit.log()
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert costs.int8.layers == costs.fp16.layers
    assert costs.int8.weights_kib < costs.fp16.weights_kib
    assert unknown(costs) == []
    assert re.search(r"ConvExSwish .*\d+/\d+/\d+ +\d+ +Conv:/model/0/conv/Conv", log)
    assert "RKNNSetOpTargetPass" not in log


def test_int8_costs_the_same_on_noise(small):
    with Toolkit(small.facts, Options()) as toolkit:
        toolkit.build(small.graph, small.inputs)
        assert toolkit.cost_in("int8", small.graph) == toolkit.cost


def test_a_cost_that_cannot_be_had_is_a_warning(small):
    """The compiler fails on the second graph only; the first stays built."""
    with Toolkit(small.facts, Options()) as toolkit:
        toolkit.build(small.graph, small.inputs)
        costs = beside(toolkit, small.graph.replace(b"Sigmoid", b"Sigmord"))
        toolkit.start_simulator()
    assert costs.int8 is not None and costs.fp16 is None
    assert unknown(costs) == ["the toolkit's log has no cost table that can be read for fp16"]


def test_a_bundle_says_its_cost(converted, rkyolo):
    path = converted.bundle / "manifest.yaml"
    manifest = Manifest.from_yaml(path.read_text("utf-8"), path)
    assert manifest.cost.int8.dearest[0].name == "/model/0/conv/Conv"
    assert manifest.cost.int8.weights_kib < manifest.cost.fp16.weights_kib
    done = rkyolo("cost", converted.bundle)
    assert done.returncode == 0, done.stderr
    assert done.stdout in converted.process.stdout
    assert "int8            fp16\n" in done.stdout and "not a measurement" in done.stdout
    assert done.stdout in (converted.bundle / "report.txt").read_text("utf-8")


def test_a_bundle_without_costs_is_built_again(converted, tmp_path, rkyolo):
    """One of an older rkyolo."""
    bundle = tmp_path / "bundle"
    shutil.copytree(converted.bundle, bundle)
    plain = yaml.safe_load((bundle / "manifest.yaml").read_text("utf-8"))
    del plain["cost"], plain["outputs"]
    (bundle / "manifest.yaml").write_text(yaml.safe_dump(plain, sort_keys=False), "utf-8")
    done = rkyolo("cost", bundle)
    assert done.returncode == 0, done.stderr
    assert done.stdout in converted.process.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("nowhere.pt", "cannot read nowhere.pt: No such file"),
        ("nowhere", "nowhere does not exist"),
        ("BUNDLE --size 640", "BUNDLE was built for 320x320: leave the option out"),
        ("BUNDLE --target rk3566", "BUNDLE was built for rk3588: leave the option out"),
        ("BUNDLE --activation none", "BUNDLE was built for sigmoid: leave the option out"),
        ("BUNDLE --anchors coco-p5", "BUNDLE holds its own anchors"),
        ("BUNDLE --target rk9999", "--target rk9999 is not known"),
        ("BUNDLE --activation relu", "--activation relu is not known"),
        ("BUNDLE/model.rknn", "model.rknn does not say its cost: give its bundle"),
        ("BUNDLE/model.rknn --size 0", "--size 0 is out of range"),
        (".", r"\. is no bundle"),
    ],
)
def test_what_has_no_cost(converted, tmp_path, rkyolo, arguments, message):
    (tmp_path / "BUNDLE").symlink_to(converted.bundle)
    done = rkyolo("cost", *arguments.split(), cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert re.fullmatch(f"error: .*{message}.*\n", done.stderr), done.stderr
