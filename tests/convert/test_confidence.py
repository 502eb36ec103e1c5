"""Which calibration pictures are told to be foreign."""

import numpy as np
import pytest

from convert.confidence import Confidence, foreign_warnings
from runtime.detections import Detections


def of(*scores: tuple[float, ...], peak: float = 0.9) -> Confidence:
    """Of pictures with detections of these scores."""
    found = [
        Detections(
            np.zeros((len(s), 4), np.float32), np.array(s, np.float32), np.zeros(len(s), np.int32)
        )
        for s in scores
    ]
    return Confidence.of(found, peak)


def test_what_is_counted():
    assert of((0.3, 0.5, 0.9), (), (0.4999,)) == Confidence(3, 2, 4, 2, 0.9)
    assert of((0.3, 0.5, 0.9), (0.4,)).sure_share == 0.5
    assert of((), ()).sure_share == 0


GOOD = of((0.9, 0.8, 0.7, 0.3))


@pytest.mark.parametrize(
    ("calibration", "check", "told", "reason"),
    [
        (GOOD, None, "", "sure of three quarters"),
        (GOOD, GOOD, "", "as on the check pictures"),
        (of((0.9,), peak=0.5), None, "", "the least peak that is enough"),
        (of((0.9,), peak=0.49), None, "never gets above 0.49", "nothing it is sure of"),
        (of((), (), peak=0.0), GOOD, "never gets above 0.00", "nothing at all"),
        (of((0.9,), ()), None, "", "something in half of them"),
        (of((0.9,), (), ()), None, "in only 1 of 3 calibration pictures", "in fewer"),
        (of((0.9, 0.9, 0.3, 0.3, 0.3)), None, "", "two fifths"),
        (of((0.9, 0.3, 0.3)), None, "sure of only 33% of what it finds", "a third"),
        (of((0.9, 0.3)), of((0.9, 0.9, 0.9, 0.3)), "", "less sure by a quarter"),
        (of((0.9, 0.3)), of((0.9, 0.9, 0.9)), "of 50% of what it finds in them, there of 100%", ""),
    ],
)
def test_foreign_pictures_are_told(calibration, check, told, reason):
    warnings = list(foreign_warnings(calibration, check))
    assert len(warnings) == bool(told), reason
    assert all(told in warning and "calibration pictures" in warning for warning in warnings)
