import re

import pytest
import yaml
from made_files import rknn_bytes, rknn_of, write_bundle
from scenes import facts_of

from anchors import Anchors
from runtime.errors import UserError
from runtime.manifest import Facts, Thresholds, sha256_of
from runtime.model import explained_imports, load_entry, open_bundle, open_model

ANCHORS = Anchors.from_pairs([32], [[[40.5, 20.25]]])


@pytest.fixture
def facts():
    return facts_of(ANCHORS, (128, 96), 2, "sigmoid")


@pytest.fixture
def bundle(tmp_path, facts):
    return write_bundle(tmp_path / "mine", facts)


def edit(bundle, change):
    """Change a bundle's manifest as plain data."""
    path = bundle / "manifest.yaml"
    plain = yaml.safe_load(path.read_text("utf-8"))
    change(plain)
    path.write_text(yaml.safe_dump(plain), "utf-8")


def replace(bundle, name, data):
    """Replace a bundle's file, and say so in its manifest."""
    (bundle / name).write_bytes(data)
    edit(
        bundle,
        lambda plain: plain["files"].update({name: {"sha256": sha256_of(data), "size": len(data)}}),
    )


def refused(path, message, **options):
    with pytest.raises(UserError, match=message) as caught:
        open_model(path, **options)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_whole_bundle(bundle, facts):
    model = open_bundle(bundle)
    assert (model.path, model.rknn) == (bundle, bundle / "model.rknn")
    assert model.onnx == b"a graph"
    assert model.extra == {"quantization/ranges.json": b"{}"}
    assert model.facts is model.manifest
    assert model.facts.anchors == facts.anchors
    assert model.facts.class_names == facts.class_names


def test_its_thresholds_are_the_manifests(tmp_path, facts):
    thresholds = Thresholds(score=0.4, class_score={"thing1": 0.7})
    bundle = write_bundle(tmp_path, facts, thresholds=thresholds)
    assert open_bundle(bundle).thresholds == thresholds


def test_names_too_long_for_the_compiled_file_come_from_the_manifest(tmp_path, facts):
    facts = facts.model_copy(update={"class_names": ("a" * 2000, "b")})
    bundle = write_bundle(tmp_path, facts)
    assert open_bundle(bundle).facts.class_names == facts.class_names
    lone = open_model(bundle / "model.rknn")
    assert lone.facts.class_names == ("class0", "class1")


@pytest.mark.parametrize("name", ["model.rknn", "model.onnx", "quantization/ranges.json"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(lambda f: f.write_bytes(f.read_bytes() + b"x"), "differs", id="longer"),
        pytest.param(lambda f: f.write_bytes(f.read_bytes()[:-1]), "differs", id="shorter"),
        pytest.param(
            lambda f: f.write_bytes(bytes(len(f.read_bytes()))), "differs", id="same-size"
        ),
        pytest.param(lambda f: f.unlink(), "is missing; copy or convert it again", id="missing"),
    ],
)
def test_a_file_that_is_not_the_manifests(bundle, name, damage, message):
    damage(bundle / name)
    refused(bundle, f"{re.escape(name)}.*{message}")


def test_a_folder_in_place_of_a_file(bundle):
    (bundle / "model.onnx").unlink()
    (bundle / "model.onnx").mkdir()
    refused(bundle, "model.onnx is missing")


@pytest.mark.parametrize("name", ["model.rknn", "model.onnx"])
def test_a_manifest_that_names_no_model(bundle, name):
    edit(bundle, lambda plain: plain["files"].pop(name))
    refused(bundle, "no whole bundle: model.rknn or model.onnx is missing: convert it again")


@pytest.mark.parametrize("kind", ["dots", "absolute", "link", "folder-link"])
def test_a_name_that_leads_out_of_the_bundle(bundle, tmp_path, kind):
    secret = tmp_path / "secret" / "key"
    secret.parent.mkdir()
    secret.write_bytes(b"secret")
    name = {"dots": "../secret/key", "absolute": str(secret), "link": "a", "folder-link": "f/key"}
    (bundle / "a").symlink_to(secret)
    (bundle / "f").symlink_to(secret.parent)
    file = {"sha256": sha256_of(b"secret"), "size": 6}
    edit(bundle, lambda plain: plain["files"].update({name[kind]: file}))
    refused(bundle, "names a file outside the bundle")


def test_links_inside_a_bundle_are_fine(bundle):
    (bundle / "model.onnx").rename(bundle / "v2.onnx")
    (bundle / "model.onnx").symlink_to("v2.onnx")
    assert open_bundle(bundle).onnx == b"a graph"


def test_a_bundle_behind_a_link_is_fine(bundle, tmp_path):
    (tmp_path / "current").symlink_to(bundle)
    assert open_bundle(tmp_path / "current").onnx == b"a graph"


