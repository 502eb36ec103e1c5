"""Int8 models of which some tensors stay in float16."""

import json
import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import DEMO

from convert import calibrate
from convert.export import export
from convert.hybrid import Row, hybrid_line, named, read_analysis, worst_layers
from convert.options import Options
from convert.quantize import Toolkit
from convert.source import read_source
from runtime.backends.onnxruntime import OnnxRuntimeBackend
from runtime.errors import UserError
from runtime.manifest import Manifest
from runtime.model import Model, open_model
from runtime.rknn_file import read_rknn

ANALYSIS = """\
# simulator_error: what this is
#              entire: adds up | single: does not

layer_name                            simulator_error
                                  entire              single
                               cos      euc        cos      euc
----------------------------------------------------------------
[Input] images                 1.00000 | 0.00000   1.00000 | 0.00000
[exDataConvert] images_int8    1.00000 | 0.00001   1.00000 | 0.00001
[Conv] /first/Conv             0.99000 | 5.05216   0.99900 | 5.05216
[exSwish] /first/Mul           0.98000 | 8.60207   0.99950 | 7.94268
[Conv] /a name with spaces/Conv  \x1b[31m0.9\x1b[0m | 6.8   0.99700 | 6.4
[Add] /Add                     0.99000 | 6.14703   0.90000 | 4.73303
[Relu] /Relu                   0.99000 | 6.14703   0.80000 | 4.73303
[ConvRelu] /fused/Relu         -0.1000 | 1.5e+09   0.99990 | 1e-05
[Conv] /odd/Conv               nan | inf   nan | inf
[Conv] /head/Conv
[Sigmoid] head0_int8           0.99943 | 1.39096   0.99980 | 0.33369
[exDataConvert] head0          0.99943 | 1.39096   1.00000 | 0.11914
[Conv] 0.5 | cut
"""
TENSORS = [
    "/first/Conv", "/first/Mul", "/a name with spaces/Conv", "/Add", "/Relu", "/fused/Relu",
    "/odd/Conv", "/head/Conv", "head0_int8",
]  # fmt: skip


def test_the_analysis_is_read_row_by_row():
    rows = read_analysis(ANALYSIS)
    assert len(rows) == 13
    assert rows[2] == Row("Conv", "/first/Conv", 0.999)
    assert rows[4] == Row("Conv", "/a name with spaces/Conv", 0.997)
    assert rows[7] == Row("ConvRelu", "/fused/Relu", 0.9999)
    assert rows[8:10] == [Row("Conv", "/odd/Conv", None), Row("Conv", "/head/Conv", None)]
    assert read_analysis("") == []
    assert read_analysis(ANALYSIS[:900])[-1].operation == "Conv"


@pytest.mark.parametrize(
    ("count", "expected", "reason"),
    [
        (1, ["/a name with spaces/Conv"], "what is no convolution is not looked at"),
        (2, ["/first/Conv", "/first/Mul", "/a name with spaces/Conv"], "in the network's order"),
        (3, [*TENSORS[:3], "/head/Conv", "head0_int8"], "an activation counts for its convolution"),
        (99, [*TENSORS[:3], "/fused/Relu", "/head/Conv", "head0_int8"], "all that are known"),
    ],
)
def test_the_worst_layers(count, expected, reason):
    assert worst_layers([ANALYSIS], count, TENSORS) == tuple(expected), reason
    assert worst_layers([ANALYSIS] * 3, count, TENSORS) == tuple(expected), reason


def test_losses_on_several_pictures_are_added():
    other = ANALYSIS.replace("0.99990 | 1e-05", "0.90000 | 1e-05")
    assert worst_layers([ANALYSIS, other], 1, TENSORS) == ("/fused/Relu",)


@pytest.mark.parametrize("text", ["", "no table", "[Conv] /odd/Conv   nan | inf   nan | inf\n"])
def test_an_analysis_that_says_nothing_is_told(text):
    with pytest.raises(UserError, match="accuracy analysis names no layer of this model"):
        worst_layers([text], 8, TENSORS)
    with pytest.raises(UserError, match="names no layer"):
        worst_layers([ANALYSIS], 8, ["another"])


def test_names_are_the_toolkits():
    assert named(["head0", "/first/Mul"], TENSORS) == ("/first/Mul", "head0_int8")
    assert named(["head0_int8", "head0"], TENSORS) == ("head0_int8",)
    with pytest.raises(UserError, match="no tensor '/frist/Conv'; the nearest name is /first/Conv"):
        named(["/Add", "/frist/Conv"], TENSORS)
    with pytest.raises(UserError, match=r"no tensor '\?\[31m'; the nearest"):
        named(["\x1b[31m"], TENSORS)
    with pytest.raises(UserError, match=r"no tensor 'a'$"):
        named(["a"], [])


