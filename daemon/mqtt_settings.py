"""`[mqtt]` of the config."""

from typing import Literal

from pydantic import Field

from daemon.section import Section
from daemon.setting_kinds import Address, FilePath


class MqttSettings(Section):
    """The way to other programs."""

    enabled: bool = True
    """Whether to publish at all; the service is whole without."""
    broker: Literal["embedded", "external"] = "embedded"
    """embedded starts a small broker inside the service; use external with Mosquitto in production."""
    host: Address = "127.0.0.1"
    """Address of the broker (embedded: address to listen on)."""
    port: int = Field(1883, ge=1, le=65535)
    """Port of the broker."""
    username: str | None = None
    """User name; the password is taken from the environment variable VIVARIUM_MQTT_PASSWORD, or from the credential
    mqtt_password of the installed service."""
    tls: bool = False
    """Whether to use TLS."""
    ca_file: FilePath | None = None
    """Certificate authority that signed the broker's certificate; the system's when left out."""
    certificate_file: FilePath | None = None
    """Client certificate."""
    key_file: FilePath | None = None
    """Key of the client certificate."""
    protocol: Literal["auto", "5", "3.1.1"] = "auto"
    """auto speaks MQTT 5 and falls back to 3.1.1 with a broker that does not know it."""
    keep_alive_s: int = Field(20, ge=5, le=600)
    """A silent connection is given up after one and a half times so long."""
    outbox_limit: int = Field(100_000, ge=100)
    """Events kept for a broker that is away; the oldest of the lowest priority give way, counted."""
    commands: bool = True
    """Whether to take commands: whoever may publish below vivarium/<box>/command/ can close the shutter, record, change
    thresholds for a while and have this file read again."""
    home_assistant: bool = True
    """Whether to announce the box to Home Assistant, as one device."""
    discovery_prefix: str = Field("homeassistant", pattern=r"^[A-Za-z0-9_-]{1,64}$")
    """The topic that Home Assistant looks below, as it is set up there."""
