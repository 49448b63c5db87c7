"""JSON Schemas of records, and the keys that they describe: one sentence each, from the record's fields."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from oathbound.core.record import Record
from oathbound.evidence.predicates import PREFIX

_Field = core_schema.ModelField | core_schema.DataclassField | core_schema.TypedDictField

MOST: Final = 2**53 - 1
"""The largest integer of canonical JSON: no limit worth saying."""

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
DECIMAL: Final = r"^-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,40})?(e-?[1-9][0-9]?)?$"
_BOUNDS: Final = {"gt": "greater than", "ge": "at least", "lt": "less than", "le": "at most"}
_LIMITS: Final = {
    "exclusiveMinimum": "greater than {}",
    "minimum": "at least {}",
    "exclusiveMaximum": "less than {}",
    "maximum": "at most {}",
    "minItems": "at least {} entries",
    "maxItems": "at most {} entries",
    "multipleOf": "a multiple of {}",
}
_NAMES: Final = {
    "^[a-z][a-z0-9-]{0,62}$": "name",
    "^sha256:[0-9a-f]{64}$": "digest",
    DECIMAL: "decimal text",
}


class _Input(GenerateJsonSchema):
    """Exact numbers are decimal text; JSON Schema cannot bound those, so a comment says the bounds."""

    def decimal_schema(self, schema: core_schema.DecimalSchema) -> JsonSchemaValue:
        bounds = {
            "gt": schema.get("gt"),
            "ge": schema.get("ge"),
            "lt": schema.get("lt"),
            "le": schema.get("le"),
        }
        said = ", ".join(f"{_BOUNDS[key]} {bound}" for key, bound in bounds.items() if bound is not None)
        return {"type": "string", "pattern": DECIMAL} | ({"$comment": said} if said else {})


class _Output(_Input):
    """Every key of an answer is always there, and keys that are not known yet may come."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        return {
            key: each for key, each in super().model_schema(schema).items() if key != "additionalProperties"
        }

    def field_is_required(self, field: _Field, total: bool) -> bool:  # noqa: ARG002 - as it is overridden
        return True


def schema_of(record: type[Record], name: str, *, output: bool = False) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a record, as it is read or, for `output`, as it is written."""
    schema = record.model_json_schema(schema_generator=_Output if output else _Input)
    return {"$schema": DIALECT, "$id": f"{PREFIX}schema/{name}", **schema}


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a file: where it stands, what it may be, and its sentence."""

    path: str
    kind: str
    text: str


def keys_of(schema: Mapping[str, Any]) -> Iterator[Key]:
    """Yield every key of a schema's objects, in order; tables before what they hold."""
    yield from _keys(schema, schema.get("$defs", {}), "")


def _keys(node: Mapping[str, Any], defs: Mapping[str, Any], path: str) -> Iterator[Key]:
    for name, field in node.get("properties", {}).items():
        tables = list(_tables(field, defs))
        text = field.get("description") or " ".join(table.get("description", "") for table in tables)
        yield Key(path + name, _kind(field, defs), " ".join(text.split()))
        inner: dict[str, list[Key]] = {}
        for key in (key for table in tables for key in _keys(table, defs, f"{path}{name}.")):
            inner.setdefault(key.path, []).append(key)
        yield from map(_merged, inner.values())


def _merged(keys: Sequence[Key]) -> Key:
    """Return one key of those of one path in several tables, of which a file holds one."""
    kinds = " or ".join(dict.fromkeys(key.kind for key in keys))
    texts = {key.text: key.kind for key in keys}
    said = keys[0].text if len(texts) == 1 else " ".join(f"{kind}: {text}" for text, kind in texts.items())
    return Key(keys[0].path, kinds, said)


def _tables(field: Mapping[str, Any], defs: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the tables that a field may hold: itself, one of several, or entries of a list."""
    if "properties" in field:
        yield field
    elif "$ref" in field:
        yield from _tables(_target(field, defs), defs)
    elif isinstance(field.get("items"), dict):
        yield from _tables(field["items"], defs)
    for choice in (*field.get("anyOf", ()), *field.get("oneOf", ())):
        yield from _tables(choice, defs)


def _target(field: Mapping[str, Any], defs: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = defs[field["$ref"].rpartition("/")[2]]
    return found


def _kind(field: Mapping[str, Any], defs: Mapping[str, Any]) -> str:
    """Return in a few words what a field may be."""
    if "$ref" in field:
        inner = _target(field, defs)
        return "table" if "properties" in inner else _kind(inner, defs)
    if values := field.get("enum") or [field[key] for key in ("const",) if key in field]:
        return " or ".join(map(_quoted, values))
    if choices := field.get("anyOf") or field.get("oneOf"):
        said = [_kind(choice, defs) for choice in choices if choice.get("type") != "null"]
        optional = len(said) < len(choices)
        return " or ".join(dict.fromkeys(said)) + (", optional" if optional else "")
    if field.get("type") == "array":
        return _array(field, defs)
    if field.get("type") == "object":
        values = field.get("additionalProperties")
        return f"table: to each key, {_kind(values, defs)}" if isinstance(values, dict) else "table"
    said_kind = _NAMES.get(
        field.get("pattern", ""), "text" if field.get("type") == "string" else field["type"]
    )
    return ", ".join([said_kind, *_limits(field)])


def _array(field: Mapping[str, Any], defs: Mapping[str, Any]) -> str:
    if "prefixItems" in field:
        return "list: " + "; ".join(_kind(item, defs) for item in field["prefixItems"])
    return ", ".join([f"list of {_kind(field['items'], defs)}", *_limits(field)])


def _limits(field: Mapping[str, Any]) -> Iterator[str]:
    if "$comment" in field:
        yield field["$comment"]
    for key, words in _LIMITS.items():
        if key in field and field[key] != MOST:
            yield words.format(field[key])


def _quoted(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)
