"""Secrets stay out of everything a session writes: state, journal, log file and log records.

The property plants a secret by one road, lets it out by others, and then looks through every byte that was written, and
that stood in a file at any time meanwhile, for the secret in any form that it can be read from.
"""

import base64
import contextlib
import dataclasses
import functools
import json
import logging
import os
import stat
import tempfile
from collections import namedtuple
from pathlib import Path

import attrs
import pydantic
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import railtracks as rt
from railtracks.exceptions import ConfigError
from railtracks.state import FileStore, SQLiteStore
from tests import virtual
from tests.conftest import BACKENDS
from tests.effort import examples

SECRET = "Qz7-hunter2"

# ---- a folder and the log records, and what can be read in them


class Watched:
    """A folder, and all that was ever seen in its files, and the log records that an application's handler gets."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.seen = []
        self.handler = logging.Handler()
        self.handler.setFormatter(logging.Formatter("%(message)s"))
        self.handler.emit = lambda record: self.seen.append(self.handler.format(record).encode("utf-8", "replace"))

    def __enter__(self):
        logging.getLogger("RT").addHandler(self.handler)
        return self

    def __exit__(self, *_):
        logging.getLogger("RT").removeHandler(self.handler)

    def look(self):
        for path in self.folder.rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # it was removed just now
                if path.is_file():
                    self.seen.append(path.read_bytes())

    def shows(self, secret):
        self.look()
        return [form for form in forms(secret) for content in self.seen if form in content]


def quoted(text):
    return {
        text, repr(text)[1:-1], repr(f"'{text}\"")[3:-2], json.dumps(text)[1:-1],
        json.dumps(text, ensure_ascii=False)[1:-1],
    }  # fmt: skip


def base64_cores(data):
    """What stands in the base64 of anything that contains the data, wherever in it."""
    for before in range(3):
        core = base64.b64encode(bytes(before) + data)[4 if before else 0 :]
        yield core[: (len(data) - 3) // 3 * 4].rstrip(b"=")


def forms(secret):
    """The bytes from which someone could read the secret."""
    texts = [secret] if isinstance(secret, str) else [repr(secret)[2:-1], secret.decode("latin-1")]
    if isinstance(secret, bytes):
        with contextlib.suppress(UnicodeDecodeError):
            texts.append(secret.decode())
    data = secret.encode() if isinstance(secret, str) else secret
    found = {data, *base64_cores(data)}
    for text in texts:
        for once in quoted(text):
            found.update(twice.encode("utf-8", "replace") for twice in quoted(once))
    return {form for form in found if len(form) >= 6}


# ---- how a session comes to know a secret


@attrs.define
class AnAttrs:
    password: object
    user: str = "ada"


@dataclasses.dataclass
class ADataclass:
    api_key: object


class Model(pydantic.BaseModel):
    accessToken: object


ANamedTuple = namedtuple("ANamedTuple", "user token")  # noqa: PYI024 (as old code writes them)

HOLDERS = [
    lambda s: {"password": s}, lambda s: {"X-Api-Key": [s]}, lambda s: {"credentials": {"user": "u", "password": s}},
    AnAttrs, ADataclass, lambda s: Model(accessToken=s), lambda s: ANamedTuple("u", s), rt.Secret,
    lambda s: rt.Secret({"deep": [s]}), lambda s: {7: s, "secret": s},
]  # fmt: skip
WRAPS = [
    lambda v: {"a": v}, lambda v: [1, v], lambda v: (v, "x"), lambda v: {7: v}, lambda v: AnAttrs("unused-1", v),
    lambda v: ANamedTuple(v, "unused-2"),
]  # fmt: skip


@rt.function_node
async def login(password):
    return len(password)


@rt.function_node
def login_in_a_thread(user, api_key):
    return user


@rt.function_node
async def use(value, more=None):
    return 1


class Login(rt.nodes.Node):
    def __init__(self, user, access_token):
        self.size = len(access_token)

    async def invoke(self):
        return self.size


class Client:
    async def login(self, user, password):
        return user

    async def __call__(self, user, password):
        return user


def put(key, value):
    rt.context.put(key, value)
    return key


async def put_in_node(key, value):
    await rt.call(lambda: put(key, value))


ROADS = {
    "positional": lambda s, holder: rt.call(login, s),
    "positional, in a thread": lambda s, holder: rt.call(login_in_a_thread, "u", s),
    "keyword": lambda s, holder: rt.call(login, password=s),
    "beside a keyword": lambda s, holder: rt.call(login_in_a_thread, api_key=s, user="u"),
    "class": lambda s, holder: rt.call(Login, "u", s),
    "class, keyword": lambda s, holder: rt.call(Login, access_token=s, user="u"),
    "method": lambda s, holder: rt.call(Client().login, "u", s),
    "object": lambda s, holder: rt.call(Client(), "u", s),
    "partial": lambda s, holder: rt.call(functools.partial(login_in_a_thread, "u"), s),
    "bound by a partial": lambda s, holder: rt.call(functools.partial(login_in_a_thread, "u", s)),
    "keyword of a partial": lambda s, holder: rt.call(functools.partial(login_in_a_thread, api_key=s), "u"),
    "batch": lambda s, holder: rt.call_batch(login, [s]),
    "nested": lambda s, holder: rt.call(use, holder),
    "nested, keyword": lambda s, holder: rt.call(use, value=1, more=holder),
    "result": lambda s, holder: rt.call(lambda: holder),
    "result before the arguments show it": lambda s, holder: rt.call(use, s, holder),
    "context": lambda s, holder: put_in_node("settings", holder),
    "context, by its key": lambda s, holder: put_in_node("password", s),
}

# ---- how it gets out


class Odd:
    def __init__(self, value):
        self.value = value

    def __repr__(self):
        return f"<Odd {self.value!r}>"


def text_of(secret):
    return secret if isinstance(secret, str) else repr(secret)


def as_bytes(secret):
    return secret.encode() if isinstance(secret, str) else secret


def fail(error, cause=None, note=None):
    if note is not None:
        error.add_note(note)
    raise error from cause


WAYS = {
    "itself": lambda s: rt.call(lambda: s),
    "in a text": lambda s: rt.call(lambda: f"<{text_of(s)}>"),
    "quoted": lambda s: rt.call(lambda: f"it is {s!r}"),
    "as json": lambda s: rt.call(lambda: json.dumps({"k": text_of(s)})),
    "in a list": lambda s: rt.call(lambda: [1, (s,), {"k": {s}}]),
    "as a key": lambda s: rt.call(lambda: {s: 1, 2: s}),
    "as bytes": lambda s: rt.call(lambda: b"x" + as_bytes(s) + b"y"),
    "in a repr": lambda s: rt.call(lambda: Odd(s)),
    "in a repr of a dict": lambda s: rt.call(lambda: Odd({"k": [s]})),
    "as an argument": lambda s: rt.call(use, s, [s]),
    "as a keyword": lambda s: rt.call(use, value=f"{s}!", more={"k": s}),
    "message": lambda s: rt.call(lambda: fail(ValueError(f"bad: {s}"))),
    "quoted message": lambda s: rt.call(lambda: fail(KeyError(s))),
    "cause": lambda s: rt.call(lambda: fail(ValueError("x"), cause=ValueError(s))),
    "note": lambda s: rt.call(lambda: fail(ValueError("x"), note=f"note: {s}")),
    "group": lambda s: rt.call(lambda: fail(ExceptionGroup("g", [ValueError(repr(s))]))),
    "context": lambda s: put_in_node("note", f"<{text_of(s)}>"),
    "key of the context": lambda s: put_in_node(f"of {text_of(s)}", 1),
    "broadcast": lambda s: rt.broadcast(s),
    "bound": lambda s: rt.call(functools.partial(use, text_of(s))),
}

# ---- the property


@attrs.frozen
class Plan:
    secret: object
    road: str
    wraps: tuple
    holder: int
    ways: tuple
    durability: str = "async"
    store: str = "file"
    backend: str = "asyncio"

    def held(self):
        value = HOLDERS[self.holder](self.secret)
        for wrap in self.wraps:
            value = WRAPS[wrap](value)
        return value


letters = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=18)
marked_texts = st.tuples(letters | st.text("'\"\\\n\t/+=é🔑 ", max_size=8), letters).map("Qz7-".join)
secret_texts = marked_texts.map(lambda text: text if len(text) > 7 else f"{text}wxyz")
secret_bytes = st.binary(max_size=20).map(lambda data: b"Qz7-" + data + b"wxyz") | secret_texts.map(str.encode)
plans = st.builds(
    Plan,
    secret=secret_texts | secret_bytes,
    road=st.sampled_from([*ROADS, "initial context", "initial context, by its key", "context outside calls"]),
    wraps=st.lists(st.integers(0, len(WRAPS) - 1), max_size=9).map(tuple),
    holder=st.integers(0, len(HOLDERS) - 1),
    ways=st.lists(st.sampled_from(list(WAYS)), min_size=1, max_size=6).map(tuple),
    durability=st.sampled_from(["async", "sync", "exit"]),
    store=st.sampled_from(["file", "file", "sqlite"]),
    backend=st.sampled_from(BACKENDS),
)


async def play(plan, watched, store, resume):
    """One session: the secret comes to be known, then it gets out in all ways, the callbacks included."""
    secret = plan.secret
    known = []

    def callback(_):
        if known:
            raise ValueError(f"callback with {secret!r}")

    def payload_callback(payload):
        watched.seen.append(json.dumps(payload).encode())
        raise RuntimeError(secret)

    context = {"region": "eu"}
    if plan.road == "initial context":
        context["settings"] = plan.held()
    if plan.road == "initial context, by its key":
        context["password"] = secret
    session = rt.Session(
        context, store=store, durability=plan.durability, log_file=watched.folder / "log.txt",
        logging_setting="VERBOSE", payload_callback=payload_callback, broadcast_callback=callback,
        run_identifier="run", resume=resume,
    )  # fmt: skip

    async def agent():
        if plan.road in ROADS:
            await ROADS[plan.road](secret, plan.held())
        known.append(True)
        for way in plan.ways:
            with contextlib.suppress(Exception):
                await WAYS[way](secret)
            watched.look()
        return [f"all in all {text_of(secret)}", secret]

    async with session:
        session.subscribe(callback)
        if plan.road == "context outside calls":
            rt.context.put("settings", plan.held())
        await rt.call(agent)
        watched.seen.append(session.info.graph_serialization().encode())


def leaks(plan):
    """What can be read of the secret of a plan, wherever it was written, when it was played and then resumed."""
    with tempfile.TemporaryDirectory() as folder, Watched(folder) as watched:
        path = watched.folder / "state"
        store = FileStore(path) if plan.store == "file" else SQLiteStore(path / "runs.sqlite")
        for resume in (None, "run"):
            virtual.run(plan.backend, play, plan, watched, store, resume)
        shown = watched.shows(plan.secret)
        if plan.store == "sqlite":
            store.close()
        return shown


@settings(examples(80), suppress_health_check=[HealthCheck.too_slow])
@given(plans)
@example(Plan("Qz7-'\"\\é\n", "positional", (), 0, tuple(WAYS)))
@example(Plan(b"Qz7-\xff\x00'\"\n", "keyword", (), 0, tuple(WAYS), "sync", "sqlite"))
def test_no_written_byte_shows_a_secret(plan):
    """No byte that is written shows a secret that the session has seen."""
    assert leaks(plan) == []


@pytest.mark.parametrize("durability", ["async", "exit"])
@pytest.mark.parametrize("road", [*ROADS, "initial context", "initial context, by its key", "context outside calls"])
def test_secret_is_known_by_whichever_road_it_comes(road, durability):
    """By whichever road it comes, a secret is known from then on."""
    assert leaks(Plan(SECRET, road, (0, 1), 0, ("in a text", "message"), durability)) == []


@pytest.mark.parametrize("holder", range(len(HOLDERS)))
@pytest.mark.parametrize("road", ["nested", "result", "context", "initial context"])
def test_secret_is_known_in_whichever_holder_it_comes(road, holder):
    """In whichever holder it comes, a secret is known from then on."""
    assert leaks(Plan(SECRET, road, (0, 4), holder, ("in a text",))) == []


@pytest.mark.parametrize("secret", [SECRET, "Qz7-'\"\\é🔑\n", b"Qz7-bytes", b"Qz7-\xff\x00\xc3"], ids=ascii)
@pytest.mark.parametrize("way", WAYS)
def test_secret_is_masked_in_whichever_way_it_gets_out(way, secret):
    assert leaks(Plan(secret, "positional", (), 0, (way,))) == []


def test_the_search_would_find_what_is_not_masked():
    for secret in (SECRET, "Qz7-'\"\\é\n", b"Qz7-\xff\x00'"):
        for way in set(WAYS) - {"broadcast"}:
            assert leaks(Plan(secret, "none", (), 0, (way,))) != [], way


# ---- without a state


async def test_unsaved_session_keeps_secrets_out_of_log_and_payload(tmp_path):
    """Secrets of a session that is not saved are kept out of the log and the payload too."""
    payloads = []

    def payload_callback(payload):
        payloads.append(payload)
        raise RuntimeError(SECRET)

    async def agent():
        await rt.call(login, SECRET)
        await rt.call(login, password=f"{SECRET}-2")
        return [SECRET, f"{SECRET}-2"]

    with Watched(tmp_path) as watched:
        async with rt.Session(save_state=False, log_file="log.txt", payload_callback=payload_callback) as session:
            await rt.call(agent)
        assert watched.shows(SECRET) == []
    assert "RuntimeError" in Path("log.txt").read_text()
    assert SECRET not in json.dumps(payloads) + session.info.graph_serialization()


async def test_info_saved_by_hand_shows_no_secret():
    async with rt.Session(save_state=False) as session:
        await rt.call(login, SECRET)
    session.info.save("copy.json")
    assert SECRET not in Path("copy.json").read_text()


# ---- what nodes and callers get


class Received(list):
    def take(self, *args, **kwargs):
        self.append((args, kwargs))
        return args[0] if args else None


async def test_nodes_and_callers_get_the_real_values():
    got = Received()

    async def node(password, *, api_key, config):
        got.take(password, api_key, config, rt.context.get("token"))
        return {"password": password}

    async with rt.Session({"token": SECRET}, run_identifier="run") as session:
        marked, config = rt.Secret(SECRET), {"secret": [SECRET]}
        result = await rt.call(node, SECRET, api_key=marked, config=config)
        assert await rt.call(lambda value: value.value, rt.Secret(SECRET)) == SECRET
    assert got == [((SECRET, marked, {"secret": [SECRET]}, SECRET), {})]
    assert got[0][0][1] is marked
    assert config == {"secret": [SECRET]}
    assert result == {"password": SECRET}
    assert session.info.records[0].args == (SECRET,)
    assert SECRET not in Path(".railtracks/run.json").read_text()


async def test_call_whose_secret_was_masked_runs_again_on_resume():
    got = Received()

    async def fetch(token):
        return got.take(token)

    for resume in (None, "run"):
        async with rt.Session(run_identifier="run", resume=resume):
            assert await rt.call(fetch, SECRET) == SECRET
    assert len(got) == 2


async def test_events_and_broadcasts_carry_the_real_values():
    items = []
    async with rt.Session(broadcast_callback=items.append, save_state=False) as session:
        session.subscribe(lambda event: items.append(event.args), kinds=(rt.state.CallCreated,))
        await rt.call(login, SECRET)
        await rt.broadcast(SECRET)
    assert sorted(items, key=str) == sorted([(SECRET,), SECRET], key=str)


# ---- parameters


def flat(tokens, *passwords, secret=None):
    return 1


def same(func):
    @functools.wraps(func)
    def run(*args, **kwargs):
        return func(*args, **kwargs)

    return run


class WithDecoratedInit(rt.nodes.Node):
    @same
    def __init__(self, user, api_key):
        pass

    async def invoke(self):
        return 1


@attrs.define
class AttrsNode(rt.nodes.Node):
    user: str
    password: str

    async def invoke(self):
        return 1


class Methods:
    def method(self, user, password):
        return 1

    @classmethod
    def of_class(cls, user, password):
        return 1

    @staticmethod
    def static(user, password):
        return 1

    @rt.function_node
    def node(self, user, password):
        return 1

    def __call__(self, user, password):
        return 1


def two(user, password, /):
    return 1


async def two_async(user, password="x"):
    return 1


TAKERS = {
    "function": two, "async": two_async, "node": rt.function_node(two), "decorated": same(two),
    "twice": same(same(two)), "lambda": lambda user, password: 1, "cached": functools.lru_cache(two),
    "partial": functools.partial(two),
    "partial of a node": functools.partial(rt.function_node(two_async)), "method": Methods().method,
    "classmethod": Methods.of_class, "static": Methods.static, "node as a method": Methods().node, "object": Methods(),
    "class": Login, "attrs class": AttrsNode, "partial of a class": functools.partial(Login),
    "class whose init is decorated": WithDecoratedInit, "partial of a method": functools.partial(Methods().method),
}  # fmt: skip


@pytest.mark.parametrize("taker", TAKERS.values(), ids=TAKERS.keys())
async def test_positional_argument_named_as_a_secret_is_masked(taker):
    """A positional argument whose parameter names a secret is masked."""
    async with rt.Session() as session:
        await rt.call(taker, "ada", SECRET)
    assert session.payload()["runs"][0]["edges"][0]["details"]["input_args"] == ["ada", "***"]


async def test_variable_arguments_named_as_secrets_are_masked():
    """The arguments of a variable parameter that names a secret are masked."""
    async with rt.Session() as session:
        await rt.call(flat, "shown", SECRET, f"{SECRET}-2", secret="s")
    details = session.payload()["runs"][0]["edges"][0]["details"]
    assert (details["input_args"], details["input_kwargs"]) == (["shown", "***", "***"], {"secret": "***"})


async def test_positional_secret_that_is_none_is_written_as_none():
    """A positional secret that is None is written as None, as it is for a keyword."""
    async with rt.Session() as session:
        await rt.call(use, 1)
        await rt.call(two, "ada", None)
        await rt.call(two_async, user="ada", password=None)
    _, positional, keyword = (run["edges"][0]["details"] for run in session.payload()["runs"])
    assert positional["input_args"] == ["ada", None]
    assert keyword["input_kwargs"] == {"user": "ada", "password": None}


async def test_secret_name_registered_later_counts_for_positionals():
    """A secret name that is registered later counts for positional arguments too."""

    def pay(card_number):
        return 1

    node = rt.function_node(pay)
    async with rt.Session() as session:
        await rt.call(node, "4111-1111")
        rt.state.register_secret_keys("card_number")
        await rt.call(node, "4222-2222")
    args = [run["edges"][0]["details"]["input_args"] for run in session.payload()["runs"]]
    assert args == [["4111-1111"], ["***"]]


@pytest.mark.parametrize(
    "bound",
    [
        functools.partial(two, "ada", SECRET), functools.partial(two_async, user="ada", password=SECRET),
        functools.partial(functools.partial(two, "ada"), SECRET), functools.partial(use, rt.Secret(SECRET)),
        functools.partial(Login, "ada", SECRET), AnAttrs(SECRET).__eq__,
    ],
)  # fmt: skip
@pytest.mark.parametrize("durability", ["async", "exit"])
async def test_secret_bound_to_a_node_is_masked_in_its_key(bound, durability, tmp_path):
    if bound.__class__ is not functools.partial:
        bound = functools.partial(bound, 1)
    with Watched(tmp_path) as watched:
        async with rt.Session(durability=durability):
            await rt.call(bound)
            watched.look()
        assert watched.shows(SECRET) == []


# ---- what is not hidden


async def test_nothing_but_secrets_is_masked():
    def node(max_tokens, author, text):
        return {"max_tokens": max_tokens, "author": author, "text": text, "primary_key": 7, "count": 123456}

    async with rt.Session({"password": "test", "pin_token": 123456, "token": object()}) as session:
        result = await rt.call(node, 4096, "Ada", "a test of an object with 12345 parts, a TestCase")
        await rt.call(login, password="short")
        await rt.call(lambda: "a short object")
    assert [record.result for record in rt.state.load_run(session.identifier).records] == [result, 5, "a short object"]
    assert rt.state.load_run(session.identifier).records[0].args == (4096, "Ada", result["text"])


async def test_secrets_of_one_session_are_not_masked_in_another():
    async with rt.Session() as one:
        await rt.call(login, SECRET)
    async with rt.Session() as other:
        await rt.call(lambda: f"what was {SECRET} there")
    assert SECRET not in json.dumps(one.payload())
    assert other.payload()["runs"][0]["edges"][0]["details"]["output"] == f"what was {SECRET} there"


# ---- log records in the hands of applications


class Collecting(logging.Handler):
    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)


@pytest.fixture
def collected():
    handler = Collecting()
    logging.getLogger("RT").addHandler(handler)
    yield handler.records
    logging.getLogger("RT").removeHandler(handler)


async def fail_in_a_callback():
    def payload_callback(_):
        try:
            raise KeyError(SECRET)
        except KeyError as exc:
            raise RuntimeError(f"no {SECRET}") from exc

    async with rt.Session(payload_callback=payload_callback, log_file="log.txt"):
        await rt.call(login, SECRET)


async def test_a_log_record_is_masked_for_whatever_handler_gets_it(collected):
    await fail_in_a_callback()
    (record,) = (record for record in collected if record.exc_text)
    assert "RuntimeError" in record.exc_text
    for text in (record.exc_text, record.getMessage(), repr(record.msg), repr(record.args)):
        assert SECRET not in text
    for formatter in (
        logging.Formatter(),
        logging.Formatter("%(message)s %(exc_text)s"),
        logging.Formatter("{msg}", style="{"),
    ):
        assert SECRET not in formatter.format(record)
    assert SECRET not in Path("log.txt").read_text()


async def test_handler_that_formats_the_exception_shows_no_secret(collected):
    """A handler that formats the exception by itself does not show the secret.

    As those for JSON and for error trackers do: they look at ``exc_info``, not at ``exc_text``.
    """
    await fail_in_a_callback()
    for record in collected:
        assert not record.exc_info or SECRET not in logging.Formatter().formatException(record.exc_info)


async def test_a_log_record_without_secrets_keeps_its_exception(collected):
    def payload_callback(_):
        raise RuntimeError("plain")

    async with rt.Session(payload_callback=payload_callback):
        pass
    assert [str(record.exc_info[1]) for record in collected if record.exc_info] == ["plain"]


# ---- the files themselves


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def no_umask():
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.parametrize("durability", ["async", "sync", "exit"])
@pytest.mark.parametrize("store", ["file:deep/er/state", "sqlite:deep/er/runs.sqlite", None])
async def test_folders_and_files_are_readable_by_their_owner_alone(store, durability, no_umask, tmp_path):
    """Folders and files are readable by their owner alone, during the run and after it."""

    def modes():
        found = {path.relative_to(tmp_path): mode(path) for path in tmp_path.rglob("*")}
        return {str(path): oct(value) for path, value in found.items() if value not in (0o600, 0o700)}

    async with rt.Session(store=store, durability=durability, run_identifier="run"):
        await rt.call(login, SECRET)
        assert modes() == {}
        assert list(tmp_path.rglob("*"))
    assert modes() == {}


async def test_home_and_folders_above_it_are_readable_by_their_owner(no_umask, tmp_path, monkeypatch):
    """The home folder and the folders made above it are readable by their owner alone."""
    monkeypatch.setenv("RAILTRACKS_HOME", str(tmp_path / "a" / "b"))
    async with rt.Session():
        pass
    assert [oct(mode(tmp_path / part)) for part in ("a", "a/b")] == ["0o700", "0o700"]


# ---- identifiers that lead elsewhere

BAD = [
    "../x", "..", "a/b", "/abs", "a\\b", "C:x", ".", "", " ", "x" * 300, "con", "CON.txt", "nul", "com1",
    "a\0b", "a\nb", ".hidden", "-rf", "x.", "é", "~", "a:b", "%2e%2e", "x*",
]  # fmt: skip
bad = pytest.mark.parametrize("identifier", BAD, ids=lambda text: ascii(text)[:12])


@bad
def test_identifier_that_is_not_a_file_name_is_refused(identifier, tmp_path):
    """An identifier that is not a plain file name is refused everywhere."""
    flow = rt.Flow("Flow", entry_point=login)
    for attempt in (
        lambda: rt.Session(run_identifier=identifier),
        lambda: rt.Session(resume=identifier),
        lambda: rt.Session(resume=identifier, run_identifier="fine"),
        lambda: rt.Flow("Flow", entry_point=login, run_identifier=identifier),
        lambda: flow.resume(identifier),
        lambda: flow.fork(identifier, before=login),
        lambda: rt.state.load_run(identifier),
        lambda: rt.set_config(run_identifier=identifier),
    ):
        with pytest.raises(ConfigError):
            attempt()
    assert list(tmp_path.rglob("*")) == []


@bad
def test_identifier_of_the_environment_is_checked_too(identifier, monkeypatch):
    if "\0" in identifier or not identifier:
        pytest.skip("the environment cannot hold it, or takes it as not set")
    monkeypatch.setenv("RAILTRACKS_RUN_IDENTIFIER", identifier)
    with pytest.raises(ConfigError, match="RAILTRACKS_RUN_IDENTIFIER"):
        rt.Session()


@bad
async def test_name_that_is_not_a_file_name_stays_in_the_folder(identifier, tmp_path):
    if not identifier:
        pytest.skip("a name is not empty")
    async with rt.Session(name=identifier):
        pass
    assert {path.parent.name for path in tmp_path.rglob("*") if path.is_file()} == {".railtracks"}


@bad
async def test_aresume_refuses_an_identifier_that_is_not_a_file_name(identifier):
    with pytest.raises(ConfigError):
        await rt.Flow("Flow", entry_point=login).aresume(identifier)
