"""What schemathesis does not know by itself of our contract; `contract.py` has it loaded by the hooks of schemathesis.

- Bytes and events are read, so that their answers can be held to more than a status.
- A request that fits the schema may be refused for what a schema cannot say, and for that only.
- Every event of a stream has a name that the operation lists in `x-sse-events`, and JSON of that schema.
"""

from __future__ import annotations

import itertools
import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import schemathesis
import yaml

ROOT = Path(__file__).resolve().parents[2]

MAGIC = {
    "image/png": (0, b"\x89PNG\r\n\x1a\n"),
    "image/jpeg": (0, b"\xff\xd8\xff"),
    "image/webp": (8, b"WEBP"),
}
"""How files of these types begin: at which byte, and with what."""

BEYOND_A_SCHEMA = {
    "invalid_value": {"size", "width", "height", "num_inference_steps", "steps", "step", "resolution_binning", "n"},
    "too_costly": {None},
    "idempotency_key_reused": {"Idempotency-Key"},
}
"""Refusals with 422 that depend on the model, the limits or an earlier request, and the fields that they may name."""

unique = itertools.count()


@schemathesis.hook
def map_case(context: Any, case: Any) -> Any:
    """The key of the document's example would be the same one for all requests: each gets its own."""
    headers = case.headers or {}
    if headers.get("Idempotency-Key") == "2026-11-23-invoice-cover-1":
        headers["Idempotency-Key"] = f"2026-11-23-invoice-cover-{next(unique)}"
    return case


@schemathesis.deserializer(*MAGIC)
def picture(context: Any, response: Any) -> str:
    """A picture, for the schema `type: string, format: binary`."""
    return response.content.decode("latin-1")


@schemathesis.check
def pictures_are_what_their_type_says(context: Any, response: Any, case: Any) -> None:
    media_type = response.headers.get("content-type", [""])[0]
    if media_type in MAGIC:
        at, magic = MAGIC[media_type]
        assert response.content[at:].startswith(magic), f"{media_type} begins with {response.content[:16]!r}"


@schemathesis.check
def valid_data_is_refused_only_for_what_a_schema_cannot_say(context: Any, response: Any, case: Any) -> None:
    if response.status_code != 422 or not case.meta.generation.mode.is_positive:
        return
    error = response.json()["error"]
    allowed = BEYOND_A_SCHEMA.get(error["code"], set())
    assert error["param"] in allowed, f"{error['code']} of {error['param']}: {error['message']}"


@schemathesis.check
def events_have_the_names_and_schemas_of_the_contract(context: Any, response: Any, case: Any) -> None:
    if not response.headers.get("content-type", [""])[0].startswith("text/event-stream"):
        return
    validators = event_validators(case.operation.definition.raw["operationId"])
    last = ""
    for name, data in events(response.content.decode()):
        assert name in validators, f"an event '{name}' is not in x-sse-events"
        validators[name].validate(json.loads(data))
        last = name
    assert last.rpartition(".")[2] in ("completed", "error"), f"the stream ended with '{last}'"


def events(text: str) -> list[tuple[str, str]]:
    """Name and data of each event; comments are skipped."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
        if fields:
            found.append((fields.get("event", ""), fields.get("data", "")))
    return found


@cache
def event_validators(operation_id: str) -> dict[str, Any]:
    """A validator for each event of an operation, by its name."""
    document = yaml.safe_load((ROOT / "openapi.yaml").read_text(encoding="utf-8"))
    for path in document["paths"].values():
        for operation in path.values():
            if isinstance(operation, dict) and operation.get("operationId") == operation_id:
                schemas = operation["responses"]["200"]["content"]["text/event-stream"]["x-sse-events"]
                return {
                    name: jsonschema_rs.Draft202012Validator(schema | {"components": document["components"]})
                    for name, schema in schemas.items()
                }
    raise KeyError(operation_id)
