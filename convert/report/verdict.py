"""Whether a build is good enough, and what to try where it is not."""

from collections.abc import Iterable
from dataclasses import dataclass

from convert.calibrate import FEWEST_PICTURES
from convert.compare import Comparison
from convert.options import Options
from runtime.manifest import Activation, Agreement, Proof

_RARE_F1 = 0.98
"""Even a good build seldom agrees more than this."""


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

    @property
    def proven(self) -> bool:
        """Whether there was anything to compare."""
        return bool(self.agreement.float_detections or self.agreement.built_detections)

    def headline(self) -> str:
        a = self.agreement
        if not self.proven:
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
    if not options.is_hybrid:
        yield "--hybrid-layers 8 keeps the layers that int8 serves worst in float16, for few cycles"
    yield "--precision fp16 keeps the detections, at about half the speed or less"
