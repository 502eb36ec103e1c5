"""The backend rknnrt on a stand-in for the vendor's library, which is built here."""

from concurrent.futures import ThreadPoolExecutor
from ctypes import sizeof
from pathlib import Path

import librknnrt as stand_in
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_files import rknn_bytes, rknn_description, write_bundle
from scenes import facts_of

from anchors import Anchors
from runtime.backends import Opener, cores_of, open_backend
from runtime.backends import librknnrt as declared
from runtime.decode import Decoder, Tensor
from runtime.detector import Detector
from runtime.errors import UserError
from runtime.manifest import Thresholds
from runtime.model import Model, open_model
from runtime.pictures import read_picture

FAKES = Path(__file__).parent / "fakes"
ANCHORS = Anchors.from_pairs([16, 32], [[[20, 10]], [[40.5, 20.25]]])
FACTS = facts_of(ANCHORS, (128, 128), 2, "sigmoid")
SHAPES = [(1, 7, 8, 8), (1, 7, 4, 4)]
TWO_HEADS = rknn_description([("a", SHAPES[0]), ("b", SHAPES[1])])
RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (3, 1, 128, 128, 3)).astype(np.uint8)
MAPS = [[RNG.integers(-128, 128, shape).astype(np.int8) for shape in SHAPES] for _ in PICTURES]


@pytest.fixture
def model(tmp_path):
    return open_model(write_bundle(tmp_path / "mine", FACTS))


@pytest.fixture
def backend(npu, model):
    npu.record(zip(PICTURES, MAPS, strict=True))
    opened = open_backend("rknnrt", model)
    yield opened
    opened.close()
    opened.close()  # which does nothing


@pytest.mark.parametrize(
    ("structure", "size", "offsets"),
    [
        (declared.InOutNum, 8, {"n_output": 4}),
        (declared.SdkVersion, 512, {"drv_version": 256}),
        (declared.Input, 32, {"buf": 8, "size": 16, "pass_through": 20, "type": 24, "fmt": 28}),
        (declared.Output, 24, {"is_prealloc": 1, "index": 4, "buf": 8, "size": 16}),
        (
            declared.TensorAttr,
            376,
            {"dims": 8, "name": 72, "n_elems": 328, "fmt": 336, "qnt_type": 344, "fl": 348}
            | {"zp": 352, "scale": 356, "size_with_stride": 364, "pass_through": 368}
            | {"h_stride": 372},
        ),
    ],
)
def test_structures_are_laid_out_as_in_rknn_toolkit_lite2(structure, size, offsets):
    """Sizes and offsets of its own ctypes structures, printed by version 2.5.0 on aarch64."""
    assert sizeof(structure) == size
    assert {name: getattr(structure, name).offset for name in offsets} == offsets


def test_head_maps_as_the_npu_makes_them(backend):
    for picture, maps in zip(PICTURES, MAPS, strict=True):
        tensors = backend.infer(picture)
        for tensor, expected in zip(tensors, maps, strict=True):
            assert tensor.array.dtype == np.int8
            assert tensor.zero_point == -128 and tensor.scale == np.float32(1 / 255)
            np.testing.assert_array_equal(tensor.array, expected)


def test_memory_is_used_again(backend):
    first = [tensor.array for tensor in backend.infer(PICTURES[0])]
    second = [tensor.array for tensor in backend.infer(PICTURES[1])]
    assert all(a is b for a, b in zip(first, second, strict=True))


def test_pictures_go_in_from_any_memory(backend):
    """As a part of a larger buffer, and read-only."""
    buffer = np.zeros((1, 140, 150, 3), np.uint8)
    part = buffer[:, 5:133, 10:138]
    part[:] = PICTURES[1]
    buffer.flags.writeable = False
    for tensor, expected in zip(backend.infer(part), MAPS[1], strict=True):
        np.testing.assert_array_equal(tensor.array, expected)


@pytest.mark.parametrize(
    "picture", [PICTURES[0][0], PICTURES[0][:, :64], PICTURES[0].astype(np.float32)]
)
def test_pictures_of_another_form(backend, picture):
    with pytest.raises(ValueError, match=r"a picture is .*, not \(1, 128, 128, 3\)"):
        backend.infer(picture)


