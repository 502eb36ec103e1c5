"""The verdict, the advice, and the pictures of what differs."""

import dataclasses
import re

import cv2
import numpy as np
import pytest
import typer
from scenes import facts_of

from anchors import PRESETS, Anchors
from convert.calibrate import Sample
from convert.cli import register
from convert.compare import Comparison, PictureComparison, match
from convert.quantize import Options
from convert.report import Verdict, as_text, judge, side_by_side, svg, write_report
from convert.report.conversion import Conversion, next_steps, page
from convert.report.page import sentence
from convert.report.pictures import jpeg, worst
from runtime.cost import Costs
from runtime.detections import Detections
from runtime.manifest import Agreement, CalibrationFacts, SourceFacts

FACTS = facts_of(Anchors.from_pairs([8, 16], [[(10, 12)], [(30, 30)]]), (32, 32), classes=2)
NAMES = ("person", "two words")


def detections(*rows: tuple[float, ...]) -> Detections:
    plain = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(plain[:, :4], plain[:, 4], plain[:, 5].astype(np.int32))


def compared(*pictures: tuple[list, list]) -> Comparison:
    comparison = Comparison(FACTS)
    for i, (reference, built) in enumerate(pictures):
        comparison.add_detections(i, detections(*reference), detections(*built))
    maps = [np.ones(FACTS.head_shape(i), np.float32) for i in range(2)]
    worse = [array.copy() for array in maps]
    worse[1][:, 4] = -1
    comparison.add_maps(maps, worse)
    return comparison


A, B = (10, 10, 60, 60, 0.9, 0), (70, 20, 90, 50, 0.8, 1)


def verdict_of(comparison, least_f1=0.9, pictures=20, activation="sigmoid", **options) -> Verdict:
    return judge(comparison, least_f1, Options(**options), activation, pictures, ["a warning"])


def test_a_verdict_that_passes_has_no_advice():
    verdict = verdict_of(compared(([A, B], [A, B])))
    assert verdict.passed and verdict.advice == () and verdict.warnings == ("a warning",)
    assert verdict.headline() == "PASS: agreement F1 1, at least 0.9 is asked for"


@pytest.mark.parametrize("f1", [0.9, 0.899999, 0.9999999])
def test_the_headline_never_rounds_a_failure_into_a_pass(f1):
    verdict = verdict_of(compared(([A], [A])))
    agreement = verdict.agreement.model_copy(update={"f1": f1})
    verdict = dataclasses.replace(verdict, agreement=agreement, least_f1=0.9)
    assert verdict.headline().startswith("PASS" if f1 >= 0.9 else "FAIL: agreement F1 0.899999,")


@pytest.mark.parametrize(
    ("least_f1", "passed"), [(0, True), (0.5, True), (2 / 3 - 1e-6, True), (0.67, False)]
)
def test_the_threshold(least_f1, passed):
    assert verdict_of(compared(([A, B], [A])), least_f1).passed == passed


OPTIONS = ("--min-agreement", "--calibration", "--activation", "--algorithm", "--precision")


@pytest.mark.parametrize(
    ("arguments", "expected", "reason"),
    [
        ({}, "calibration like, algorithm kl_div, hybrid-layers 8, precision fp16", "the usual"),
        ({"pictures": 19}, "calibration more pictures than 19, algorithm kl", "too few pictures"),
        ({"activation": "none"}, "calibration, activation sigmoid, algorithm", "raw logits"),
        ({"algorithm": "mmse"}, "calibration, algorithm normal, hybrid, precision", "extremes cut"),
        ({"least_f1": 0.99}, "min-agreement 0.98, calibration, algorithm", "too much asked"),
        ({"hybrid_layers": 4}, "calibration, algorithm, precision", "some float16 already"),
        ({"precision": "fp16", "pictures": None}, "fp16 please report", "nothing to calibrate"),
    ],
)
def test_advice(arguments, expected, reason):
    advice = verdict_of(compared(([A, B], [A])), **arguments).advice
    for line, wanted in zip(advice, expected.split(", "), strict=False):
        option, *words = wanted.split()
        assert option in line.split(" ")[0], reason
        assert all(word in line for word in words), reason
    assert not any("sigmoid" in line for line in advice) or "sigmoid" in expected


