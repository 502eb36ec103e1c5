"""The daemon's configuration: one YAML file."""

import ipaddress
import json
import socket
from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from anchors.plain_yaml import load_plain
from runtime.errors import UserError
from runtime.model import read_file
from runtime.options import Name, Options, Seconds, ThresholdOptions
from runtime.secret import Secret
from runtime.sinks.options import AnySink
from runtime.sources.options import AnySource

_LARGEST = 2**20


class EngineOptions(Options):
    """What runs the model, and on what."""

    backend: str = "auto"
    cores: tuple[Annotated[int, Field(ge=0, le=2)], ...] | None = Field(
        default=None, min_length=1, description="of the NPU; all the chip has if none"
    )
    contexts_per_core: int = Field(default=2, gt=0, le=8)
    deadline_s: Seconds = Field(
        default=5, description="a call that takes longer has hung: the process ends with code 3"
    )
    cpus: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        default=None, min_length=1, description="CPUs for this work; [4, 5, 6, 7] are the big ones"
    )

    @field_validator("cores", "cpus")
    @classmethod
    def _distinct(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value and len(set(value)) < len(value):
            raise ValueError("one of them stands there twice")
        return value


def _long_enough(token: Secret) -> Secret:
    if len(token.get_secret_value()) < 16:
        raise ValueError("a token needs at least 16 characters, such as openssl rand -hex 16 gives")
    return token


class HttpOptions(Options):
    """The live page and the API. Beyond loopback every request needs the token."""

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535, description="0 for any free one")
    token: Annotated[Secret, AfterValidator(_long_enough)] | None = None
    stream_rate: float = Field(default=10, gt=0, le=60, description="frames a second of the page")

    @property
    def loopback(self) -> bool:
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @model_validator(mode="after")
    def _guarded(self) -> "HttpOptions":
        if self.token is None and not self.loopback:
            raise ValueError(f"on {self.host} others can reach it: give a token")
        return self


def _board_name() -> str:
    kept = "".join(c if c.isalnum() and c.isascii() else "-" for c in socket.gethostname())
    return kept[:64] or "board"


class Config(Options):
    """All an operator chooses. What is true of the model stands in its bundle."""

    model: Path = Field(description="a bundle's folder, or a model file")
    board: Name = Field(default_factory=_board_name, description="the host's name if none")
    engine: EngineOptions = EngineOptions()
    thresholds: ThresholdOptions = ThresholdOptions()
    sources: tuple[AnySource, ...]
    sinks: tuple[AnySink, ...] = ()
    http: HttpOptions | None = Field(default=None, description="{} for the defaults")
    drain_s: Seconds = Field(default=10, description="at the end, for what is still under way")
    log: Literal["debug", "info", "warning", "error"] = "info"

    @model_validator(mode="after")
    def _named(self) -> "Config":
        names = [source.name for source in self.sources]
        if not names:
            raise ValueError("sources is empty: give at least one")
        _no_twice("sources", names)
        _no_twice("sinks", list(self.sink_names))
        for name, sink in zip(self.sink_names, self.sinks, strict=True):
            unknown = set(sink.sources or ()) - set(names)
            if unknown:
                raise ValueError(f"sink {name}: no source is called {', '.join(sorted(unknown))}")
        return self

    @property
    def sink_names(self) -> tuple[str, ...]:
        """Of each sink its name, its type where it has none."""
        return tuple(sink.name or sink.type for sink in self.sinks)


def _no_twice(what: str, names: list[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"two {what} are called {', '.join(twice)}: give each a name of its own")


def load_config(path: Path) -> Config:
    """Read a configuration. Relative paths in it are relative to the working directory. Raises
    UserError with every problem in it, each with its key's path and without its value."""
    if not path.is_file():
        raise UserError(f"{path} does not exist: give the configuration's YAML file")
    try:
        plain = load_plain(read_file(path, _LARGEST).decode())
    except ValueError as error:  # also what is not UTF-8
        raise UserError(f"{path} cannot be read: {error}") from error
    if not isinstance(plain, dict):
        raise UserError(f"{path} is no configuration: it has no keys such as model and sources")
    try:
        return Config.model_validate(plain)
    except ValidationError as error:
        problems = "; ".join(_problem(item["loc"], item["msg"]) for item in error.errors())
        raise UserError(f"{path}: {problems}") from error


def _problem(keys: tuple[int | str, ...], message: str) -> str:
    """One problem with its key's path, which does not repeat a source's or sink's type."""
    message = message.removeprefix("Value error, ")
    if message == "Extra inputs are not permitted":
        message = "there is no such key"
    if keys[:1] in (("sources",), ("sinks",)) and len(keys) > 2:
        keys = keys[:2] + keys[3:]
    return f"{'.'.join(map(str, keys))}: {message}" if keys else message


def schema() -> str:
    """The configuration's JSON Schema, for editors."""
    return json.dumps(Config.model_json_schema(), indent=1)
