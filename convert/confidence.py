"""How sure the float model is of what it finds: on foreign pictures it is not, and what is
calibrated there fits nothing."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from runtime.detections import Detections

_SURE = 0.5
_SEEN = 0.5
"""In a smaller share of the pictures something is found: most hold no object."""
_LEAST_SURE = 0.4
"""A trained model is sure of more than this share on its own kind of pictures: published YOLOv5n of
half, the demo of three quarters and more. On foreign ones both stay below."""
_FALL = 0.25
"""The share may be lower than on the check pictures by so much."""


@dataclass(frozen=True)
class Confidence:
    """What the float model finds in some pictures: seen is how many of them hold any detection,
    found how many detections there are, sure how many of these score at least a half; peak is the
    highest objectness, a probability."""

    pictures: int
    seen: int
    found: int
    sure: int
    peak: float

    @classmethod
    def of(cls, found: Sequence[Detections], peak: float) -> "Confidence":
        """Of the detections of each picture."""
        return cls(
            pictures=len(found),
            seen=sum(len(each) > 0 for each in found),
            found=sum(map(len, found)),
            sure=sum(int((each.score >= _SURE).sum()) for each in found),
            peak=peak,
        )

    @property
    def sure_share(self) -> float:
        return self.sure / max(1, self.found)


def foreign_warnings(calibration: Confidence, check: Confidence | None) -> Iterable[str]:
    """That the calibration pictures are not what the model was trained for; check is None where the
    pictures that were compared are some of them."""
    if calibration.peak < _SURE:
        yield (
            f"in the calibration pictures objectness never gets above {calibration.peak:.2f}: they"
            " hold no object the model is sure of, so confident scores will be cut off on the board"
        )
    elif calibration.seen < _SEEN * calibration.pictures:
        yield (
            f"the float model finds something in only {calibration.seen} of {calibration.pictures}"
            " calibration pictures: calibrate on pictures with objects it knows"
        )
    elif calibration.sure_share < _LEAST_SURE:
        yield (
            "the calibration pictures look foreign to the model: it is sure of only"
            f" {calibration.sure_share:.0%} of what it finds in them; calibrate on pictures like"
            " those it was trained on, from where the camera will stand"
        )
    elif check and calibration.sure_share < check.sure_share - _FALL:
        yield (
            "the calibration pictures are unlike the check pictures: the float model is sure of"
            f" {calibration.sure_share:.0%} of what it finds in them, there of"
            f" {check.sure_share:.0%}; calibrate on pictures like those"
        )
