"""Non-maximum suppression: of boxes that overlap too much, the one with the highest score stays."""

import numpy as np

_MATRIX_LIMIT = 96
"""Up to this many boxes all pairs at once are cheaper than one round per box kept."""


def nms(
    xyxy: np.ndarray, score: np.ndarray, class_id: np.ndarray, iou: float, limit: int
) -> np.ndarray:
    """Indices of the boxes that stay, highest score first, ties by position, at most limit.

    xyxy: float32 (n, 4); score: float32 (n,); class_id: int (n,). Greedy and per class: a box goes
    when its IoU with a box that stays, of the same class, is above iou.
    """
    order = np.argsort(-score, kind="stable")
    if len(order) <= _MATRIX_LIMIT:
        return order[_keep_by_matrix(xyxy[order], class_id[order], iou)[:limit]]
    return order[_keep_by_rounds(xyxy[order], class_id[order], iou, limit)]


def _keep_by_matrix(xyxy: np.ndarray, class_id: np.ndarray, iou: float) -> list[int]:
    """Positions that stay, of boxes in order of preference."""
    corners = np.ascontiguousarray(xyxy.T)
    clash = _overlap(corners[:, :, None], corners[:, None], iou)
    clash &= class_id[:, None] == class_id
    gone = np.zeros(len(class_id), bool)
    keep = []
    for i in range(len(gone)):
        if not gone[i]:
            keep.append(i)
            gone |= clash[i]
    return keep


def _keep_by_rounds(xyxy: np.ndarray, class_id: np.ndarray, iou: float, limit: int) -> np.ndarray:
    """Positions that stay. Each round settles the foremost boxes among themselves, then removes
    from the rest all that clash with those that stayed."""
    corners, place = np.ascontiguousarray(xyxy.T), np.arange(len(class_id))
    keep: list[np.ndarray] = []
    kept = 0
    while len(place) and kept < limit:
        front = slice(0, _MATRIX_LIMIT)
        stay = _keep_by_matrix(corners[:, front].T, class_id[front], iou)
        keep.append(place[stay])
        kept += len(stay)
        rest = slice(_MATRIX_LIMIT, None)
        clash = _overlap(corners[:, stay, None], corners[:, None, rest], iou)
        clash &= class_id[stay, None] == class_id[rest]
        left = np.flatnonzero(~clash.any(axis=0)) + _MATRIX_LIMIT
        corners, class_id, place = corners[:, left], class_id[left], place[left]
    return np.concatenate(keep)[:limit] if keep else place


def _overlap(a: np.ndarray, b: np.ndarray, iou: float) -> np.ndarray:
    """Where the IoU of boxes a and b, (4, ...) and broadcast, is above iou; not for empty boxes."""
    width = np.minimum(a[2], b[2])
    width -= np.maximum(a[0], b[0])
    height = np.minimum(a[3], b[3])
    height -= np.maximum(a[1], b[1])
    np.maximum(width, 0, out=width)
    np.maximum(height, 0, out=height)
    width *= height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    union -= width
    # inter / union > iou, without dividing by an empty union
    union *= np.float32(iou)
    return width > union
