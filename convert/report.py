"""What a conversion found, as text and as pictures."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from convert.calibrate import FEWEST_PICTURES, Sample, read_sample
from convert.compare import Comparison, PictureComparison
from convert.quantize import Options
from runtime.detections import Detections
from runtime.draw import class_colour, draw
from runtime.manifest import Activation, Agreement, Proof

REPORT = "report.txt"
WORST_PICTURES = 4
_SIDE_PX = 640, 1280
"""A drawn picture's longer side is at least and at most this."""
_RARE_F1 = 0.98
"""Even a good build seldom agrees more than this."""
_RED = 0, 0, 255


@dataclass(frozen=True)
class Verdict:
    """What was measured, whether it is enough, and what a user should know."""

    agreement: Agreement
    least_f1: float
    warnings: tuple[str, ...]
    advice: tuple[str, ...]
    proof: Proof | None = None

    @property
    def passed(self) -> bool:
        return self.agreement.f1 >= self.least_f1

    def headline(self) -> str:
        a = self.agreement
        if not a.float_detections and not a.built_detections:
            return (
                f"NOT PROVEN: the float model finds nothing in the {a.pictures} check pictures, so"
                " there is nothing to compare"
            )
        word = "PASS" if self.passed else "FAIL"
        return f"{word}: agreement F1 {a.f1:g}, at least {self.least_f1:g} is asked for"


def judge(
    comparison: Comparison,
    least_f1: float,
    options: Options,
    activation: Activation,
    calibration_pictures: int | None,
    warnings: Iterable[str],
) -> Verdict:
    """The verdict, with advice where it is bad."""
    agreement = comparison.agreement()
    verdict = Verdict(agreement, least_f1, tuple(warnings), ())
    if verdict.passed:
        return verdict
    advice = tuple(_advice(verdict, options, activation, calibration_pictures))
    return Verdict(agreement, least_f1, verdict.warnings, advice)


def _advice(
    verdict: Verdict, options: Options, activation: Activation, pictures: int | None
) -> Iterable[str]:
    if not verdict.agreement.float_detections:
        yield "--check FOLDER (and --calibration) with pictures of objects the model knows"
        return
    if verdict.least_f1 > _RARE_F1:
        yield (
            f"--min-agreement {_RARE_F1} or less: objects whose score is close to the threshold"
            " fall on either side of it"
        )
    if options.precision == "fp16":
        yield "fp16 should agree almost fully: where it is far off, please report this model"
        return
    if pictures is not None and pictures < FEWEST_PICTURES:
        yield f"--calibration with more pictures than {pictures}, from where the camera will stand"
    else:
        yield "--calibration with pictures like those the camera will see, with objects in them"
    if activation == "none":
        yield "--activation sigmoid gives boxes a step about six times finer"
    if options.algorithm == "normal":
        yield "--algorithm kl_divergence, or the slow mmse, ignores rare extreme values"
    else:
        yield "--algorithm normal keeps the extreme values, which confident scores are"
    yield "--precision fp16 keeps the detections, at about half the speed or less"


def write_report(
    folder: Path, title: str, verdict: Verdict, comparison: Comparison, samples: list[Sample]
) -> str:
    """Write the report and the pictures that agree least into a folder; the report's text. samples
    are the check pictures, title ends in what was built."""
    pictures = [
        (f"pictures/worst-{place}-{_plain_name(samples[found.index])}.png", found)
        for place, found in enumerate(comparison.worst_pictures(WORST_PICTURES), 1)
    ]
    (folder / "pictures").mkdir()
    for name, found in pictures:
        bgr = read_sample(samples[found.index])
        if bgr is not None:  # it is gone since
            canvas = side_by_side(bgr, found, comparison.facts.class_names)
            (folder / name).write_bytes(cv2.imencode(".png", canvas)[1].tobytes())
    text = as_text(title, verdict, pictures)
    (folder / REPORT).write_text(text, "utf-8")
    return text


def _plain_name(sample: Sample) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", sample.file.stem)[:60] + (
        "" if sample.frame is None else f"-{sample.frame}"
    )