def test_an_unknown_picture_shows_nothing(backend):
    assert len(Detector(backend, FACTS, Thresholds(score=0))(np.zeros((90, 90, 3), np.uint8))) == 0


def real(tensor):
    codes = tensor.array.astype(np.float32)
    return Tensor((codes - np.float32(tensor.zero_point)) * np.float32(tensor.scale))


def assert_same_candidates(facts, thresholds, tensors):
    """The int8 maps and their real values as float32 give the same candidates to the bit."""
    decoder = Decoder(facts, thresholds)
    found, expected = decoder(tensors), decoder([real(tensor) for tensor in tensors])
    np.testing.assert_array_equal(found.class_id, expected.class_id)
    np.testing.assert_array_equal(found.score, expected.score)
    np.testing.assert_array_equal(found.xyxy, expected.xyxy)


@settings(deadline=None, max_examples=200)
@given(
    seed=st.integers(0, 2**32),
    scale=st.one_of(st.sampled_from([1 / 255, 1 / 256, 0.1]), st.floats(2**-13, 1, width=32)),
    zero_point=st.integers(-128, 127),
    code=st.integers(-128, 127),
    shift=st.sampled_from([-1, 0, 1]),
    activation=st.sampled_from(["none", "sigmoid"]),
    multi_label=st.booleans(),
)
def test_int8_and_float_maps_give_the_same(
    seed, scale, zero_point, code, shift, activation, multi_label
):
    """Thresholds lie on a map's values, and just beside them."""
    facts = facts_of(ANCHORS, (64, 64), 2, activation)
    value = np.float32(code - zero_point) * np.float32(scale)
    score = value if activation == "sigmoid" else 1 / (1 + np.exp(-np.float64(value)))
    score = np.nextafter(np.float32(score), np.float32(shift * np.inf)) if shift else score
    thresholds = Thresholds(score=float(np.clip(score, 0, 1)), multi_label=multi_label)
    rng = np.random.default_rng(seed)
    shapes = [shape for _, shape in facts.tensors]
    maps = [rng.integers(-128, 128, shape).astype(np.int8) for shape in shapes]
    assert_same_candidates(facts, thresholds, [Tensor(a, scale, zero_point) for a in maps])


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("scale", [1 / 255, 1 / 256, 0.995649516582489 / 255])
def test_each_byte_is_above_what_its_value_is_above(dtype, scale):
    """Of a map that holds each byte once, and thresholds that lie on their values and beside."""
    facts = facts_of(Anchors.from_pairs([8], [[[9.0, 9.0]]]), (128, 128), 1, "sigmoid")
    codes = np.arange(256).astype(np.uint8).view(dtype)
    zero_point = int(codes.min())
    array = np.full((1, 6, 16, 16), codes.max())
    array[0, 4] = codes.reshape(16, 16)
    tensor = Tensor(array, scale, zero_point)
    values = real(tensor).array[0, 4].ravel()
    certain = real(tensor).array[0, 5, 0, 0]
    for value in values:
        for score in np.nextafter(value, np.float32([0, value, 1])):
            found = Decoder(facts, Thresholds(score=min(1.0, float(score))))([tensor])
            above = values[(values > score) & (values * certain > score)]
            np.testing.assert_array_equal(found.score, above * certain)


def test_the_same_detections_as_the_simulator(bundle, npu, library, data, tmp_path):
    opened = open_model(bundle)
    pictures = [read_picture(p) for p in sorted((data / "demo/val/images").iterdir())[:5]]
    answers, expected = stand_in.simulated(opened, pictures, library, tmp_path)
    npu.record(answers)
    board = open_backend("rknnrt", opened)
    detector = Detector(board, opened.facts, opened.thresholds)
    for bgr, before in zip(pictures, expected, strict=True):
        found = detector(bgr)
        np.testing.assert_array_equal(found.class_id, before.class_id)
        np.testing.assert_allclose(found.score, before.score, rtol=1e-5)
        np.testing.assert_allclose(found.xyxy, before.xyxy, atol=1e-3)
    board.close()
    assert sum(map(len, expected)) > 10