def test_what_stays_in_float16_in_words():
    assert hybrid_line(()) == ""
    assert hybrid_line(["a"]) == "1 tensor stays in float16: a"
    assert hybrid_line(["a", "b"]) == "2 tensors stay in float16: a, b"
    assert hybrid_line([f"{i}" for i in range(14)]).endswith(": 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10,"
                                                             " 11 and 2 more")  # fmt: skip


def example(activation: str, stem: str, heads: str):
    """The demo model at 128 x 64 in a form, and some of its own pictures."""
    source = read_source(DEMO / "shapes.pt", (128, 64))
    facts, graph = export(source, activation, True, stem, heads)
    samples = calibrate.find_samples(DEMO / "calibration").samples[:4]
    return facts, graph, calibrate.load(samples, facts.input).inputs


def loss(facts, graph, inputs, outputs) -> float:
    """The mean difference from the float graph."""
    with closing(OnnxRuntimeBackend(Model(Path("model.onnx"), facts, onnx=graph))) as backend:
        reference = [tensor.array for x in inputs for tensor in backend.infer(x[None])]
    return float(np.mean([np.abs(a - b).mean() for a, b in zip(reference, outputs, strict=True)]))


def simulated(toolkit, inputs) -> list[np.ndarray]:
    toolkit.start_simulator()
    return [array for x in inputs for array in toolkit.infer(x[None])]


def same(outputs, again) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(outputs, again, strict=True))


@pytest.mark.parametrize(
    ("form", "options", "reason"),
    [
        (
            ("none", "space-to-depth", "split"),
            Options(algorithm="kl_divergence", auto_hybrid=0.999),
            "all that can be chosen is another",
        ),
        (
            "grey",
            Options(target="rk3566", algorithm="mmse", hybrid_layers=3),
            "one channel, another chip, weights that were moved",
        ),
    ],
    ids=["auto", "layers"],
)
def test_rebuilding_gives_the_same_to_the_bit(form, options, reason, request):
    if isinstance(form, str):
        model = request.getfixturevalue(form)
        facts, graph, inputs = model.facts, model.graph, model.inputs
    else:
        facts, graph, inputs = example(*form)
    with Toolkit(facts, options) as toolkit:
        rknn, hybrid = toolkit.build(graph, inputs), toolkit.hybrid
        ranges, cost, outputs = toolkit.ranges(), toolkit.cost, simulated(toolkit, inputs)
    assert hybrid and len(hybrid) == len(set(hybrid)) and cost.cycles > 0
    assert not any(name.endswith(("__float16", "__int8")) or "images" in name for name in hybrid)
    header = read_rknn(rknn, Path("model.rknn"))
    assert header.target == options.target
    assert facts.agrees_with(header.custom_string, "model.rknn")
    with Toolkit(facts, options) as toolkit:
        with pytest.raises(UserError, match="are damaged, or of another graph"):
            toolkit.rebuild(graph, ranges, facts, [*hybrid, "images"])
        toolkit.rebuild(graph, ranges, facts)
        assert not same(outputs, simulated(toolkit, inputs))
        toolkit.rebuild(graph, ranges, facts, hybrid)
        assert same(outputs, simulated(toolkit, inputs)), reason


