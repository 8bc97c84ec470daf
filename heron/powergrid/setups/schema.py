"""The JSON schema of ``config.yml``, for editors and other programs.

It ships as ``schema.json`` beside this file; ``heron setups schema`` prints it. A line
``# yaml-language-server: $schema=...`` at the top of a setup makes an editor check it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, BaseModel

from heron.powergrid.device_configs import DEVICE_CONFIGS
from heron.powergrid.setups.models import SetupConfig

SCHEMA_PATH = Path(__file__).parent / "schema.json"


def json_schema() -> dict[str, Any]:
    """Return the schema: every key in each of its spellings, device keys by device type."""
    schema = SetupConfig.model_json_schema(by_alias=False)
    definitions = schema["$defs"]
    definitions.pop("DeviceConfig", None)
    entry = definitions["DeviceEntry"]
    entry["properties"]["type"]["enum"] = sorted(DEVICE_CONFIGS)
    entry["properties"]["device_state_config"] = {"type": "object"}
    entry["allOf"] = []
    for kind, model in sorted(DEVICE_CONFIGS.items()):
        own = _with_spellings(model)
        definitions.update(own.pop("$defs", {}))
        definitions[model.__name__] = own
        entry["allOf"].append(
            {
                "if": {"properties": {"type": {"const": kind}}},
                "then": {
                    "properties": {"device_state_config": {"$ref": f"#/$defs/{model.__name__}"}}
                },
            }
        )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "Setup",
    }


def json_schema_text() -> str:
    """Return the schema as the text of ``schema.json``."""
    return json.dumps(json_schema(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _with_spellings(model: type[BaseModel]) -> dict[str, Any]:
    """Return a model's schema with every spelling of each key."""
    schema = model.model_json_schema(by_alias=False)
    properties: dict[str, Any] = schema["properties"]
    required: list[str] = schema.get("required", [])
    choices: list[dict[str, Any]] = []
    for name, field in model.model_fields.items():
        alias = field.validation_alias
        if not isinstance(alias, AliasChoices):
            continue
        spellings = [str(choice) for choice in alias.choices]
        for spelling in spellings:
            properties.setdefault(spelling, properties[name])
        if name in required:
            required.remove(name)
            choices.append({"anyOf": [{"required": [spelling]} for spelling in spellings]})
    if choices:
        schema["allOf"] = choices
    return schema
