"""The slow, obvious decode: every cell of every head, one after the other."""

import math

import numpy as np


def full_grid(maps, facts):
    """float32 (N, 5 + nc): centre x, centre y, width, height in input pixels, then objectness and
    class scores in 0 to 1. Heads in order; within one, by anchor, then row, then column.

    maps: one a head, (1, na * (5 + nc), ny, nx), as facts.activation says.
    """
    return np.array(
        [row for i, one in enumerate(maps) for row in _head(one[0], facts, i)], np.float32
    )


def _head(channels, facts, index):
    head = facts.heads[index]
    each = 5 + facts.classes
    _, ny, nx = channels.shape
    for a, (anchor_w, anchor_h) in enumerate(head.anchors_px):
        for row in range(ny):
            for column in range(nx):
                value = channels[a * each : (a + 1) * each, row, column].astype(np.float64)
                q = value if facts.activation == "sigmoid" else _sigmoid(value)
                yield [
                    (2 * q[0] - 0.5 + column) * head.stride,
                    (2 * q[1] - 0.5 + row) * head.stride,
                    math.pow(2 * q[2], 2) * anchor_w,
                    math.pow(2 * q[3], 2) * anchor_h,
                    *q[4:],
                ]


def _sigmoid(value):
    return np.array([1 / (1 + math.exp(-v)) for v in value])
