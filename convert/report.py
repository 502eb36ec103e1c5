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
from runtime.draw import draw
from runtime.manifest import Activation, Agreement

WORST_PICTURES = 4
_HEALTHY_COSINE = 0.99


@dataclass(frozen=True)
class Verdict:
    """What was measured, whether it is enough, and what a user should know."""

    agreement: Agreement
    least_f1: float
    warnings: tuple[str, ...]
    advice: tuple[str, ...]

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
        return f"{word}: agreement F1 {a.f1:.3f}, at least {self.least_f1:.3f} is asked for"


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
    advice = tuple(_advice(agreement, options, activation, calibration_pictures))
    return Verdict(agreement, least_f1, verdict.warnings, advice)


def _advice(
    agreement: Agreement, options: Options, activation: Activation, pictures: int | None
) -> Iterable[str]:
    if not agreement.float_detections:
        yield "check on pictures with objects the model knows (--check FOLDER)"
        return
    worst = min(agreement.heads, key=lambda head: head.worst_cosine)
    yield (
        f"worst is the {worst.worst_group} group of {worst.output}"
        f" (cosine {worst.worst_cosine:.4f} to the float model)"
    )
    if options.precision == "fp16":
        yield "fp16 should agree almost fully: please report this model"
        return
    if pictures is not None and pictures < FEWEST_PICTURES:
        yield f"calibrate on more pictures than {pictures}, from where the camera will stand"
    else:
        yield "calibrate on pictures like those the camera will see, with objects in them"
    if activation == "none":
        yield "--activation sigmoid gives boxes a step about six times finer"
    if options.algorithm == "normal":
        yield "--algorithm kl_divergence, or the slow mmse, ignores rare extreme values"
    yield "--precision fp16 keeps the detections, at about half the speed or less"


def as_text(title: str, verdict: Verdict) -> str:
    """The whole report as plain text."""
    lines = [title, "", verdict.headline(), ""]
    lines += [f"{name:<28} {value}" for name, value in agreement_rows(verdict.agreement)]
    lines += ["", f"{'head':<20} {'cosine':>8}  worst group"]
    lines += [
        f"{h.output:<20} {h.cosine:>8.4f}  {h.worst_group} {h.worst_cosine:.4f}"
        for h in verdict.agreement.heads
    ]
    for heading, items in (("Warnings", verdict.warnings), ("What to try", verdict.advice)):
        if items:
            lines += ["", heading, *(f"- {item}" for item in items)]
    return "\n".join([*lines, ""])


def agreement_rows(a: Agreement) -> list[tuple[str, str]]:
    """The agreement as names and values for a table."""
    return [
        ("check pictures", f"{a.pictures}"),
        ("float detections", f"{a.float_detections}"),
        ("built detections", f"{a.built_detections}"),
        ("matched (IoU 0.5, class)", f"{a.matched}"),
        ("agreement F1", f"{a.f1:.4f}"),
        ("mean IoU of matches", "-" if a.mean_iou is None else f"{a.mean_iou:.4f}"),
        ("mean score shift", "-" if a.score_shift is None else f"{a.score_shift:+.4f}"),
    ]


def write_worst_pictures(
    folder: Path, comparison: Comparison, samples: list[Sample], built_name: str
) -> list[Path]:
    """The pictures that agree least as PNGs, float left and built right."""
    written = []
    for place, picture in enumerate(comparison.worst_pictures(WORST_PICTURES)):
        sample = samples[picture.index]
        canvas = _side_by_side(
            read_sample(sample), picture, comparison.facts.class_names, built_name
        )
        name = re.sub(r"[^A-Za-z0-9._-]", "_", sample.name)
        path = folder / f"worst-{place + 1}-{Path(name).stem}.png"
        folder.mkdir(exist_ok=True)
        ok, data = cv2.imencode(".png", canvas)
        if ok:
            path.write_bytes(data.tobytes())
            written.append(path)
    return written


def _side_by_side(
    bgr: np.ndarray, picture: PictureComparison, names: tuple[str, ...], built_name: str
) -> np.ndarray:
    """Both models' detections; those the other one lacks are ringed in red."""
    pairs = picture.match.pairs
    halves = []
    for title, found, matched in (
        ("float", picture.reference, pairs[:, 0]),
        (built_name, picture.built, pairs[:, 1]),
    ):
        half = draw(bgr, found, names)
        alone = np.setdiff1d(np.arange(len(found)), matched)
        _ring(half, found, alone)
        halves.append(_titled(half, f"{title}: {len(found)} found, {len(alone)} only here"))
    gap = np.full((halves[0].shape[0], 8, 3), 255, np.uint8)
    return np.hstack([halves[0], gap, halves[1]])


def _ring(canvas: np.ndarray, found: Detections, which: np.ndarray) -> None:
    for x1, y1, x2, y2 in found.xyxy[which]:
        centre = round(float(x1 + x2) / 2), round(float(y1 + y2) / 2)
        axes = round(float(x2 - x1) * 0.75) + 6, round(float(y2 - y1) * 0.75) + 6
        cv2.ellipse(canvas, centre, axes, 0, 0, 360, (0, 0, 255), 2, cv2.LINE_AA)


def _titled(canvas: np.ndarray, text: str) -> np.ndarray:
    bar = np.full((28, canvas.shape[1], 3), 255, np.uint8)
    cv2.putText(bar, text, (6, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([bar, canvas])
