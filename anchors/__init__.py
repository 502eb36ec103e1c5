"""What anchors are, for the host and for the board: the type and the presets."""

from anchors.anchors import AnchorHead, Anchors
from anchors.presets import PRESETS, preset_of

__all__ = ["PRESETS", "AnchorHead", "Anchors", "preset_of"]