def test_nothing_found_is_not_proven():
    verdict = verdict_of(compared(([], [])))
    assert verdict.headline().startswith("NOT PROVEN: the float model finds nothing in the 1 check")
    assert len(verdict.advice) == 1 and "--check FOLDER" in verdict.advice[0]


def test_ghosts_alone_fail():
    verdict = verdict_of(compared(([], [A])))
    assert verdict.headline().startswith("FAIL: agreement F1 0,")
    assert "--check FOLDER" in verdict.advice[0]


def test_the_text_names_the_worst_head_and_group():
    text = as_text("a.pt: float against built", verdict_of(compared(([A, B], [A]))))
    assert text.startswith("a.pt: float against built\n\nFAIL: agreement F1 0.666667, ")
    assert "\nhead0               1.0000   box 1.0000\n" in text
    assert "\nleast alike is the objectness group of head1\n" in text
    assert "\nmean score shift            -0.0000\n" in text or "+0.0000\n" in text
    assert "\n\nWarnings\n- a warning\n\nWhat to try\n- --calibration " in text


def test_the_text_of_no_matches():
    agreement = Agreement(
        pictures=0,
        float_detections=0,
        built_detections=0,
        matched=0,
        f1=0,
        mean_iou=None,
        score_shift=None,
        heads=compared().agreement().heads,
    )
    text = as_text("title", Verdict(agreement, 0.9, (), ()))
    assert "mean IoU of matches               -\n" in text
    assert "Warnings" not in text and "What to try" not in text


def picture(width: int, height: int) -> np.ndarray:
    """Even grey, on which all colour is drawn."""
    return np.full((height, width, 3), 128, np.uint8)


def one(reference: list, built: list) -> PictureComparison:
    a, b = detections(*reference), detections(*built)
    return PictureComparison(0, a, b, match(a, b))


def red(bgr: np.ndarray) -> np.ndarray:
    """Where the frames are."""
    blue, green, red = (bgr[..., i].astype(int) for i in range(3))
    return (red > 250) & (blue < 5) & (green < 5)