def test_float16_brings_it_closer_to_float_and_costs():
    """Every layer, the outputs' too."""
    facts, graph, inputs = example("sigmoid", "none", "one")
    names, found = [name for name, _ in facts.tensors], []
    for options in (Options(), Options(hybrid_layers=1000)):
        with Toolkit(facts, options) as toolkit:
            toolkit.build(graph, inputs)
            ranges = [toolkit.output_range(name) for name in names]
            off = loss(facts, graph, inputs, simulated(toolkit, inputs))
            found.append((len(toolkit.hybrid), toolkit.cost.cycles, ranges, off))
    (none, cycles, ranges, plain), (every, more_cycles, no_ranges, less) = found
    assert none == 0 and every > 100
    assert cycles < more_cycles and less < plain / 2
    assert all(ranges) and no_ranges == [None] * len(names)  # they have no int8 steps any more


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--precision fp16 --hybrid a", "--precision fp16 has every tensor in float: leave --hyb"),
        ("--precision fp16 --auto-hybrid 0.9", "in float: leave --auto-hybrid out"),
        ("--hybrid a --hybrid-layers 2", "--hybrid and --hybrid-layers choose the same thing"),
        ("--hybrid-layers 0", "--hybrid-layers 0 is too few: give 1 or more"),
        ("--auto-hybrid 0", "--auto-hybrid 0 is no cosine: give more than 0, at most 1, like 0.99"),
        ("--auto-hybrid 1.01", "--auto-hybrid 1.01 is no cosine"),
        ("--auto-hybrid nan", "--auto-hybrid nan is no cosine"),
        ("--auto-hybrid much", "Invalid value for '--auto-hybrid'"),
    ],
)
def test_what_cannot_be_asked_is_told_at_once(rkyolo, demo, tmp_path, arguments, message):
    out = tmp_path / "bundle"
    pictures = demo / "calibration"
    options = ["--calibration", pictures, "-o", out, *arguments.split()]
    done = rkyolo("convert", demo / "shapes.pt", *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr and "Traceback" not in done.stderr and "Read" not in done.stderr
    assert not out.exists()


LOOSE = "--size", 160, "--min-agreement", 0.5


def test_a_tensor_that_is_not_there_is_told_with_the_nearest(convert_demo):
    done = convert_demo(*LOOSE, "--hybrid", "/model/0/conv/Cov")
    assert (done.process.returncode, done.process.stdout) == (2, "")
    assert done.process.stderr.splitlines()[-1] == (
        "error: the model has no tensor '/model/0/conv/Cov'; the nearest name is /model/0/conv/Conv"
    )
    assert not done.bundle.exists() and list(done.temporary.iterdir()) == []


def test_a_toolkit_that_leaves_nothing_is_told(convert_demo):
    done = convert_demo(*LOOSE, "--auto-hybrid", 0.5)
    assert done.process.returncode == 0, done.process.stderr
    assert "- --auto-hybrid 0.5 left no tensor in float16, so that this is plain int8" in (
        done.process.stdout
    )
    text = (done.bundle / "manifest.yaml").read_text("utf-8")
    assert "\nhybrid:" not in text  # an older rkyolo reads it too
    assert open_model(done.bundle).manifest.hybrid == ()


@pytest.fixture(scope="module")
def hybrid(convert_demo):
    return convert_demo(*LOOSE, "--hybrid-layers", 8)


def test_a_bundle_says_what_stays_in_float16(hybrid, rkyolo):
    assert hybrid.process.returncode == 0, hybrid.process.stderr
    assert list(hybrid.temporary.iterdir()) == []
    manifest = open_model(hybrid.bundle).manifest
    assert len(manifest.hybrid) == 16 and manifest.precision == "int8"
    line = hybrid_line(manifest.hybrid)
    assert f"\nIn int8, {line}\n" in hybrid.process.stdout
    assert f"\nIn int8, {line}\n" in (hybrid.bundle / "report.txt").read_text("utf-8")
    assert f"<dd>{line}.</dd>" in (hybrid.bundle / "report.html").read_text("utf-8")
    done = rkyolo("cost", hybrid.bundle)
    assert (done.returncode, f"\nIn int8, {line}\n" in done.stdout) == (0, True), done.stderr
    plain = json.loads(rkyolo("cost", hybrid.bundle, "--json").stdout)
    assert plain["hybrid"] == list(manifest.hybrid)


def test_its_simulator_is_what_was_measured(hybrid, measured_again):
    assert measured_again(hybrid.bundle) == open_model(hybrid.bundle).manifest.agreement


def changed(bundle: Path, **values: object) -> None:
    """The bundle's manifest with other values; without those that are None."""
    path = bundle / "manifest.yaml"
    plain = yaml.safe_load(path.read_text("utf-8")) | values
    plain = {key: value for key, value in plain.items() if value is not None}
    path.write_text(yaml.safe_dump(plain), "utf-8")


@pytest.fixture
def copy(hybrid, tmp_path) -> Path:
    return Path(shutil.copytree(hybrid.bundle, tmp_path / "copy"))


def test_a_cost_that_is_not_told_is_that_of_the_hybrid(hybrid, copy, rkyolo):
    changed(copy, cost=None)
    done = rkyolo("cost", copy)
    assert done.returncode == 0, done.stderr
    assert done.stdout in hybrid.process.stdout


def test_a_name_that_the_model_has_not_is_refused(copy, rkyolo, demo):
    changed(copy, hybrid=["/nowhere"])
    done = rkyolo("detect", copy, demo / "calibration" / "000.jpg", "--backend", "simulator")
    assert done.returncode == 2
    assert "are damaged, or of another graph" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"precision": "fp16"}, "an fp16 model has no tensors that stay in float16"),
        ({"hybrid": "all"}, "hybrid: "),
        ({"hybrid": [""]}, "hybrid.0: "),
        ({"hybrid": [1]}, "hybrid.0: "),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(copy, values, message):
    changed(copy, **values)
    with pytest.raises(UserError, match=message):
        open_model(copy)


def test_a_manifest_keeps_the_names(copy):
    path = copy / "manifest.yaml"
    manifest = Manifest.from_yaml(path.read_text("utf-8"), path)
    assert Manifest.from_yaml(manifest.to_yaml(), path) == manifest
    changed(copy, hybrid=None)
    assert open_model(copy).manifest.hybrid == ()
