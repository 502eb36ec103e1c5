"""One picture through a model: letterbox, infer, decode, suppress, map back."""

import numpy as np

from runtime.backends import Backend
from runtime.decode import Candidates, Decoder, Tensor
from runtime.detections import Detections
from runtime.feed import Feed
from runtime.letterbox import Letterbox
from runtime.manifest import Facts, Thresholds
from runtime.nms import nms

_MOST_CANDIDATES = 30_000
"""Of more boxes than this, as YOLOv5, only the highest scores go into suppression."""


class Detector:
    """Finds objects in pictures of any size, on one backend. Not for two threads at once."""

    def __init__(self, backend: Backend, facts: Facts, thresholds: Thresholds):
        self._backend = backend
        self._thresholds = thresholds
        self._decoder = Decoder(facts, thresholds)
        self._feed = Feed(facts.input)

    def __call__(self, bgr: np.ndarray) -> Detections:
        """Detections in a picture uint8 (h, w, 3) BGR."""
        picture, frame = self._feed(bgr)
        return self.from_tensors(self._backend.infer(picture), frame)

    def from_tensors(self, tensors: list[Tensor], frame: Letterbox) -> Detections:
        """Detections from head maps of a picture that lies in the input as frame says."""
        return select(self._decoder(tensors), self._thresholds, frame)


def select(found: Candidates, thresholds: Thresholds, frame: Letterbox) -> Detections:
    """Suppress overlapping candidates and map the rest to source pixels."""
    xyxy, score, class_id = found.xyxy, found.score, found.class_id
    if len(score) > _MOST_CANDIDATES:
        best = np.argsort(-score, kind="stable")[:_MOST_CANDIDATES]
        xyxy, score, class_id = xyxy[best], score[best], class_id[best]
    keep = nms(xyxy, score, class_id, thresholds.iou, thresholds.max_detections)
    return Detections(
        frame.source_from_input(xyxy[keep]), score[keep], class_id[keep].astype(np.int32)
    )
