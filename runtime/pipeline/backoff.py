"""How long to wait before trying again."""

import random


class Backoff:
    """Waits that double from first_s to longest_s, each shortened at random by up to half, so that
    many who lost the same thing do not come back at once."""

    def __init__(self, longest_s: float, first_s: float = 0.25):
        self._longest_s = longest_s
        self._first_s = first_s
        self._tries = 0

    def next_s(self) -> float:
        """Seconds to wait now."""
        # the bound on the exponent keeps the power finite after months
        whole = min(self._longest_s, self._first_s * 2.0 ** min(self._tries, 30))
        self._tries += 1
        return whole * random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """It worked: begin with the shortest wait again."""
        self._tries = 0
