"""What keeps a compiled model from running here, said before anyone tries."""

import json

import pytest

from runtime.rknn_file import RknnFile, RknnOutput, obstacles

HEADS = tuple(RknnOutput(f"head{i}", (1, 24, 8 * i, 8 * i), "int8") for i in (4, 2, 1))


def header(version=6, target="rk3588", outputs=HEADS, custom_string="{}"):
    return RknnFile(version, target, "2.5.0", outputs, custom_string)


@pytest.mark.parametrize(
    ("file", "reasons"),
    [
        pytest.param(header(), [], id="ours"),
        pytest.param(header(target="rk3562"), [], id="another-target-that-is-supported"),
        pytest.param(header(outputs=HEADS[:1] * 5), [], id="five-heads"),
        pytest.param(header(outputs=HEADS * 3), [], id="three-outputs-a-head"),
        pytest.param(header(target="rv1103"), ["built for rv1103"], id="another-chip"),
        pytest.param(header(custom_string=None), ["does not hold its anchors"], id="foreign"),
        pytest.param(
            header(outputs=HEADS * 3, custom_string=None),
            ["anchor-free", "does not hold its anchors"],
            id="nine-outputs-of-who-knows",
        ),
        pytest.param(
            header(1, "RK1808", HEADS, None),
            ["first-generation", "built for RK1808", "does not hold its anchors"],
            id="all-at-once",
        ),
    ],
)
def test_every_reason_is_told(file, reasons):
    found = obstacles(file)
    assert len(found) == len(reasons)
    for reason, part in zip(found, reasons, strict=True):
        assert part in reason and "\n" not in reason


@pytest.mark.parametrize(
    ("name", "quantized", "reason"),
    [
        ("j094-mower-yolov5n_mower_640.rknn", True, "first-generation"),
        ("skeeser-quad-yolov5n_02.rknn", True, "does not hold its anchors"),
        ("exie-luckfox-yolov5n.rknn", True, "built for rv1103"),
        ("tyt-elf-best.rknn", True, "anchor-free"),
    ],
)
def test_published_files_are_inspected_and_refused(rkyolo, shared, name, quantized, reason):
    path = shared / "wild" / name
    plain = json.loads(rkyolo("inspect", path, "--json").stdout)
    assert plain["quantized"] is quantized
    assert any(reason in item for item in plain["cannot_run"])
    assert f"cannot be run here: {plain['cannot_run'][0]}" in rkyolo("inspect", path).stdout
    done = rkyolo("detect", path, shared / "images" / "bus.jpg")
    assert done.returncode == 2
    assert reason in done.stderr
    assert len(done.stderr.splitlines()) == 1
