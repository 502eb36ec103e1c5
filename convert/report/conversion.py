"""The page of a conversion."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from convert.calibrate import Sample
from convert.compare import Comparison
from convert.cost import LABEL
from convert.histograms import Histogram, tensor_of
from convert.hybrid import hybrid_line
from convert.options import Options
from convert.report import svg
from convert.report.anchors import closest_preset, plots
from convert.report.page import jpeg_uri, render, sentence
from convert.report.pictures import Drawn, jpeg
from convert.report.text import proof_line
from convert.report.verdict import Verdict
from runtime.cost import BASIS_TARGET, MS_PER_MEGACYCLE, Costs
from runtime.manifest import CalibrationFacts, Facts, Precision, SourceFacts

_PICTURES_BYTES = 2_000_000
"""All pictures of a page together, before base64 makes them a third more."""
TUNE = "rkyolo tune MODEL --calibration PICTURES --data data.yaml -o BUNDLE"
_LOG_LINES, _LOG_LETTERS = 400, 60_000
"""The end of the toolkit's log that is shown."""


@dataclass(frozen=True, eq=False)
class Conversion:
    """What there is to tell. samples are the check pictures; ranges are what each output tensor's
    int8 can say, None for float; tools are versions by name; hybrid are the tensors that stay in
    float16."""

    source: SourceFacts
    facts: Facts
    options: Options
    verdict: Verdict
    comparison: Comparison
    samples: Sequence[Sample]
    ranges: Mapping[str, tuple[float, float] | None]
    calibration: CalibrationFacts | None
    costs: Costs
    tools: Mapping[str, str]
    log: str
    hybrid: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        built = f"{self.options.precision} for {self.options.target}"
        return f"{self.source.file}: float against built, {built}"


def page(found: Conversion, pictures: Sequence[Drawn]) -> str:
    """report.html."""
    preset, same = closest_preset(found.facts.anchors)
    log = log_end(found.log)
    return render(
        "conversion.html",
        title=f"{found.source.file}, {found.options.precision} for {found.options.target.upper()}",
        found=found,
        agreement=found.verdict.agreement,
        proof=found.verdict.proof and proof_line(found.verdict.proof),
        warnings=[sentence(warning) for warning in found.verdict.warnings],
        steps=next_steps(found),
        scatter=_scatter(found),
        alone=_alone_counts(found.comparison),
        heads=list(_heads(found)),
        hybrid=sentence(hybrid_line(found.hybrid)) if found.hybrid else "",
        anchors=plots(found.facts.anchors, preset),
        preset=preset,
        same=same,
        costs=_costs(found.costs),
        spread=MS_PER_MEGACYCLE if found.options.target == BASIS_TARGET else None,
        label=LABEL,
        pictures=[_picture(picture, _PICTURES_BYTES // len(pictures)) for picture in pictures],
        log=log,
        shown_lines=len(log.splitlines()),
        log_lines=len(found.log.splitlines()),
    )


def next_steps(found: Conversion) -> list[tuple[str, str]]:
    """What to try where the verdict is bad, or else what comes next, in words and as a command."""
    if found.verdict.advice:
        steps = [(sentence(advice), "") for advice in found.verdict.advice]
        if found.options.precision == "int8" and found.verdict.agreement.float_detections:
            steps.append(("Or have all that can be chosen tried and weighed:", TUNE))
        return steps
    steps = []
    if any("calibration" in warning for warning in found.verdict.warnings):
        steps.append(("Convert again with calibration pictures as the warning asks for.", ""))
    steps += [
        (
            "Measure its accuracy on labelled pictures:",
            "rkyolo evaluate BUNDLE --data data.yaml --backend onnxruntime --backend simulator"
            " --report accuracy.html",
        ),
        ("Bring it to a board, to run there as a service:", "rkyolo deploy USER@HOST BUNDLE"),
    ]
    return steps


def log_end(log: str) -> str:
    """The last lines of a log, bounded."""
    return "\n".join(log.splitlines()[-_LOG_LINES:])[-_LOG_LETTERS:]


def _scatter(found: Conversion) -> Any:
    pairs = [
        np.column_stack(
            (p.reference.score[p.match.pairs[:, 0]], p.built.score[p.match.pairs[:, 1]])
        )
        for p in found.comparison.pictures
    ]
    scores = np.concatenate([np.empty((0, 2)), *pairs])
    names = "float", found.options.precision
    return svg.scatter(scores[:, 0], scores[:, 1], _alone(found.comparison), names)


def _alone(comparison: Comparison) -> tuple[np.ndarray, np.ndarray]:
    """The scores of what only the float, and only the built model found."""
    sides = []
    for i, name in enumerate(("reference", "built")):
        scores = [
            np.delete(getattr(p, name).score, p.match.pairs[:, i]) for p in comparison.pictures
        ]
        sides.append(np.concatenate([np.empty(0), *scores]))
    return sides[0], sides[1]


def _alone_counts(comparison: Comparison) -> tuple[int, int]:
    ours, theirs = _alone(comparison)
    return len(ours), len(theirs)


def _heads(found: Conversion) -> Iterable[dict[str, Any]]:
    """Per head its agreement and a histogram for each group."""
    agreement = found.verdict.agreement
    for i, (told, pairs) in enumerate(
        zip(agreement.heads, found.comparison.histograms.pairs, strict=True)
    ):
        yield {
            "told": told,
            "stride": found.facts.heads[i].stride,
            "groups": [
                _group(group, pair, tensor_of(found.facts, i, group), found)
                for group, pair in pairs.items()
            ],
        }


def _group(
    name: str, pair: tuple[Histogram, Histogram], tensor: str, found: Conversion
) -> dict[str, Any]:
    bounds = found.ranges.get(tensor)
    return {
        "name": name,
        "plot": svg.histogram(pair, bounds, f"Values of {name} in {tensor}"),
        "bounds": bounds,
        "beyond": _percent(pair[0].beyond(*bounds)) if bounds else "",
        "extremes": (pair[0].least, pair[0].greatest),
    }


def _percent(share: float) -> str:
    """Of a share, "" where there is none of it."""
    if share < 1e-4:
        return "under 0.01 %" if share else ""
    return f"{share:.0%}".replace("%", " %") if share >= 0.1 else f"{100 * share:.2g} %"


def _costs(costs: Costs) -> dict[str, Any]:
    return {p: cost for p in get_args(Precision) if (cost := getattr(costs, p)) is not None}


def _picture(picture: Drawn, most_bytes: int) -> dict[str, Any]:
    uri = None if picture.bgr is None else jpeg_uri(jpeg(picture.bgr, most_bytes))
    return {"name": picture.sample.name, "found": picture.found, "uri": uri}