def test_a_model_in_fp16_gives_floats(npu, tmp_path):
    description = rknn_description([("a", SHAPES[0]), ("b", SHAPES[1])], vx_type="float16")
    maps = [RNG.random(shape, np.float32) for shape in SHAPES]
    npu.record([(PICTURES[0], maps)])
    board = open_backend("rknnrt", compiled(tmp_path, description))
    for tensor, expected in zip(board.infer(PICTURES[0]), maps, strict=True):
        assert (tensor.scale, tensor.zero_point) == (1.0, 0)
        np.testing.assert_array_equal(tensor.array, expected)
    board.close()


# contexts


def test_contexts_share_weights_and_keep_to_their_cores(npu, model):
    opener = Opener("rknnrt", model)
    cores = cores_of("rknnrt", model)
    assert cores == (0, 1, 2)
    npu.record(zip(PICTURES, MAPS, strict=True))
    opened = [opener(core) for core in cores * 2]
    masks = [line for line in npu.log if line.startswith("mask")]
    assert [line.split()[0] for line in npu.log].count("init") == 1
    assert masks == [f"mask {1 << i % 3} of {i + 1}" for i in range(6)]
    for i, one in enumerate(opened):  # each has outputs of its own
        one.infer(PICTURES[i % 3])
    for i, one in enumerate(opened):
        np.testing.assert_array_equal(one.outputs()[0].array, MAPS[i % 3][0])
    for one in opened:  # the first one first
        one.close()
    assert [line for line in npu.log if line.startswith("destroy")][-1] == "destroy 1"


def test_the_stand_in_notices_two_threads_on_one_context(library, tmp_path):
    """So that the other tests would fail where that happens."""
    with stand_in.in_use(library, tmp_path) as used:
        board = open_backend("rknnrt", compiled(tmp_path, TWO_HEADS))
        used.tell("slow 500")
        with ThreadPoolExecutor(2) as threads:
            calls = [threads.submit(board.run, picture) for picture in PICTURES[:2]]
            errors = [str(call.exception(30)) for call in calls if call.exception(30)]
        board.close()
    assert len(errors) == 1 and "gave RKNN_ERR_FAIL" in errors[0]
    assert any(line.startswith("two threads") for line in used.log)


def test_no_mask_where_the_scheduler_picks(npu, model):
    open_backend("rknnrt", model).close()
    assert npu.log == ["init 1", "destroy 1"]


def test_a_context_that_does_not_open_leaves_the_others(npu, model):
    npu.record(zip(PICTURES, MAPS, strict=True))
    opener = Opener("rknnrt", model)
    first = opener(0)
    for told in ("dup_context -4", "set_core_mask -5"):
        npu.tell(told)
        with pytest.raises(UserError, match=f"the NPU does not take .*rknn_{told.split()[0]} gave"):
            opener(1)
    npu.tell()
    second = opener(1)
    first.close()
    np.testing.assert_array_equal(second.infer(PICTURES[2])[1].array, MAPS[2][1])
    second.close()


# what does not open


def compiled(folder, description=None, **changes):
    """A model of these bytes, whatever its facts say."""
    path = folder / "model.rknn"
    data = description if isinstance(description, bytes) else rknn_bytes(description)
    return Model(path, FACTS, toolkit="2.5.0", rknn=path, compiled=data, **changes)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ("init -1", r"does not take .*mine, rknn_init gave RKNN_ERR_FAIL: .*; rkyolo doctor says"),
        ("init -3", "RKNN_ERR_DEVICE_UNAVAILABLE: there is no NPU to be had"),
        ("init -4", "RKNN_ERR_MALLOC_FAIL: there is not enough memory"),
        ("init -6", "RKNN_ERR_MODEL_INVALID: it does not know this model's format"),
        ("init -13", "RKNN_ERR_TARGET_PLATFORM_UNMATCH: the model was built for another chip"),
        ("init -99", "rknn_init gave -99: a code that is not documented"),
        ("query -5", "rknn_query gave RKNN_ERR_PARAM_INVALID"),
        ("set_core_mask -5", "rknn_set_core_mask gave RKNN_ERR_PARAM_INVALID"),
        ("version 5", "librknnrt is 1.5.0, and the model needs 2.5.0 or newer: rkyolo doctor"),
        ("layout 2", "gives the outputs of .*mine in the layout NC1HWC2 and not NCHW: use backend"),
        ("layout 1", "in the layout NHWC and not NCHW: use backend rknnlite"),
        ("scale 0", "an output of .*mine has the scale 0, which is none"),
    ],
)
def test_what_does_not_open(npu, model, told, message):
    npu.tell(told)
    with pytest.raises(UserError, match=message):
        open_backend("rknnrt", model, 0)


