"""The converter from parsed JSON to the classes of a state file."""

from __future__ import annotations

from functools import cache
from typing import NewType

import cattrs

Value = NewType("Value", object)
"""The type of fields that contain whatever a user passed or returned."""


@cache
def converter(detailed_validation: bool = True) -> cattrs.Converter:
    """Return the converter that structures a document. It is made when it is first needed.

    Args:
        detailed_validation: Whether its errors name the place of the wrong data; structuring takes twice as long then.
    """
    made = cattrs.Converter(detailed_validation=detailed_validation)
    made.register_structure_hook(Value, lambda data, _: data)  # decoded later; the data itself is needed too
    return made
