"""What no pickle of a checkpoint needs: too much of something, or what could run code."""

from typing import Any, NoReturn

from convert.checkpoint.allowed import is_key
from runtime.errors import UserError

_MOST_COPIED = 4_000_000
"""Items, or eights of characters, that all operations together may copy from values that are there
already, so that one large value cannot be copied again and again."""

_MOST_NUMBER_KEYS = 20_000
"""Keys other than text: unlike text's, their hashes can be chosen to collide."""

_TEXT = (str, bytes, bytearray)
_SIZED = (*_TEXT, list, tuple, dict, set, frozenset)


class Limits:
    """What one pickle has used up so far. Raises UserError where that is too much; origin names the
    file."""

    def __init__(self, origin: str):
        self._origin = origin
        self._copied = 0
        self._number_keys = 0

    def refuse_size(self) -> NoReturn:
        raise UserError(f"{self._origin} holds a far larger pickle than any YOLOv5 checkpoint")

    def refuse(self, what: str) -> NoReturn:
        raise UserError(
            f"{self._origin} is refused: it asks for {what}, which no YOLOv5 checkpoint needs and"
            " which could run code; do not load this file with torch either"
        )

    def count_copy(self, *values: Any) -> None:
        """Count what an operation copies from values that are there already."""
        sized = [value for value in values if isinstance(value, _SIZED)]
        self._copied += sum(len(v) // 8 if isinstance(v, _TEXT) else len(v) for v in sized)
        if self._copied > _MOST_COPIED:
            self.refuse_size()

    def keys(self, keys: list[Any]) -> list[Any]:
        """Keys as they are; only those that are quick to hash: a deep tuple overflows the stack."""
        for key in keys:
            if not isinstance(key, str):
                self._number_keys += 1
                if not is_key(key):
                    self.refuse(f"a {type(key).__name__} as a key")
        if self._number_keys > _MOST_NUMBER_KEYS:
            self.refuse_size()
        return keys
