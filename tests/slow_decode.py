"""The decode and the suppression in their most obvious form, which the fast ones must equal."""

import numpy as np


def grid(facts, tensors):
    """Every place of every head map: xyxy (n, 4), objectness (n,), class scores (n, nc), float32,
    and the best class (n,); anchor-major, then row, then column.

    The best class is that of the highest logit, since of high logits float32 makes equal scores.
    """
    boxes, objectness, classes, best = [], [], [], []
    for head, tensor in zip(facts.anchors.heads, tensors, strict=True):
        real = (tensor.array.astype(np.float32) - tensor.zero_point) * np.float32(tensor.scale)
        ny, nx = real.shape[2:]
        q = real.reshape(len(head.wh_px), 5 + facts.classes, ny, nx)
        if facts.activation == "none":
            with np.errstate(over="ignore"):
                q = 1 / (1 + np.exp(-q))
        row, column = np.mgrid[:ny, :nx]
        x = (2 * q[:, 0] - 0.5 + column) * head.stride
        y = (2 * q[:, 1] - 0.5 + row) * head.stride
        w = (2 * q[:, 2]) ** 2 * head.wh_px[:, 0, None, None]
        h = (2 * q[:, 3]) ** 2 * head.wh_px[:, 1, None, None]
        corners = np.stack((x - w / 2, y - h / 2, x + w / 2, y + h / 2), axis=-1)
        boxes.append(corners.reshape(-1, 4))
        objectness.append(q[:, 4].ravel())
        classes.append(np.moveaxis(q[:, 5:], 1, -1).reshape(-1, facts.classes))
        best.append(real.reshape(q.shape)[:, 5:].argmax(axis=1).ravel())
    return tuple(map(np.concatenate, (boxes, objectness, classes, best)))


def candidates(facts, tensors, thresholds):
    """(xyxy, score, class) of every candidate, place by place, in each class by class."""
    wanted = [thresholds.classes is None or n in thresholds.classes for n in facts.class_names]
    least = [np.float32(thresholds.class_score.get(n, thresholds.score)) for n in facts.class_names]
    lowest = min((t for t, w in zip(least, wanted, strict=True) if w), default=1)
    found = []
    for box, objectness, scores, best in zip(*grid(facts, tensors), strict=True):
        if not objectness > lowest:
            continue
        for i in range(facts.classes) if thresholds.multi_label else [best]:
            score = objectness * scores[i]
            if wanted[i] and score > least[i] and np.isfinite(box).all():
                found.append((box, score, i))
    xyxy = np.array([f[0] for f in found], np.float32).reshape(-1, 4)
    return xyxy, np.array([f[1] for f in found], np.float32), np.array([f[2] for f in found], int)


def overlap(a, b):
    """The IoU of two boxes, 0 where both are empty."""
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union if union > 0 else 0.0


def suppress(xyxy, score, class_id, iou, limit):
    """Indices of the boxes that greedy suppression keeps, one box after the other."""
    boxes = xyxy.astype(float).tolist()
    keep = []
    for i in sorted(range(len(score)), key=lambda i: -score[i]):
        rivals = (j for j in keep if class_id[j] == class_id[i])
        if all(overlap(boxes[i], boxes[j]) <= iou for j in rivals):
            keep.append(i)
    return keep[:limit]
