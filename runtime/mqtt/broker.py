"""A broker: where it is, and how to be let in."""

import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from runtime.errors import UserError
from runtime.options import Options, Seconds
from runtime.secret import Secret

if TYPE_CHECKING:
    from paho.mqtt.client import Client


class TlsOptions(Options):
    """How the broker proves itself, and this client where the broker asks for that."""

    ca: Path | None = Field(default=None, description="certificates to trust; the system's if none")
    certificate: Path | None = Field(default=None, description="this client's own")
    key: Path | None = Field(default=None, description="that one's; in the same file if none")

    @model_validator(mode="after")
    def _key_of_something(self) -> "TlsOptions":
        if self.key is not None and self.certificate is None:
            raise ValueError("a key is of use with its certificate only: give that too")
        return self


class BrokerOptions(Options):
    host: str = Field(min_length=1)
    port: int | None = Field(default=None, gt=0, le=65535, description="1883, or 8883 with TLS")
    username: str | None = None
    password: Secret | None = None
    tls: TlsOptions | None = Field(default=None, description="{} for TLS with the system's trust")
    keepalive_s: Seconds = 30

    @model_validator(mode="after")
    def _password_of_somebody(self) -> "BrokerOptions":
        if self.password is not None and self.username is None:
            raise ValueError("a password is of use with its username only: give that too")
        return self

    @property
    def address(self) -> tuple[str, int]:
        return self.host, self.port or (8883 if self.tls else 1883)


def new_client(broker: BrokerOptions, client_id: str) -> "Client":
    """A client of MQTT 5 for that broker, not connected yet. client_id: "" lets the broker choose.

    Raises UserError where a certificate cannot be read.
    """
    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

    client = Client(
        CallbackAPIVersion.VERSION2, client_id=client_id, protocol=MQTTProtocolVersion.MQTTv5
    )
    if broker.username is not None:
        password = broker.password.get_secret_value() if broker.password else None
        client.username_pw_set(broker.username, password)
    if broker.tls is not None:
        client.tls_set_context(_tls_context(broker.tls))
    return client


def _tls_context(tls: TlsOptions) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=tls.ca)
        if tls.certificate:
            context.load_cert_chain(tls.certificate, tls.key)
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"the broker's TLS certificates cannot be used: {reason}") from error
    return context