def as_text(
    title: str, verdict: Verdict, pictures: Iterable[tuple[str, PictureComparison]] = ()
) -> str:
    """The whole report as plain text."""
    agreement = verdict.agreement
    worst = min(agreement.heads, key=lambda head: head.worst_cosine)
    lines = [title, "", verdict.headline(), ""]
    lines += [f"{name:<26}{value:>9}" for name, value in _rows(agreement)]
    lines += ["", f"{'head':<18}{'cosine':>8}   worst group"]
    lines += [
        f"{h.output:<18}{h.cosine:>8.4f}   {h.worst_group} {h.worst_cosine:.4f}"
        for h in agreement.heads
    ]
    lines += [f"least alike is the {worst.worst_group} group of {worst.output}"]
    if verdict.proof:
        lines += ["", proof_line(verdict.proof)]
    for heading, items in (
        ("Warnings", verdict.warnings),
        ("What to try", verdict.advice),
        (
            "Pictures that agree least (what only one model found is framed in red)",
            [f"{name}: F1 {found.f1:.3f}" for name, found in pictures],
        ),
    ):
        if items:
            lines += ["", heading, *(f"- {item}" for item in items)]
    return "\n".join([*lines, ""])


def proof_line(proof: Proof) -> str:
    """What was proven of the user's own ONNX, in a sentence."""
    if proof.compared == "boxes":
        return (
            f"Proof: {proof.count} boxes of the ONNX file's own decode equal rkyolo's, to"
            f" {proof.largest_px:.1g} pixels and {proof.largest_value:.1g} in score"
        )
    return (
        "Proof: the ONNX file's own outputs equal rkyolo's head maps, to"
        f" {proof.largest_value:.1g}; it does not decode, so the anchors are those that were given"
    )


def _rows(a: Agreement) -> list[tuple[str, str]]:
    return [
        ("check pictures", f"{a.pictures}"),
        ("float detections", f"{a.float_detections}"),
        ("built detections", f"{a.built_detections}"),
        ("matched (IoU 0.5, class)", f"{a.matched}"),
        ("agreement F1", f"{a.f1:.4f}"),
        ("mean IoU of matches", "-" if a.mean_iou is None else f"{a.mean_iou:.4f}"),
        ("mean score shift", "-" if a.score_shift is None else f"{a.score_shift:+.4f}"),
    ]


def side_by_side(bgr: np.ndarray, picture: PictureComparison, names: tuple[str, ...]) -> np.ndarray:
    """Both models' detections in a picture uint8 (h, w, 3), float left and built right. What both
    found has a thin box; what only one did has a red frame, its class and its score."""
    height, width = bgr.shape[:2]
    scale = float(np.clip(1, *(side / max(width, height) for side in _SIDE_PX)))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    bgr = cv2.resize(bgr, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    halves = []
    for title, found, matched in (
        ("float", picture.reference, picture.match.pairs[:, 0]),
        ("built", picture.built, picture.match.pairs[:, 1]),
    ):
        alone = np.setdiff1d(np.arange(len(found)), matched)
        half = _drawn(bgr, found, scale, matched, alone, names)
        halves.append(_titled(half, f"{title}: {len(found)} found, {len(alone)} only here"))
    gap = np.full((halves[0].shape[0], 8, 3), 255, np.uint8)
    return np.hstack([halves[0], gap, halves[1]])


def _drawn(
    bgr: np.ndarray,
    found: Detections,
    scale: float,
    matched: np.ndarray,
    alone: np.ndarray,
    names: tuple[str, ...],
) -> np.ndarray:
    canvas, xyxy = bgr.copy(), found.xyxy * np.float32(scale)
    for i in matched:
        x1, y1, x2, y2 = xyxy[i].round().astype(int).tolist()
        cv2.rectangle(canvas, (x1, y1), (x2, y2), class_colour(int(found.class_id[i])), 1)
    for i in alone:
        x1, y1, x2, y2 = xyxy[i].round().astype(int).tolist()
        cv2.rectangle(canvas, (x1 - 6, y1 - 6), (x2 + 6, y2 + 6), _RED, 2)
    return draw(canvas, Detections(xyxy[alone], found.score[alone], found.class_id[alone]), names)


def _titled(canvas: np.ndarray, text: str) -> np.ndarray:
    """A picture under a line of text, made wide enough for it."""
    missing = max(0, 300 - canvas.shape[1])
    canvas = cv2.copyMakeBorder(
        canvas, 28, 0, 0, missing, cv2.BORDER_CONSTANT, value=(255, 255, 255)
    )
    cv2.putText(canvas, text, (6, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (0, 0, 0), 1, cv2.LINE_AA)
    return canvas
