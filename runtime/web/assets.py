"""The page's files, which lie beside this one in page/."""

from functools import cache
from importlib.resources import files

PUBLIC = {
    "/": ("index.html", "text/html"),
    "/style.css": ("style.css", "text/css"),
    "/script.js": ("script.js", "text/javascript"),
    "/parts.js": ("parts.js", "text/javascript"),
    "/pictures.js": ("pictures.js", "text/javascript"),
    "/show.js": ("show.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
"""Of each address its file and type."""


@cache
def asset(name: str) -> bytes:
    """A file of the page."""
    return files("runtime.web").joinpath("page", name).read_bytes()
