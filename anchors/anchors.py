"""The anchors of a YOLOv5 model: per head a stride and its (width, height) pairs."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class AnchorHead:
    """The anchors of one head.

    stride: input pixels a cell of this head's grid covers, at least 1.
    wh_px:  float32 (na, 2), widths and heights in input pixels, all finite and above 0. Never
            rounded: AutoAnchor gives fractions and the decode needs them.

    Raises ValueError for anything else.
    """

    stride: int
    wh_px: np.ndarray

    def __post_init__(self) -> None:
        with np.errstate(over="ignore"):  # what float32 cannot hold is refused as infinite
            wh_px = np.array(self.wh_px, dtype=np.float32)
        if self.stride < 1:
            raise ValueError(f"stride {self.stride} is below 1")
        if wh_px.ndim != 2 or wh_px.shape[1] != 2 or not len(wh_px):
            raise ValueError(
                f"anchors of stride {self.stride} have shape {wh_px.shape}, not (na, 2)"
            )
        if not (np.isfinite(wh_px).all() and (wh_px > 0).all()):
            raise ValueError(f"anchors of stride {self.stride} are not all finite and above 0")
        wh_px.flags.writeable = False
        object.__setattr__(self, "wh_px", wh_px)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AnchorHead):
            return NotImplemented
        return self.stride == other.stride and np.array_equal(self.wh_px, other.wh_px)


@dataclass(frozen=True)
class Anchors:
    """The heads of a model, ordered by stride, the finest grid first."""

    heads: tuple[AnchorHead, ...]

    def __post_init__(self) -> None:
        strides = [head.stride for head in self.heads]
        if not strides:
            raise ValueError("no heads")
        if strides != sorted(strides):
            raise ValueError(f"heads are not ordered by stride: {strides}")

    @classmethod
    def from_pairs(cls, strides: Iterable[int], wh_px: Iterable[np.ndarray]) -> "Anchors":
        """Anchors of heads that are ordered by stride already."""
        return cls(tuple(AnchorHead(s, wh) for s, wh in zip(strides, wh_px, strict=True)))

    @property
    def strides(self) -> tuple[int, ...]:
        return tuple(head.stride for head in self.heads)

    @property
    def largest_stride(self) -> int:
        return self.heads[-1].stride

    def is_close(self, other: "Anchors", relative: float = 1e-3) -> bool:
        """Whether both have the same strides and anchors up to a relative difference."""
        return self.strides == other.strides and all(
            a.wh_px.shape == b.wh_px.shape and np.allclose(a.wh_px, b.wh_px, rtol=relative, atol=0)
            for a, b in zip(self.heads, other.heads, strict=True)
        )
