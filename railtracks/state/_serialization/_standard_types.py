"""The types that come back without an annotation: of the standard library, scalars of numpy, and messages."""

from __future__ import annotations

import sys
from enum import Enum
from functools import lru_cache
from importlib import import_module
from types import MappingProxyType

_STANDARD: dict[str, str] = {
    "array": "array",
    "builtins": (
        "bool bytearray bytes complex dict float frozenset int list mappingproxy memoryview range set slice str tuple"
    ),
    "calendar": "Day Month",
    "collections": "ChainMap Counter OrderedDict UserDict UserList UserString defaultdict deque",
    "datetime": "date datetime time timedelta timezone",
    "decimal": "Decimal",
    "enum": "EnumCheck FlagBoundary",
    "fractions": "Fraction",
    "http": "HTTPMethod HTTPStatus",
    "ipaddress": "IPv4Address IPv4Interface IPv4Network IPv6Address IPv6Interface IPv6Network",
    "pathlib": "PosixPath PurePosixPath PureWindowsPath WindowsPath",
    "re": "Pattern RegexFlag",
    "signal": "Handlers Sigmasks Signals",
    "socket": "AddressFamily AddressInfo MsgFlag SocketKind",
    "ssl": "AlertDescription Options SSLErrorNumber TLSVersion VerifyFlags VerifyMode",
    "types": "SimpleNamespace",
    "urllib.parse": "DefragResult DefragResultBytes ParseResult ParseResultBytes SplitResult SplitResultBytes",
    "uuid": "SafeUUID UUID",
    "zoneinfo": "ZoneInfo",
}
"""The names by module. No other module is ever imported for a name on record."""
_MESSAGES = "railtracks.llm."


def find_standard(path: str) -> type | None:
    """Return the type that a name on record means without any annotation; None for other names."""
    if path.startswith("numpy."):
        return numpy_scalar(getattr(sys.modules.get("numpy"), path[6:], None))
    if path.startswith(_MESSAGES):
        module, name = sys.modules.get(_MESSAGES[:-1]), path.removeprefix(_MESSAGES)
        found = getattr(module, name) if name in getattr(module, "__all__", ()) else None
        return found if isinstance(found, type) else None
    return _find(path) or _loaded_enum(path)


@lru_cache(maxsize=1024)
def _find(path: str) -> type | None:
    module, _, name = path.rpartition(".")
    module = module or "builtins"
    if name not in _STANDARD.get(module, "").split():
        return None
    return MappingProxyType if name == "mappingproxy" else getattr(import_module(module), name, None)


def _loaded_enum(path: str) -> type | None:
    """Return the enum with this name, if a module of the standard library that is loaded has it; None for others."""
    module, _, name = path.rpartition(".")
    if module.partition(".")[0] not in sys.stdlib_module_names:
        return None
    found = vars(sys.modules.get(module, object)).get(name)
    if not isinstance(found, type) or not issubclass(found, Enum):
        return None
    return found if (found.__module__, found.__qualname__) == (module, name) else None


def numpy_scalar(cls: object) -> type | None:
    """Return the class, if its values are scalars of numpy that Python has too; None for others."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(cls, type) or cls.__module__ != "numpy":
        return None
    kinds = (numpy.bool_, numpy.integer, numpy.float16, numpy.float32, numpy.float64, numpy.complex128)
    exact = issubclass(cls, (*kinds, numpy.str_, numpy.bytes_)) and not issubclass(cls, numpy.timedelta64)
    return cls if exact else None
