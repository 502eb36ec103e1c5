"""The sinks a configuration can name."""

import re
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr

from runtime.mqtt.broker import BrokerOptions
from runtime.options import Fraction, Name, Options, Seconds
from runtime.secret import Secret

_Quality = Annotated[int, Field(gt=0, le=100)]


class SinkOptions(Options, ABC):
    """What every sink has."""

    name: Name | None = Field(default=None, description="the type, if there is only one of it")
    sources: tuple[Name, ...] | None = Field(default=None, description="these only; all if none")
    queue: int = Field(default=64, gt=0, le=10_000, description="results that may wait")
    deadline_s: Seconds = Field(
        default=30, description="a file source waits so long for it, then it is marked dead"
    )

    @property
    @abstractmethod
    def shown(self) -> str:
        """Where its results go, with no secret in it."""


class JsonlOptions(SinkOptions):
    """A line of JSON a frame, in a file or on standard output."""

    type: Literal["jsonl"]
    path: str = Field(description="a file, or - for standard output", min_length=1)
    empty: bool = Field(default=True, description="also frames in which nothing was found")
    rotate_mb: float = Field(default=100, gt=0, description="begin a new file at this size")
    keep: int = Field(default=5, ge=0, description="so many older files")

    @property
    def shown(self) -> str:
        return "standard output" if self.path == "-" else self.path


class VideoOptions(SinkOptions):
    """Annotated videos, one file after the other for each source."""

    type: Literal["video"]
    folder: Path
    minutes: float = Field(default=10, gt=0, description="begin a new file after so many")
    keep: int = Field(default=100, gt=0, description="so many files a source")
    frames_per_second: float = Field(
        default=25, ge=0.1, le=1000, description="of live sources, and of folders of pictures"
    )
    free_mb: float = Field(default=200, ge=0, description="so much of the disk stays free")

    @property
    def shown(self) -> str:
        return str(self.folder)


class SnapshotOptions(SinkOptions):
    """Annotated pictures of frames in which something was found."""

    type: Literal["snapshots"]
    folder: Path
    classes: tuple[str, ...] | None = Field(default=None, description="these only; all if none")
    score: Fraction = Field(default=0, description="only from this score")
    interval_s: float = Field(default=5, ge=0, description="of one source at most one in this time")
    keep: int = Field(default=1000, gt=0, description="so many files a source")
    quality: _Quality = 90

    @property
    def shown(self) -> str:
        return str(self.folder)


class MqttSinkOptions(SinkOptions):
    """Detections to a broker, under PREFIX/BOARD/SOURCE/detections. They wait on disk while the
    broker is away."""

    type: Literal["mqtt"]
    broker: BrokerOptions
    prefix: str = Field(default="rkyolo", pattern=r"^[^+#\x00/]+(/[^+#\x00/]+)*$", max_length=128)
    empty: bool = Field(default=False, description="also frames in which nothing was found")
    outbox: Path = Field(description="the SQLite file in which they wait")
    outbox_limit: int = Field(default=100_000, gt=0, description="events; then the oldest go")
    outbox_mb: float = Field(default=256, gt=0, description="likewise, the size of what they say")
    window: int = Field(default=100, gt=0, le=10_000, description="sent and not yet confirmed")
    home_assistant: Name | None = Field(
        default=None, description="announce the sources under this discovery prefix (homeassistant)"
    )

    @property
    def shown(self) -> str:
        host, port = self.broker.address
        return f"mqtt://{host}:{port}/{self.prefix}"


def _web(url: SecretStr) -> SecretStr:
    try:
        parts = urlsplit(url.get_secret_value())
        ok = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        (parts.hostname or "").encode("idna")
    except ValueError:
        ok = False
    if not ok:
        raise ValueError("it is no address like https://host/path")
    return url


def _sendable(headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
    for name, value in headers.items():
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
            raise ValueError("one of the names is none of a header")
        if name.lower() in ("content-length", "transfer-encoding", "connection"):
            raise ValueError(f"{name} is not free to choose")
        if not re.fullmatch(r"[\t\x20-\x7e\xa0-\xff]*", value.get_secret_value()):
            raise ValueError(f"the value of {name} has characters that no header can have")
    return headers


class WebhookOptions(SinkOptions):
    """Detections by HTTP POST, as JSON, one frame a request."""

    type: Literal["webhook"]
    url: Annotated[Secret, AfterValidator(_web)]
    headers: Annotated[dict[str, Secret], AfterValidator(_sendable)] = Field(default_factory=dict)
    ca: Path | None = Field(default=None, description="certificates to trust; the system's if none")
    empty: bool = Field(default=False, description="also frames in which nothing was found")
    timeout_s: Seconds = Field(default=5, description="for all of a request")

    @property
    def shown(self) -> str:
        # not the path: in it many services have their token
        parts = urlsplit(self.url.get_secret_value())
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


AnySink = Annotated[
    JsonlOptions | VideoOptions | SnapshotOptions | MqttSinkOptions | WebhookOptions,
    Field(discriminator="type"),
]
