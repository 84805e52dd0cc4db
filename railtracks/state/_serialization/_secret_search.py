"""The search for secrets in values that are not written, so that they are known when a text is."""

from __future__ import annotations

from typing import Any, cast

from railtracks.state._redaction._redactor import Redactor
from railtracks.state._redaction._secret_names import is_secret_key
from railtracks.state._serialization._classify import SCALAR_IDS, Kind, classify_value
from railtracks.state._serialization._contents import members_of
from railtracks.state._serialization._encoder import Encoder
from railtracks.state._serialization._plain_data import MAX_DEPTH, MAX_PARTS
from railtracks.state._serialization._redacted_values import are_pairs, named_value


def register_secrets(value: object, redactor: Redactor) -> None:
    """Add to the redactor all values in ``value`` that a key or ``Secret`` marks as secrets.

    Only what contains other values is searched, as the encoder would write it. No repr is called, and no hook of a
    registered type. Never raises.
    """
    _search(value, redactor, MAX_DEPTH, {})


def _search(value: object, redactor: Redactor, depth: int, seen: dict[int, object]) -> None:
    try:
        if id(type(value)) in SCALAR_IDS or not depth or id(value) in seen or len(seen) > MAX_PARTS:
            return
        seen[id(value)] = value  # kept, so that no other value has its id
        classified = classify_value(value)
        if classified.kind is Kind.SECRET:
            Encoder(redactor).mask(value)
            return
        members = members_of(value, classified)
        if are_pairs(value):
            members = cast("list[tuple[Any, Any]]", value)
        elif (secret := named_value(value)) is not None:
            Encoder(redactor).mask(cast("dict[str, Any]", value)[secret])
        for key, item in members:
            if key is not None and item is not None and is_secret_key(key):
                Encoder(redactor).mask(item)
                continue
            for part in (key, item):
                if id(type(part)) not in SCALAR_IDS:  # checked here, as most are scalars, and a call costs more
                    _search(part, redactor, depth - 1, seen)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # an attribute of a user's object may raise; what it contains is not known then
        return
