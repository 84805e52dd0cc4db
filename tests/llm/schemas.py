"""What the tests of schemas and of arguments share."""

from __future__ import annotations

from typing import Any

from railtracks._schema._schema import SchemaBuilder


def json_schema(annotation: Any) -> dict[str, Any]:
    """Of any type, as it stands in the schemas of tools and of outputs."""
    schemas = SchemaBuilder()
    return schemas.finished(schemas.of(annotation, "what is described"))
