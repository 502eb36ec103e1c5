"""Input sizes as users write them."""

import re

from runtime.errors import UserError


def parse_size(text: str) -> tuple[int, int]:
    """(width, height) from "640" or "480x640", height first as YOLOv5 has it. Raises UserError."""
    found = re.fullmatch(r"(\d{1,5})(?:[xX,](\d{1,5}))?", text.strip(), re.ASCII)
    if not found:
        raise UserError(f"--size {text} is no size: give one number, or HEIGHTxWIDTH like 480x640")
    height = int(found[1])
    width = int(found[2] or height)
    if not (0 < height <= 16384 and 0 < width <= 16384):
        raise UserError(f"--size {text} is out of range")
    return width, height
