"""Read a YOLOv5 checkpoint without running it: no class of it is imported, nothing is called."""

from convert.checkpoint.checkpoint import Checkpoint, read_checkpoint
from convert.checkpoint.tree import Module

__all__ = ["Checkpoint", "Module", "read_checkpoint"]
