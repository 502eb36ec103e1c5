"""How much int8 may differ from float, on a model of our own and on somebody else's."""

from pathlib import Path

from runtime.manifest import Agreement, Manifest


def agreement_of(bundle: Path) -> Agreement:
    path = bundle / "manifest.yaml"
    return Manifest.from_yaml(path.read_text("utf-8"), path).agreement


def test_the_demo_keeps_its_detections(demo, data, tmp_path, rkyolo):
    """On pictures it was not calibrated on. By hand, with the vendor's tools alone, it was 0.991
    and 0.958 on the calibration pictures themselves."""
    out, check = tmp_path / "bundle", data / "demo" / "val" / "images"
    options = ["--calibration", demo / "calibration", "--check", check, "-o", out]
    done = rkyolo("convert", demo / "shapes.pt", *options)
    assert done.returncode == 0, done.stderr
    agreement = agreement_of(out)
    assert agreement.pictures == 60 and agreement.float_detections > 1500
    assert agreement.f1 >= 0.975
    assert agreement.mean_iou >= 0.94
    assert abs(agreement.score_shift) < 0.01
    assert min(head.worst_cosine for head in agreement.heads) > 0.99


def test_a_model_of_80_classes_keeps_its_detections(shared, tmp_path, rkyolo):
    """Calibrated and checked on the same 20 photographs. By hand it was 0.956 and 0.946."""
    out, listed = tmp_path / "bundle", tmp_path / "pictures.txt"
    pictures = sorted((shared / "images").glob("0000*.jpg"))
    assert len(pictures) == 20
    listed.write_text("".join(f"{path}\n" for path in pictures))
    model = shared / "wild" / "jinyutong-yolov5n.pt"
    done = rkyolo("convert", model, "--calibration", listed, "-o", out)
    assert done.returncode == 0, done.stderr
    agreement = agreement_of(out)
    assert agreement.pictures == 20 and agreement.float_detections > 100
    assert agreement.f1 >= 0.945
    assert agreement.mean_iou >= 0.935
