"""Head maps with known objects in them, for decode tests and the benchmark."""

import numpy as np

from anchors import PRESETS
from runtime.decode import Tensor
from runtime.manifest import PARTS, Facts, HeadFacts, InputFacts


def facts_of(anchors=PRESETS["coco-p5"], wh=(640, 640), classes=80, activation="none", channels=3):
    """Facts of a model with these anchors."""
    heads = tuple(
        HeadFacts(output=f"head{i}", stride=h.stride, anchors_px=h.wh_px.tolist())
        for i, h in enumerate(anchors.heads)
    )
    return Facts(
        input=InputFacts(width=wh[0], height=wh[1], channels=channels),
        heads=heads,
        activation=activation,
        class_names=tuple(f"thing{i}" for i in range(classes)),
    )


def split(facts, tensors):
    """The facts with split heads, and the tensors of their outputs."""
    facts, parts = facts.model_copy(update={"outputs": "split"}), []
    for i, tensor in enumerate(tensors):
        planes = tensor.array.reshape(len(facts.heads[i].anchors_px), -1, *tensor.array.shape[2:])
        for (_, shape), part in zip(facts.tensors_of(i), PARTS.values(), strict=True):
            array = np.ascontiguousarray(planes[:, part].reshape(shape))
            parts.append(Tensor(array, tensor.scale, tensor.zero_point))
    return facts, parts


def _logit(p):
    return np.log(p) - np.log1p(-p)


NEIGHBOURS = np.array([[0, 0], [-1, 0], [0, -1], [1, 0], [0, 1]])


def scene(facts, objects, candidates, rng):
    """Logit head maps in which objects are each seen by candidates / objects places.

    Every place of an object sits in a cell beside its centre and says the object's box, to half
    a pixel or so, as a trained head does. The background is far below any threshold.
    """
    shapes = [facts.head_shape(i) for i in range(len(facts.heads))]
    maps = [rng.normal(-8, 1, shape).astype(np.float32) for shape in shapes]
    width, height = facts.input.wh
    anchors = facts.anchors.heads
    for _ in range(objects):
        head = anchors[rng.integers(len(anchors))]
        wh = head.wh_px[rng.integers(len(head.wh_px))] * rng.uniform(0.3, 0.9, 2)
        centre = rng.uniform(0.1, 0.9, 2) * (width, height)
        label = rng.integers(facts.classes)
        # an anchor can say up to four times its size, and a cell centres up to half a cell outside
        places = [
            (level, a, x, y)
            for level, head in enumerate(anchors)
            for a, awh in enumerate(head.wh_px)
            if (wh / awh < 3.8).all() and (awh / wh < 20).all()
            for x, y in np.floor(centre / head.stride).astype(int) + NEIGHBOURS
            if (np.abs(centre / head.stride - (x, y) - 0.5) < 0.9).all()
        ]
        for i in rng.permutation(len(places))[: candidates // objects]:
            level, a, x, y = places[i]
            head, (_, _, ny, nx) = anchors[level], shapes[level]
            x, y = min(max(x, 0), nx - 1), min(max(y, 0), ny - 1)
            planes = maps[level].reshape(len(head.wh_px), -1, ny, nx)
            q_xy = (centre / head.stride - (x, y) + 0.5 + rng.normal(0, 0.5, 2) / head.stride) / 2
            q_wh = np.sqrt(wh * rng.normal(1, 0.02, 2) / head.wh_px[a]) / 2
            planes[a, :4, y, x] = _logit(np.clip(np.concatenate((q_xy, q_wh)), 0.01, 0.99))
            planes[a, 4, y, x] = rng.uniform(0.5, 4)
            planes[a, 5 + label, y, x] = rng.uniform(2, 5)
    return [Tensor(m) for m in maps]
