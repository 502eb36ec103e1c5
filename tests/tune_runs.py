"""The folder of a search, and the name its processes carry."""

from pathlib import Path

MARK = "TUNED_BUNDLE"
"""An environment variable."""


def work_of(bundle: Path) -> Path:
    """Where rkyolo tune keeps the trials of a bundle."""
    return bundle.with_name(f"{bundle.name}.tune")