def halves(canvas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Without the line of text."""
    width = (canvas.shape[1] - 8) // 2
    return canvas[28:, :width], canvas[28:, width + 8 :]


@pytest.mark.parametrize(
    ("reference", "built", "frames"),
    [
        ([A, B], [A, B], (False, False)),
        ([A, B], [A], (True, False)),
        ([A], [A, B], (False, True)),
        ([A], [(*A[:5], 1)], (True, True)),
        ([], [], (False, False)),
    ],
)
def test_a_red_frame_is_around_what_only_one_model_found(reference, built, frames):
    sides = halves(side_by_side(picture(640, 480), one(reference, built), NAMES))
    assert tuple(bool(red(half).any()) for half in sides) == frames


def test_frames_are_where_the_detection_is():
    x1, y1, x2, y2 = 300, 200, 340, 220
    left, _ = halves(side_by_side(picture(640, 480), one([(x1, y1, x2, y2, 0.5, 0)], []), NAMES))
    rows, columns = np.nonzero(red(left))
    bounds = columns.min(), rows.min(), columns.max(), rows.max()
    assert np.allclose(bounds, (x1 - 7, y1 - 7, x2 + 7, y2 + 7), atol=1)


@pytest.mark.parametrize(
    ("wh", "half_wh", "reason"),
    [
        ((640, 480), (640, 480), "left as it is"),
        ((64, 48), (640, 480), "tiny, made larger"),
        ((4000, 3000), (1280, 960), "from a large camera, made smaller"),
        ((90, 1920), (300, 1280), "narrow: white beside it, so that the text fits"),
        ((5000, 1), (1280, 1), "hardly a picture"),
    ],
)
def test_pictures_of_any_size_are_readable(wh, half_wh, reason):
    box = (0, 0, wh[0], wh[1], 0.5, 0)
    canvas = side_by_side(picture(*wh), one([box], []), NAMES)
    assert canvas.shape == (half_wh[1] + 28, half_wh[0] * 2 + 8, 3), reason


def test_boxes_are_scaled_with_the_picture():
    small = (10, 10, 20, 20, 0.5, 0)
    left, _ = halves(side_by_side(picture(64, 48), one([small], []), NAMES))
    rows, columns = np.nonzero(red(left))
    assert abs((columns.min() + columns.max()) / 2 - 150) < 3
    assert abs((rows.min() + rows.max()) / 2 - 150) < 3


def test_the_inputs_are_not_drawn_on():
    bgr, found = picture(640, 480), one([A], [B])
    side_by_side(bgr, found, NAMES)
    assert (bgr == 128).all()
    assert found.reference.xyxy.tolist() == [list(A[:4])]


def conversion(comparison: Comparison, samples: list[Sample], **changed: object) -> Conversion:
    return dataclasses.replace(
        Conversion(
            source=SourceFacts(file="a.pt", sha256="0" * 64, looks_like="YOLOv5 v7.0"),
            facts=comparison.facts,
            options=Options(),
            verdict=verdict_of(comparison),
            comparison=comparison,
            samples=samples,
            ranges={"head0": (-1.0, 0.5), "head1": (-1.0, 1.0)},
            calibration=CalibrationFacts(pictures=20, digest="0" * 64),
            costs=Costs(int8=None, fp16=None),
            tools={"rkyolo": "1"},
            log="a line\n",
        ),
        **changed,
    )


def test_the_report_on_disk(tmp_path):
    for name in ("a b.png", "größe.png", "c.png"):
        (tmp_path / name).write_bytes(cv2.imencode(".png", picture(200, 100))[1].tobytes())
    samples = [Sample(tmp_path / name) for name in ("a b.png", "größe.png", "gone.png", "c.png")]
    comparison = compared(([A], [A]), ([A, B], [A]), ([A], []), ([], []))
    out = tmp_path / "out"
    out.mkdir()
    text = write_report(out, conversion(comparison, samples))
    assert (out / "report.txt").read_text("utf-8") == text
    assert text.startswith("a.pt: float against built, int8 for rk3588\n\nFAIL: ")
    assert [line for line in text.splitlines() if "worst-" in line] == [
        "- pictures/worst-1-gone.png: F1 0.000",
        "- pictures/worst-2-gr__e.png: F1 0.667",
        "- pictures/worst-3-a_b.png: F1 1.000",
    ]
    written = sorted(path.name for path in (out / "pictures").iterdir())
    assert written == ["worst-2-gr__e.png", "worst-3-a_b.png"]
    assert cv2.imread(str(out / "pictures" / written[0])).shape[1] == 640 * 2 + 8
    page = (out / "report.html").read_text("utf-8")
    assert page.count('src="data:image/jpeg;base64,') == 2
    assert page.count("The picture is gone since.") == 1


def test_the_report_of_nothing_found(tmp_path):
    comparison = compared(([], []))
    text = write_report(tmp_path, conversion(comparison, []))
    assert "worst-" not in text and list((tmp_path / "pictures").iterdir()) == []
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "Not proven" in page and "Pictures that agree least" not in page


def test_float_values_beyond_the_range_are_told():
    """Head maps of ones, where int8 goes up to one half."""
    text = page(conversion(compared(([A], [A])), []), [])
    assert text.count("range -1 to 0.5, 100 % of float cut off") == 4
    assert text.count('class="beyond"') == 4 and text.count('class="bound"') == 4 * 2 * 2


def test_a_float_build_has_no_ranges():
    found = conversion(
        compared(([A], [A])), [], calibration=None, options=Options(precision="fp16")
    )
    text = page(dataclasses.replace(found, ranges={"head0": None, "head1": None}), [])
    assert 'class="bound"' not in text and "quantization range" not in text
    assert text.count("float goes from 1 to 1") == 2 * 4


def test_the_way_to_the_search_is_shown_where_int8_fell_short():
    failed, tune = compared(([A, B], [A])), "rkyolo tune MODEL --calibration PICTURES"
    assert next_steps(conversion(failed, []))[-1][1].startswith(tune)
    fine = compared(([A], [A]))
    for found in (
        conversion(fine, []),
        conversion(compared(([], [A])), []),  # other pictures are needed first
        conversion(failed, [], options=Options(precision="fp16")),
    ):
        assert not any(tune in command for _, command in next_steps(found))


def test_what_is_to_be_typed_is_a_command_with_those_options():
    app = typer.Typer()
    register(app)
    known = typer.main.get_command(app).commands
    steps = [
        step
        for found in (compared(([A], [A])), compared(([A, B], [A])))
        for step in next_steps(conversion(found, []))
    ]
    typed = [command.split() for _, command in steps if command]
    assert {"evaluate", "deploy", "tune"} == {words[1] for words in typed}
    for program, name, *rest in typed:
        options = {option for parameter in known[name].params for option in parameter.opts}
        assert program == "rkyolo" and {word for word in rest if word[0] == "-"} <= options


HOSTILE = "<img src=x onerror=alert(1)></style><script>alert(1)</script>"


def test_names_are_text_and_never_markup(tmp_path):
    comparison = compared(([A, B], [A]))
    facts = FACTS.model_copy(update={"class_names": (HOSTILE, "two")})
    heads = tuple(
        head.model_copy(update={"output": f"{HOSTILE}{i}"}) for i, head in enumerate(FACTS.heads)
    )
    found = conversion(
        comparison,
        [Sample(tmp_path / f"{HOSTILE.replace('/', '')}.png")],
        facts=facts.model_copy(update={"heads": heads}),
        source=SourceFacts(file=HOSTILE, sha256="0" * 64, looks_like=HOSTILE),
        tools={HOSTILE: HOSTILE},
        log=HOSTILE,
        hybrid=(HOSTILE,),
        verdict=dataclasses.replace(verdict_of(comparison), warnings=(HOSTILE,)),
    )
    text = page(found, worst(comparison, found.samples))
    assert text.count("&lt;script&gt;alert(1)") > 8
    assert "<script" not in text and "<img src=x" not in text and text.count("</style>") == 1


def test_a_long_log_is_cut_at_its_beginning():
    log = "".join(f"line {i} {'x' * 300}\n" for i in range(5000))
    text = page(conversion(compared(([A], [A])), [], log=log), [])
    assert "line 4999 " in text and "line 4000 " not in text
    assert len(text) < 150_000 and "of 5000 lines; all of it is in toolkit.log" in text


@pytest.mark.parametrize("wh", [(2568, 1288), (9, 3), (1, 1)])
def test_pictures_are_kept_within_bytes(wh):
    noise = np.random.default_rng(0).integers(0, 256, (wh[1], wh[0], 3), np.uint8)
    data = jpeg(noise, 100_000)
    assert len(data) <= 100_000 and cv2.imdecode(np.frombuffer(data, np.uint8), 1) is not None
    assert len(jpeg(noise, 1)) > 1  # there is no smaller one


def test_points_of_a_scatter_are_bounded():
    rows = np.random.default_rng(0).random((10_000, 2))
    alone = rows[:, 0], rows[:3, 1]
    drawing = svg.scatter(rows[:, 0], rows[:, 1], alone, ("float", "int8"))
    assert drawing.count("<circle") == svg.MOST_POINTS
    assert drawing.count('class="alone"') == svg.MOST_POINTS + 3


@pytest.mark.parametrize(
    ("preset", "strides", "told"),
    [
        ("coco-p5", [8, 16, 32], "the preset coco-p5's own anchors"),
        (None, [8, 16], "drawn over those of the preset coco-p5"),
        (None, [4, 128], "coco-p5 has no such stride"),
    ],
)
def test_anchors_are_drawn_over_a_preset(preset, strides, told):
    if preset:
        anchors = PRESETS[preset]
    else:
        anchors = Anchors.from_pairs(strides, [[(10, 12), (0.5, 900)]] * 2)
    facts = facts_of(anchors, (256, 256), classes=2)
    comparison = Comparison(facts)
    comparison.add_detections(0, detections(A), detections(A))
    text = page(conversion(comparison, [], facts=facts), [])
    text = re.sub(r"\s+", " ", text)
    assert told in text
    assert text.count('class="anchor ') == sum(len(head.wh_px) for head in anchors.heads)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("only 3", "Only 3."),
        ("head0_stride8 was", "head0_stride8 was."),
        ("--check FOLDER", "--check FOLDER."),
        ("is that so?", "Is that so?"),
        ("", "."),
    ],
)
def test_messages_become_sentences(text, told):
    assert sentence(text) == told
