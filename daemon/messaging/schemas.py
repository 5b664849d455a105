"""The contract in words that programs read: JSON Schemas of all payloads, and an AsyncAPI 3 document.

Both are made from the payload models and from `contract.CHANNELS` and `verbs.VERBS`, which the service itself goes by.
"""

import importlib.metadata
import json
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from daemon.messaging import topics
from daemon.messaging.commands import CommandPayload
from daemon.messaging.contract import CHANNELS, CONTENT_TYPE, SCHEMA_PROPERTY, Channel
from daemon.messaging.home_assistant import DeviceDiscovery
from daemon.messaging.payloads import SCHEMA_VERSION
from daemon.messaging.verbs import SET_TERMS, VERBS, VerbTerms
from daemon.remote_settings import SETTABLE
from drivers.durable import write_durably
from drivers.errors import ConfigError

ASYNCAPI: Final = "asyncapi.json"
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

_Mode = Literal["validation", "serialization"]
_References = dict[Any, dict[str, Any]]
"""What stands for a model in the document."""


def message_schemas() -> dict[str, dict[str, Any]]:
    """JSON Schemas by the name of their file, without its ending."""
    schemas = {channel.name: _standalone(channel.name, channel.message, "serialization") for channel in CHANNELS}
    commands = {f"command_{verb}": terms.model for verb, terms in VERBS.items()} | {"command_set": SET_TERMS.model}
    schemas |= {name: _standalone(name, model, "validation") for name, model in commands.items()}
    name = "home_assistant_device"
    return schemas | {name: _standalone(name, DeviceDiscovery, "serialization")}


def _standalone(name: str, model: type[BaseModel], mode: _Mode) -> dict[str, Any]:
    schema = model.model_json_schema(mode=mode, by_alias=True)
    return {"$schema": DIALECT, "$id": f"urn:strong-vivarium:mqtt:{name}:{SCHEMA_VERSION}", **schema}


def asyncapi_document() -> dict[str, Any]:
    """The whole contract as an AsyncAPI 3.0.0 document, https://www.asyncapi.com/docs/reference/specification/v3.0.0."""
    models: list[tuple[type[BaseModel], _Mode]] = [(channel.message, "serialization") for channel in CHANNELS]
    commands: dict[type[CommandPayload], None] = dict.fromkeys(terms.model for terms in (*VERBS.values(), SET_TERMS))
    models += [(model, "validation") for model in commands]
    names, definitions = models_json_schema(models, by_alias=True, ref_template="#/components/schemas/{model}")
    references: _References = {model: reference for (model, _), reference in names.items()}
    channels, operations = _published(references)
    for verb, terms in VERBS.items():
        _add_command(channels, operations, verb, verb, terms, references)
    _add_command(channels, operations, "set", f"{topics.SET}{{key}}", SET_TERMS, references)
    channels["commandSet"]["parameters"]["key"] = {"description": "Key of config.toml.", "enum": list(SETTABLE)}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Strong Vivarium",
            "version": importlib.metadata.version("strong-vivarium"),
            "description": "What a box that watches laboratory rats by their heat says by MQTT, and what it is told.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": CONTENT_TYPE,
        "servers": {
            "broker": {
                "host": "{host}:{port}",
                "protocol": "mqtt",
                "protocolVersion": "5",
                "description": "MQTT 5; with a broker that does not know it 3.1.1, without the properties.",
                "variables": {"host": {"default": "127.0.0.1"}, "port": {"default": "1883"}},
            }
        },
        "channels": channels,
        "operations": operations,
        "components": {"schemas": definitions["$defs"]},
    }


def _published(references: _References) -> tuple[dict[str, Any], dict[str, Any]]:
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for channel in CHANNELS:
        key = _camel(channel.name)
        channels[key] = {
            "address": _address(channel.address),
            "description": channel.summary,
            "parameters": _parameters(dict(channel.parameters)),
            "messages": {key: _message(channel, references[channel.message])},
        }
        binding: dict[str, Any] = {"qos": channel.qos, "retain": channel.retained, "bindingVersion": "0.2.0"}
        if channel.expiry_s is not None:
            binding["messageExpiryInterval"] = channel.expiry_s
        operations[f"send{key[0].upper()}{key[1:]}"] = {
            "action": "send",
            "channel": {"$ref": f"#/channels/{key}"},
            "messages": [{"$ref": f"#/channels/{key}/messages/{key}"}],
            "bindings": {"mqtt": binding},
            **_rate(channel),
        }
    return channels, operations


def _message(channel: Channel, payload: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": channel.name,
        "contentType": CONTENT_TYPE,
        "payload": payload,
        "headers": {
            "type": "object",
            "description": "User properties of MQTT 5.",
            "properties": {SCHEMA_PROPERTY: {"type": "string", "const": str(SCHEMA_VERSION)}},
        },
        "bindings": {
            "mqtt": {"payloadFormatIndicator": 1, "contentType": CONTENT_TYPE, "bindingVersion": "0.2.0"},
        },
    }


def _rate(channel: Channel) -> dict[str, Any]:
    if not channel.least_interval_s:
        return {}
    return {"description": f"At most {1 / channel.least_interval_s:g} a second and topic; only the newest counts."}


def _add_command(
    channels: dict[str, Any],
    operations: dict[str, Any],
    verb: str,
    address: str,
    terms: VerbTerms,
    references: _References,
) -> None:
    key = f"command{verb[0].upper()}{verb[1:]}"
    channels[key] = {
        "address": _address(topics.command(address)),
        "description": terms.summary,
        "parameters": _parameters({}),
        "messages": {
            "command": {
                "name": f"command_{verb}",
                "contentType": CONTENT_TYPE,
                "payload": references[terms.model],
            }
        },
    }
    operations[f"receive{key[0].upper()}{key[1:]}"] = {
        "action": "receive",
        "channel": {"$ref": f"#/channels/{key}"},
        "messages": [{"$ref": f"#/channels/{key}/messages/command"}],
        "description": f"Failed when it is not done within {terms.within_s:g} s. Never retained.",
        "bindings": {"mqtt": {"qos": 1, "retain": False, "bindingVersion": "0.2.0"}},
        "reply": {
            "channel": {"$ref": "#/channels/commandResult"},
            "messages": [{"$ref": "#/channels/commandResult/messages/commandResult"}],
        },
    }


def _address(relative: str) -> str:
    return topics.absolute("{box}", relative)


def _parameters(more: dict[str, str]) -> dict[str, Any]:
    return {name: {"description": text} for name, text in {"box": "Name of the box.", **more}.items()}


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def files() -> dict[str, str]:
    """All files of the contract: name and text."""
    texts = {f"{name}.schema.json": schema for name, schema in message_schemas().items()}
    documents: dict[str, dict[str, Any]] = {**texts, ASYNCAPI: asyncapi_document()}
    return {name: json.dumps(document, indent=2, ensure_ascii=False) + "\n" for name, document in documents.items()}


def write_files(directory: Path) -> list[Path]:
    """Write the contract into a directory, which is made if needed.

    Raises
    ------
    ConfigError
        If it cannot be written.
    """
    written = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in files().items():
            write_durably(directory / name, text.encode())
            written.append(directory / name)
    except OSError as error:
        raise ConfigError(f"{directory}: cannot be written: {error.strerror or error}") from error
    return written
