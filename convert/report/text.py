"""What a conversion found, as plain text."""

from collections.abc import Iterable

from convert.compare import PictureComparison
from convert.report.verdict import Verdict
from runtime.manifest import Agreement, Proof


def as_text(
    title: str,
    verdict: Verdict,
    pictures: Iterable[tuple[str, PictureComparison]] = (),
    cost: str = "",
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
    if cost:
        lines += ["", cost]
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
