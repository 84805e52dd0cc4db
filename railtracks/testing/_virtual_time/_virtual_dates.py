"""What stands for ``datetime`` and ``date`` in modules of users while a virtual world is there.

The classes in the module ``datetime`` stay as they are: pickle looks there for the class of each value, and refuses
values of another one. So only the names in the modules of users are replaced, and values are of the real classes.
"""

from __future__ import annotations

import copyreg
import datetime
import pkgutil
from types import ModuleType
from typing import Any

from railtracks.testing._virtual_time._world import World, world_of_caller


class _StandInType(type):
    """The class of the stand-ins: these are equal to the real classes, and what is made with them is real."""

    real: type

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return cls.real(*args, **kwargs)

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> Any:
        if any(isinstance(base, _StandInType) for base in bases):  # a subclass that a user makes
            real = tuple(base.real if isinstance(base, _StandInType) else base for base in bases)
            return type(real[0])(name, real, namespace)
        return super().__new__(mcs, name, bases, namespace)

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, cls.real)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass.real if isinstance(subclass, _StandInType) else subclass, cls.real)

    def __eq__(cls, other: object) -> bool:
        return other is cls or other is cls.real

    def __hash__(cls) -> int:
        return hash(cls.real)

    def __getattr__(cls, name: str) -> Any:
        return getattr(cls.real, name)

    def __repr__(cls) -> str:
        return repr(cls.real)


def _wall(world: World | None) -> float | None:
    return None if world is None else world.clock.wall


class VirtualDateTime(metaclass=_StandInType):
    """Stands for ``datetime.datetime``."""

    real = datetime.datetime

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
        """Return the local time, or that of a time zone, in the world of the caller."""
        wall = _wall(world_of_caller())
        return datetime.datetime.now(tz) if wall is None else datetime.datetime.fromtimestamp(wall, tz)

    @classmethod
    def today(cls) -> datetime.datetime:
        """Return the local time in the world of the caller."""
        wall = _wall(world_of_caller())
        return datetime.datetime.now() if wall is None else datetime.datetime.fromtimestamp(wall)  # noqa: DTZ005, DTZ006

    @classmethod
    def utcnow(cls) -> datetime.datetime:
        """Return the time of UTC in the world of the caller, without a time zone."""
        wall = _wall(world_of_caller())
        now = datetime.datetime.now(datetime.UTC) if wall is None else _in_utc(wall)
        return now.replace(tzinfo=None)


def _in_utc(wall: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(wall, datetime.UTC)


class VirtualDate(metaclass=_StandInType):
    """Stands for ``datetime.date``."""

    real = datetime.date

    @classmethod
    def today(cls) -> datetime.date:
        """Return the local date in the world of the caller."""
        wall = _wall(world_of_caller())
        return datetime.date.today() if wall is None else datetime.date.fromtimestamp(wall)  # noqa: DTZ011, DTZ012


def _reduce(cls: _StandInType) -> Any:
    return pkgutil.resolve_name, (f"datetime:{cls.real.__name__}",)


copyreg.pickle(_StandInType, _reduce)


class _VirtualDateTimeModule(ModuleType):
    """Stands for the module ``datetime``."""

    def __getattr__(self, name: str) -> Any:
        return getattr(datetime, name)


def _module() -> ModuleType:
    module = _VirtualDateTimeModule("datetime", datetime.__doc__)
    module.datetime = VirtualDateTime  # type: ignore[attr-defined]
    module.date = VirtualDate  # type: ignore[attr-defined]
    return module


DATES: list[tuple[Any, Any]] = [
    (datetime.datetime, VirtualDateTime),
    (datetime.date, VirtualDate),
    (datetime, _module()),
]
"""What is replaced in modules of users, and what stands for it."""
