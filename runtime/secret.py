"""Secrets in a configuration: named by environment variable or file, and never shown."""

import os
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BeforeValidator, SecretStr, WithJsonSchema

_LARGEST = 65536


def _resolved(value: Any) -> Any:
    """The secret that {"env": NAME} or {"file": PATH} names; a plain string as it is."""
    if not isinstance(value, dict):
        return value
    if len(value) != 1 or not {"env", "file"} & set(value):
        raise ValueError("give {env: NAME}, {file: PATH} or the text itself")
    ((kind, name),) = value.items()
    if not isinstance(name, str) or not name:
        raise ValueError(f"{kind} must be a name")
    return _from_environment(name) if kind == "env" else _from_file(Path(name))


def _from_environment(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise ValueError(f"the environment variable {name} is not set")
    return value


def _from_file(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as stream:
            value = stream.read(_LARGEST).strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise ValueError(f"the secret's file {path} cannot be read: {reason}") from error
    if not value:
        raise ValueError(f"the secret's file {path} is empty")
    return value


def _named_by(key: str, what: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {key: {"type": "string", "description": what}},
        "required": [key],
        "additionalProperties": False,
    }


Secret = Annotated[
    SecretStr,
    BeforeValidator(_resolved),
    WithJsonSchema(
        {
            "anyOf": [
                _named_by("env", "the environment variable that holds it"),
                _named_by("file", "the file that holds it"),
                {"type": "string"},
            ]
        }
    ),
]
"""In YAML {env: NAME} or {file: PATH}, or the text itself; str() of it shows asterisks only."""


def shown_url(url: str) -> str:
    """A URL without what may be secret in it: user, password, query and fragment."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"
