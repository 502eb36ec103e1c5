"""The sources a configuration can name."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator

from runtime.mqtt.agreed import LARGEST_MB, REQUESTS
from runtime.mqtt.broker import BrokerOptions
from runtime.options import Name, Options, Region, Seconds, ThresholdOptions
from runtime.secret import Secret, shown_url

_Side = Annotated[int, Field(gt=0, le=16384)]
_Rate = Annotated[float, Field(gt=0, le=1000)]


class SourceOptions(Options, ABC):
    """What every source has."""

    name: Name
    rate: _Rate | None = Field(default=None, description="at most so many frames a second")
    region: Region = Region()
    thresholds: ThresholdOptions = ThresholdOptions()

    @property
    @abstractmethod
    def shown(self) -> str:
        """Where its pictures come from, with no secret in it."""


class FilesOptions(SourceOptions):
    """Pictures, folders of them, and videos: every frame, in order."""

    type: Literal["files"]
    paths: tuple[Path, ...] = Field(min_length=1)
    repeat: bool = Field(default=False, description="begin again after the last")

    @property
    def shown(self) -> str:
        return ", ".join(map(str, self.paths))


class CameraOptions(SourceOptions):
    """A camera at this board (V4L2)."""

    type: Literal["camera"]
    device: Path = Path("/dev/video0")
    width: _Side | None = None
    height: _Side | None = None
    frames_per_second: _Rate | None = Field(
        default=None, description="what the camera is asked for"
    )
    pixel_format: str | None = Field(
        default=None, pattern=r"^[A-Z0-9]{4}$", description="four letters, like MJPG or YUYV"
    )

    @property
    def shown(self) -> str:
        return str(self.device)


def _rtsp(url: SecretStr) -> SecretStr:
    try:
        parts = urlsplit(url.get_secret_value())
        ok = parts.scheme in ("rtsp", "rtsps") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        ok = False
    if not ok:
        raise ValueError("it is no address like rtsp://host:554/path")
    return url


class RtspOptions(SourceOptions):
    """A network camera, over TCP. A password can stand in the URL, or apart as a secret."""

    type: Literal["rtsp"]
    url: Annotated[Secret, AfterValidator(_rtsp)]
    username: str | None = None
    password: Secret | None = None
    connect_timeout_s: Seconds = 5
    read_timeout_s: Seconds = 5

    @model_validator(mode="after")
    def _whose(self) -> "RtspOptions":
        url_has = urlsplit(self.url.get_secret_value()).username
        if self.password is not None and not (self.username or url_has):
            raise ValueError("there is a password and no username: give both")
        return self

    @property
    def shown(self) -> str:
        scheme, _, place = shown_url(self.url.get_secret_value()).partition("://")
        host, _, path = place.partition("/")
        # some cameras take the password in the path, and "/" in one ends up there
        return f"{scheme}://{host}/..." if set("@=&") & set(path) else f"{scheme}://{place}"


class CommandOptions(SourceOptions):
    """A program that writes raw frames to its standard output, such as a hardware decoder."""

    type: Literal["command"]
    command: tuple[str, ...] = Field(min_length=1, description="the program and its arguments")
    width: _Side
    height: _Side
    pixel_format: Literal["bgr24", "nv12"] = "bgr24"
    read_timeout_s: Seconds = 10

    @field_validator("command", mode="before")
    @classmethod
    def _no_string(cls, value: Any) -> Any:
        if isinstance(value, str):
            raise ValueError("give a list, [program, argument, ...]: no shell reads it")
        return value

    @model_validator(mode="after")
    def _even(self) -> "CommandOptions":
        if self.pixel_format == "nv12" and (self.width % 2 or self.height % 2):
            raise ValueError("nv12 has no odd width or height: give even ones, or use bgr24")
        return self

    @property
    def shown(self) -> str:
        return self.command[0]


class MqttSourceOptions(SourceOptions):
    """Pictures that any client publishes: the boards that subscribe share them, and answer."""

    type: Literal["mqtt"]
    broker: BrokerOptions
    topic: str = Field(default=REQUESTS, pattern=r"^[^+#\x00]{1,256}$")
    group: Name = Field(default="rkyolo", description="the boards of one group share the pictures")
    window: int = Field(default=4, gt=0, le=1000, description="pictures taken at a time")
    largest_mb: float = Field(default=LARGEST_MB, gt=0, le=250, description="of an encoded picture")
    largest_megapixels: float = Field(default=32, gt=0, le=1000, description="of a decoded one")
    answer_prefix: str = Field(
        default="", max_length=256, description="answer only to topics that begin with it"
    )

    @property
    def shown(self) -> str:
        host, port = self.broker.address
        return f"mqtt://{host}:{port}/{self.topic}"


AnySource = Annotated[
    FilesOptions | CameraOptions | RtspOptions | CommandOptions | MqttSourceOptions,
    Field(discriminator="type"),
]
