"""A helper that the tests of schemas and of arguments share."""

from __future__ import annotations

from typing import Any

from railtracks._schema._builder import SchemaBuilder


def json_schema(annotation: Any) -> dict[str, Any]:
    """Return the schema of a type as it stands in the schemas of tools and of outputs."""
    schemas = SchemaBuilder()
    return schemas.finished(schemas.of(annotation, "what is described"))