@pytest.mark.parametrize(
    ("outputs", "what"),
    [
        pytest.param([("a", SHAPES[0])], "gives other outputs", id="fewer"),
        pytest.param([("b", SHAPES[1]), ("a", SHAPES[0])], "gives other outputs", id="reversed"),
        pytest.param([("a", (1, 8, 8, 7)), ("b", (1, 4, 4, 7))], "gives other", id="nhwc"),
    ],
)
def test_outputs_that_are_not_the_facts(npu, tmp_path, outputs, what):
    with pytest.raises(UserError, match=f"model.rknn {what} .*facts in it say: convert again"):
        open_backend("rknnrt", compiled(tmp_path, rknn_description(outputs)))


def test_an_input_that_is_not_the_facts(npu, tmp_path):
    description = rknn_description([("a", SHAPES[0]), ("b", SHAPES[1])])
    description["norm_tensor"][0]["size"] = [1, 3, 128, 64]
    with pytest.raises(UserError, match=r"model.rknn takes another input .*: convert again"):
        open_backend("rknnrt", compiled(tmp_path, description))


@pytest.mark.parametrize("data", [b"", b"no model", rknn_bytes()[:-200], rknn_bytes(version=7)])
def test_bytes_that_are_no_model(npu, tmp_path, data):
    with pytest.raises(UserError, match="RKNN_ERR_MODEL_INVALID"):
        open_backend("rknnrt", compiled(tmp_path, data))


def test_a_model_that_is_not_compiled(npu):
    with pytest.raises(UserError, match=r"best\.onnx is not compiled for the NPU: convert it"):
        open_backend("rknnrt", Model(Path("best.onnx"), FACTS, onnx=b""))


# errors of a call


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ("inputs_set -8", "rknn_inputs_set gave RKNN_ERR_INPUT_INVALID"),
        ("run -1", "rknn_run gave RKNN_ERR_FAIL"),
        ("run -2", "rknn_run gave RKNN_ERR_TIMEOUT: the NPU did not finish in time"),
        ("outputs_get -9", "rknn_outputs_get gave RKNN_ERR_OUTPUT_INVALID"),
        ("outputs_release -7", "rknn_outputs_release gave RKNN_ERR_CTX_INVALID"),
        ("short 1", r"outputs of \[448, 56\] bytes, which is not all"),
    ],
)
def test_a_call_that_fails_and_one_that_works_again(npu, backend, told, message):
    npu.tell(told)
    with pytest.raises(RuntimeError, match=message):
        backend.infer(PICTURES[0])
    npu.tell("slow 30")
    np.testing.assert_array_equal(backend.infer(PICTURES[0])[1].array, MAPS[0][1])


@pytest.mark.parametrize("vx_type", ["int8", "float16"])
def test_outputs_full_of_noise_break_nothing(npu, tmp_path, vx_type):
    description = rknn_description([("a", SHAPES[0]), ("b", SHAPES[1])], vx_type=vx_type)
    board = open_backend("rknnrt", compiled(tmp_path, description))
    npu.tell("corrupt 0")
    found = Detector(board, FACTS, Thresholds())(np.full((96, 128, 3), 9, np.uint8))
    assert np.isfinite(found.xyxy).all() and np.isfinite(found.score).all()
    assert (found.xyxy >= 0).all() and (found.xyxy <= [128, 96, 128, 96]).all()
    board.close()


def test_a_context_that_cannot_be_destroyed_is_told(npu, model, caplog):
    board = open_backend("rknnrt", model)
    npu.tell("destroy -7")
    board.close()
    assert "a context of the NPU was not given back: rknn_destroy gave RKNN_ERR" in caplog.text
    npu.tell()
    declared.Library(npu.library).call("rknn_destroy", int(npu.log[0].removeprefix("init ")))


# the stand-in for the board


def test_the_stand_in_for_the_board(tmp_path):
    data = stand_in.build(tmp_path, compiler=stand_in.cross_compiler()).read_bytes()
    assert data[:5] == b"\x7fELF\x02" and data[18:20] == b"\xb7\0"
    assert b"librknnrt version: 2.5.0" in data
