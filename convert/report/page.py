"""One file that holds a whole page: markup, style, plots and pictures, and asks for nothing."""

import base64
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from runtime import __version__


def render(template: str, **values: Any) -> str:
    """A page. Every value is text, and escaped, but for Markup that this project made."""
    environment = Environment(
        loader=PackageLoader("convert.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = Markup(environment.get_template("style.css").render())  # our own file
    return environment.get_template(template).render(style=style, version=__version__, **values)


def jpeg_uri(data: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


def sentence(text: str) -> str:
    """A message with a capital, unless it begins with a name, and a full stop."""
    first = text.split(" ", 1)[0]
    text = text[:1].upper() + text[1:] if first.isalpha() else text
    return text if text.endswith((".", "!", "?")) else f"{text}."
