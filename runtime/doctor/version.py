"""Version numbers as the vendor writes them: 2.3.2, 2.0.0b0, 1.5.2+b642f30c, v0.9.8."""

import re
from dataclasses import dataclass

_FORM = re.compile(r"v?(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?(b\d{1,4})?")


@dataclass(frozen=True, order=True)
class Version:
    """A version that can be compared; a beta comes before its release."""

    numbers: tuple[int, int, int]
    beta: tuple[bool, int]

    def __str__(self) -> str:
        behind = "" if self.beta[0] else f"b{self.beta[1]}"
        return ".".join(map(str, self.numbers)) + behind


def parse_version(text: str) -> Version | None:
    """The version a text begins with, None where it begins with none."""
    found = _FORM.match(text)
    if not found:
        return None
    major, minor, patch, beta = found.groups()
    numbers = (int(major), int(minor), int(patch or 0))
    return Version(numbers, (beta is None, int(beta[1:]) if beta else 0))