def test_a_link_to_itself(bundle):
    (bundle / "model.onnx").unlink()
    (bundle / "model.onnx").symlink_to("model.onnx")
    refused(bundle, "model.onnx is missing")


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"activation": "none"}, id="activation"),
        pytest.param({"classes": 3}, id="classes"),
        pytest.param({"wh": (96, 128)}, id="size"),
        pytest.param({"anchors": Anchors.from_pairs([32], [[[40.5, 20.5]]])}, id="anchors"),
        pytest.param({"channels": 1}, id="channels"),
    ],
)
def test_a_compiled_model_that_says_other_facts(bundle, other):
    same = {"anchors": ANCHORS, "wh": (128, 96), "classes": 2, "activation": "sigmoid"}
    replace(bundle, "model.rknn", rknn_of(facts_of(**same | other)))
    refused(bundle, "holds other decode facts than manifest.yaml.*convert again")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(rknn_bytes(), "holds other decode facts", id="no-facts"),
        pytest.param(rknn_bytes(custom_string='{"rkyolo":2}'), "newer rkyolo", id="newer"),
        pytest.param(b"nothing", "is not a .rknn file", id="no-rknn"),
    ],
)
def test_a_compiled_model_of_someone_else(bundle, data, message):
    replace(bundle, "model.rknn", data)
    refused(bundle, message)


def test_a_folder_that_is_no_bundle(tmp_path):
    refused(tmp_path, "is no bundle, it has no manifest.yaml: give .*")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"schema_version": 2}, "schema_version: Input should be 1", id="schema"),
        pytest.param({"surprise": 1}, "surprise: Extra inputs", id="unknown-key"),
        pytest.param({"files": {"x" * 300: {}}}, "at most 255", id="long-name"),
    ],
)
def test_a_manifest_that_is_wrong(bundle, change, message):
    edit(bundle, lambda plain: plain.update(change))
    refused(bundle, message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(b"", "manifest.yaml: content", id="empty"),
        pytest.param(b"\xff\xfe\x00", "manifest.yaml is no manifest", id="no-text"),
        pytest.param(b"#" * (2**18 + 1), "is larger than the 262144 bytes", id="huge"),
    ],
)
def test_a_manifest_that_is_none(bundle, text, message):
    (bundle / "manifest.yaml").write_bytes(text)
    refused(bundle, message)


def test_a_manifest_for_a_thousand_classes_is_not_too_large(tmp_path, facts):
    names = tuple(f"a class with a long name, number {i}" for i in range(1000))
    write_bundle(tmp_path, facts.model_copy(update={"class_names": names}))
    assert open_bundle(tmp_path).facts.classes == 1000


def test_a_lone_compiled_model(bundle, facts):
    model = open_model(bundle / "model.rknn")
    assert (model.rknn, model.onnx, model.manifest) == (bundle / "model.rknn", None, None)
    assert model.facts == facts


def test_a_lone_compiled_model_without_facts(tmp_path):
    path = tmp_path / "theirs.rknn"
    path.write_bytes(rknn_bytes())
    refused(path, "was not written by rkyolo .* convert the .pt or .onnx it was made from")


@pytest.mark.parametrize(
    "name",
    [
        "skeeser-quad-yolov5n_02.rknn",
        "exie-luckfox-yolov5n.rknn",
        "j094-mower-yolov5n_mower_640.rknn",
        "tyt-elf-best.rknn",
    ],
)
def test_models_other_people_compiled_are_not_run(name, shared):
    refused(shared / "wild" / name, "was not written by rkyolo")


@pytest.mark.parametrize("part", ["", "model.rknn"], ids=["bundle", "lone"])
def test_a_size_can_be_said_but_not_changed(bundle, part):
    assert open_model(bundle / part, (128, 96)).facts.input.wh == (128, 96)
    refused(bundle / part, r"built for pictures of 96x128 .*leave --size out", wh=(96, 128))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing.pt", "does not exist"),
        ("nowhere", "does not exist"),
        ("a.txt", "is no model: give"),
    ],
)
def test_what_is_no_model(tmp_path, name, message):
    (tmp_path / "a.txt").write_text("hello")
    refused(tmp_path / name, message)


def test_entries_are_imported_when_they_are_needed():
    assert load_entry("runtime.manifest:Facts") is Facts


@pytest.mark.parametrize(
    ("error", "message"),
    [
        pytest.param(
            ModuleNotFoundError("no", name="rknnlite.api"),
            "X needs the package rknnlite, which is not installed here: install rknn-toolkit-lite2",
            id="absent",
        ),
        pytest.param(
            ModuleNotFoundError("no", name="convert"),
            "the package convert, which is not installed here: do this on the host",
            id="no-host",
        ),
        pytest.param(
            ModuleNotFoundError("no", name="onnxruntime"),
            "the package onnxruntime, which is not installed here: install it",
            id="any",
        ),
        pytest.param(
            ImportError("libGL.so.1: cannot open shared object file"),
            "X needs a package that is installed but does not load.*libGL.so.1",
            id="broken",
        ),
    ],
)
def test_packages_that_are_absent_or_broken(error, message):
    with pytest.raises(UserError, match=message), explained_imports("X needs"):
        raise error


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(ImportError("cannot import name", name="convert.opening"), id="name"),
        pytest.param(ModuleNotFoundError("no", name="convert.openings"), id="module"),
    ],
)
def test_mistakes_of_our_own_show_themselves(error):
    with pytest.raises(ImportError), explained_imports("X needs"):
        raise error


def test_a_size_that_is_a_lie_takes_no_memory(bundle):
    edit(bundle, lambda plain: plain["files"]["model.onnx"].update(size=2**60))
    refused(bundle, "is not the file manifest.yaml describes")
