"""The reports in a real browser, straight from the disk."""

import dataclasses
import json
import shutil

import pytest
from browser import DESKTOP, PHONE, Browser

from convert.evaluate.job import Request, evaluate
from convert.evaluate.page import page
from convert.progress import Steps


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.driver.quit()


@pytest.fixture(scope="module")
def accuracy(converted, tmp_path_factory, request):
    """The report of a measurement on both sides, and its outcome."""
    folder = tmp_path_factory.mktemp("accuracy")
    images = request.config.rootpath / "tests" / "data" / "demo" / "val"
    shutil.copytree(images, folder / "val")
    names = "[circle, square, triangle, star, cross]"
    data = folder / "data.yaml"
    data.write_text(f"path: {folder}\ntrain: val/images\nval: val/images\nnames: {names}\n")
    for picture in sorted((folder / "val" / "images").iterdir())[6:]:
        picture.unlink()
    path = folder / "accuracy.html"
    backends = "onnxruntime", "simulator"
    job = Request(model=converted.bundle, data=data, backends=backends, page_to=path)
    with Steps() as steps:
        return path, evaluate(job, steps)


GROUNDS = {"light": "rgb(244, 245, 243)", "dark": "rgb(16, 19, 18)"}


def ground(browser):
    return browser.run("return getComputedStyle(document.body).backgroundColor")


def looked_at(browser, path, size, scheme):
    """Open a page as a user does; what holds of every report."""
    browser.asked(), browser.errors()  # of the page before
    browser.open(path.as_uri(), size, scheme)
    assert browser.errors() == []
    assert browser.asked() == [path.as_uri()]
    assert browser.fits()
    assert ground(browser) == GROUNDS[scheme]
    assert browser.run("return [...document.images].every(i => i.naturalWidth > 0)")
    return browser.text("body")


@pytest.mark.parametrize("scheme", GROUNDS)
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_report_of_a_conversion(browser, converted, size, scheme):
    path = converted.bundle / "report.html"
    text = looked_at(browser, path, size, scheme)
    assert path.stat().st_size < 3_000_000
    assert text.index("Passed, with a warning") < text.index("What to do next")
    assert "Only 12 calibration pictures: 20 or more give steadier ranges." in text
    for part in (
        "head2_stride32", "objectness", "range ", "8.82 \u00d7 8.828 px", "coco-p5",
        "the vendor's compiler's own model, not a measurement", "million cycles",
        "circle, square, triangle, star, cross", "rknn-toolkit2 2.", "Toolkit log",
    ):  # fmt: skip
        assert part in text, part
    assert browser.run("return document.querySelectorAll('.groups svg').length") == 3 * 4
    assert browser.run("return document.querySelectorAll('circle.point').length") > 20
    assert browser.run("return document.querySelectorAll('.anchor').length") == 9
    # pulled down, a picture is there and still nothing sticks out
    browser.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.fits()
    assert browser.run("return document.images.length") >= 1
    assert "RKNN" in browser.run("return document.querySelector('pre').innerText")


@pytest.mark.parametrize("scheme", GROUNDS)
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_report_of_an_evaluation(browser, accuracy, size, scheme):
    path, outcome = accuracy
    text = looked_at(browser, path, size, scheme)
    mean = outcome.evaluations[1].accuracy.mean
    assert f"simulator int8: mAP50-95 {mean[3]:.3f}, mAP50 {mean[2]:.3f}, over 6 pictures" in text
    for name in ("circle", "square", "triangle", "star", "cross", "difference", "inference"):
        assert name in text
    assert browser.run("return document.querySelectorAll('.bar').length") == 5 * 2
    assert browser.run("return document.querySelectorAll('.curve').length") == 2 * 2
    assert "The simulator says nothing of the NPU's speed." in text


def test_on_paper_it_is_light_and_the_pictures_are_unfolded(browser, converted):
    browser.open((converted.bundle / "report.html").as_uri(), DESKTOP, "dark")
    browser.driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"media": "print", "features": [{"name": "prefers-color-scheme", "value": "dark"}]},
    )
    assert ground(browser) == "rgb(255, 255, 255)"
    heights = browser.run("return [...document.images].map(i => i.getBoundingClientRect().height)")
    assert heights and min(heights) > 50
    assert browser.run("return getComputedStyle(document.querySelector('.log')).display") == "none"


def test_hostile_names_do_nothing(browser, accuracy, tmp_path):
    hostile = "<img src=x onerror=\"document.title='broken in'\"><script>x</script>" + 300 * "w"
    _, outcome = accuracy
    facts = outcome.model.facts
    names = (hostile, *facts.class_names[1:])
    plain = json.loads(json.dumps(outcome.plain | {"model": hostile, "data": hostile}))
    for table in (*plain["results"], *plain["differences"]):
        table["rows"][1]["class"] = hostile
    model = dataclasses.replace(
        outcome.model, facts=facts.model_copy(update={"class_names": names})
    )
    path = tmp_path / "page.html"
    path.write_text(
        page(dataclasses.replace(outcome, model=model, plain=plain, warnings=(hostile,))), "utf-8"
    )
    text = looked_at(browser, path, PHONE, "light")
    assert text.count("<script>x</script>") >= 3
    assert (
        browser.run("return document.querySelectorAll('script, [onerror], main img').length") == 0
    )
    assert browser.driver.title != "broken in"
