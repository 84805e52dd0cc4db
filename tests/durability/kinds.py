"""Pairs of values that differ only in what is easily forgotten, by what that is."""

from __future__ import annotations

import datetime
import re
import signal
import types
import uuid
from array import array
from collections import ChainMap, Counter, OrderedDict, UserDict, UserList, UserString, defaultdict, deque
from decimal import Decimal
from http import HTTPMethod, HTTPStatus
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from urllib.parse import urlparse, urlsplit
from zoneinfo import ZoneInfo

from tests.state import seeing
from tests.state.seeing import with_note

BERLIN, PARIS = ZoneInfo("Europe/Berlin"), ZoneInfo("Europe/Paris")
HOUR = datetime.timedelta(hours=1)
NOON = datetime.datetime(2026, 1, 1, 12)  # noqa: DTZ001


def private(value: Any) -> seeing.Extra:
    return seeing.extra({"x": 1}, value)


def late(given: Any) -> seeing.Late:
    return seeing.late(1, given, 3)


TWINS: dict[str, tuple[Any, Any]] = {
    "extra field": (seeing.Extra.model_validate({"price": 10}), seeing.Extra.model_validate({"price": 99})),
    "fields that were set": (seeing.Model(x=1), seeing.Model(x=1, y=1)),
    "private attribute": (private(1), private(2)),
    "root model": (seeing.Root([1]), seeing.Root([2])),
    "aliased model": (seeing.Aliased(xAlias=1), seeing.Aliased(xAlias=2)),
    "validator that is not idempotent": (seeing.Strange(x=1), seeing.Strange(x=[1])),
    "generic model": (seeing.Generically[int](x=1), seeing.Generically[int](x=2)),
    "attribute of a dataclass": (with_note(seeing.Plain(1), 1), with_note(seeing.Plain(1), 2)),
    "field that the class has": (seeing.Late(1), late(7)),
    "attribute of an attrs class": (with_note(seeing.OpenAttrs(1), 1), seeing.OpenAttrs(1)),
    "attribute of a text": (with_note(seeing.OpenText("a"), 1), with_note(seeing.OpenText("a"), 2)),
    "slot of a text": (with_note(seeing.SlottedText("a"), 1), with_note(seeing.SlottedText("a"), 2)),
    "attribute of a number": (with_note(seeing.OpenNumber(1), 1), with_note(seeing.OpenNumber(1), 2)),
    "attribute of a list": (with_note(seeing.OpenList([1]), 1), with_note(seeing.OpenList([1]), (1,))),
    "attribute of a dict": (with_note(seeing.OpenDict(a=1), 1), with_note(seeing.OpenDict(a=1), None)),
    "attribute of a tuple": (with_note(seeing.OpenTuple([1]), 1), with_note(seeing.OpenTuple([1]), 2)),
    "attribute of a named tuple": (with_note(seeing.OpenPair(1, 2), 1), with_note(seeing.OpenPair(1, 2), 2)),
    "attribute of a set": (with_note(seeing.OpenSet({1}), 1), with_note(seeing.OpenSet({1}), 2)),
    "mapping of one's own": (seeing.Table({"a": 1}, "kg"), seeing.Table({"a": 1}, "lb")),
    "text that is a dataclass": (seeing.Named("a"), seeing.Named("b")),
    "maxlen of a deque": (deque([1], 3), deque([1], 4)),
    "factory of a defaultdict": (defaultdict(list, a=1), defaultdict(int, a=1)),
    "order of an ordered dict": (OrderedDict(a=1, b=2), OrderedDict(b=2, a=1)),
    "layers of a chain map": (ChainMap({"a": 1}, {"b": 1}), ChainMap({"a": 1, "b": 1})),
    "kind of a mapping": (UserDict(a=1), Counter(a=1)),
    "what a proxy shows": (types.MappingProxyType({"a": 1}), types.MappingProxyType(OrderedDict(a=1))),
    "name of a time zone": (NOON.replace(tzinfo=BERLIN), NOON.replace(tzinfo=PARIS)),
    "zone or offset": (NOON.replace(tzinfo=BERLIN), NOON.replace(tzinfo=datetime.timezone(HOUR))),
    "name of an offset": (
        NOON.replace(tzinfo=datetime.timezone(HOUR)), NOON.replace(tzinfo=datetime.timezone(HOUR, "CET"))
    ),
    "fold": (NOON, NOON.replace(fold=1)),
    "zone of a time": (datetime.time(1, tzinfo=BERLIN), datetime.time(1, tzinfo=PARIS)),
    "places of types": ([Decimal(1), "1"], ["1", Decimal(1)]),
    "places of containers": ([(1,), [2]], [[1], (2,)]),
    "types of keys": ({uuid.UUID(int=1): 1}, {str(uuid.UUID(int=1)): 1}),
    "member of an enum": (seeing.Color.PAIR, seeing.Color.LIST),
    "flags": (seeing.Right.READ, seeing.Right.READ | seeing.Right.WRITE),
    "timedelta": (datetime.timedelta(1), datetime.timedelta(2)),
    "bytearray": (bytearray(b"x"), b"x"),
    "complex": (1j, complex(-0.0, 1)),
    "range": (range(0, 3, 2), range(0, 4, 2)),
    "windows path": (PureWindowsPath("C:\\x"), PurePosixPath("C:\\x")),
    "path": (Path("a"), Path("b")),
    "subclass of the annotation": (seeing.OpenPair(1, 2), seeing.Pair(1, 2)),
    "huge number": (2**2000, 2**2000 + 1),
    "negative zero": (0.0, -0.0),
    "address": (ip_address("10.0.0.1"), "10.0.0.1"),
    "scope of an address": (ip_address("fe80::1"), ip_address("fe80::1%eth0")),
    "network": (ip_network("10.0.0.0/8"), ip_interface("10.0.0.0/8")),
    "prefix of an interface": (ip_interface("fe80::1/10"), ip_interface("fe80::1/11")),
    "attribute of a network": (with_note(ip_network("10.0.0.0/8"), 1), ip_network("10.0.0.0/8")),
    "flags of a pattern": (re.compile("a"), re.compile("a", re.IGNORECASE)),
    "kind of a pattern": (re.compile("a"), re.compile(b"a")),
    "slice": (slice(1, 2), slice(1, 2, 1)),
    "namespace": (types.SimpleNamespace(a=(1,)), types.SimpleNamespace(a=[1])),
    "namespace or dict": (types.SimpleNamespace(a=1), {"a": 1}),
    "type of an array": (array("i", [1]), array("h", [1])),
    "number or text": (HTTPStatus.OK, 200),
    "method": (HTTPMethod.GET, "GET"),
    "flags of the library": (re.IGNORECASE | re.MULTILINE, re.IGNORECASE),
    "signal": (signal.SIGINT, signal.SIGTERM),
    "zone": (BERLIN, PARIS),
    "offset": (datetime.timezone(HOUR), datetime.timezone(HOUR, "CET")),
    "zero offset": (datetime.UTC, datetime.timezone(datetime.timedelta(0), "UTC")),
    "list of the user": (UserList([1]), [1]),
    "text of the user": (UserString("a"), "a"),
    "parts of an address": (urlsplit("http://a/b"), urlparse("http://a/b")),
    "infinity": (float("inf"), float("-inf")),
    "number or truth": (1, True),
    "number with a point": (1, 1.0),
    "set of sets": ({frozenset({1}), frozenset({2})}, {frozenset({1, 2})}),
}  # fmt: skip
