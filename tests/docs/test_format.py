"""The page on the format of saved runs agrees with what is written."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
import sqlite3
import zlib
from pathlib import Path

import anyio
import attrs
import pytest
from sybil import Document as Page
from sybil.parsers.markdown import PythonCodeBlockParser

import railtracks as rt
from railtracks import _identifiers, state
from railtracks.agents import _attributes
from railtracks.state import ExecutionInfo, FileStore, Form, MemoryStore, Reason, SQLiteStore, Status
from railtracks.state._document import _graph as document
from railtracks.state._document._writer import DOCUMENT_BEGINS, VERSION, encoded
from railtracks.state._journal._format import HEADER_BEGINS, attempt_entry, encode_entries, entries_of, header_entry
from railtracks.state._records import PolicyFacts
from railtracks.state._redaction import _secret_names as redact
from railtracks.state._serialization._former_text import former_types
from railtracks.state._stores._headers import HEADER_BYTES
from railtracks.state._transitions import RTState
from railtracks.testing import ScriptedModel
from tests import virtual
from tests.postgres import needs_postgres, schema_of, server, store_of

PATH = Path(__file__).parents[2] / "docs/format.md"
TEXT = PATH.read_text(encoding="utf-8")
WRITTEN = 6  # the version that the page describes
CLASSES = {
    "The document itself": document.Document,
    "A run": document.Run,
    "A node": document.Node,
    "An edge": document.Edge,
    "Details of an edge": document.EdgeDetails,
    "A context change": document.ContextChange,
    "A stamp": document.Stamp,
}
KINDS = [
    "header", "conversation", "created", "ended", "context", "read", "attributes", "attempt", "reused", "end",
]  # fmt: skip
LIMITS = re.compile(r"(MAX|MIN)_[A-Z]+")


def section(heading):
    """The text below a heading, up to the next one of any level."""
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found is not None, f"the page has no heading {heading!r}"
    return found[1]


def table(text):
    """The first cells of the rows of a text, as far as they are code."""
    return re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def evaluated():
    """What the snippets of the page define."""
    page = Page.parse(str(PATH), PythonCodeBlockParser())
    page.namespace["__name__"] = "__main__"
    for example in page.examples():
        example.evaluate()
    return page.namespace


# ---- members and fields


@pytest.mark.parametrize("heading", CLASSES)
def test_the_members_of_the_document_are_those_of_its_classes(heading):
    named = table(section(heading))
    assert sorted(named) == sorted(field.name for field in attrs.fields(CLASSES[heading]))


class Stop(Exception):
    pass


class Keeping(MemoryStore):
    """A store that keeps the last journal, which is removed when the document is saved."""

    journal: bytes | None = b""

    def save(self, identifier, content):
        stored = self.read(identifier)
        self.journal = stored.journal
        super().save(identifier, content)


@rt.function_node(version="1")
async def leaf(x, token=None) -> tuple[int, int]:
    rt.context.put("leaf", {"x": x})
    return (x, x)


@rt.function_node
async def branch(x):
    await rt.call(leaf, x, token="correct horse")
    await rt.call(leaf, (x,))
    rt.context.get("missing", None)
    rt.context.get("given", None)
    rt.context.delete("leaf")
    return x


Agent = rt.agent_node("Agent", llm=ScriptedModel(lambda messages: "yes"), system_message="Be brief.")


@pytest.fixture(scope="module")
def rich():
    """The journal and the document of a session that failed, and of two that resume it and fail again.

    Before the last one, the process died while it saved.
    """

    @rt.function_node
    async def endless():
        await anyio.sleep_forever()

    @rt.function_node
    async def stop(found):
        raise Stop(found)

    @rt.function_node
    async def tree():
        said: list[rt.llm.Message] = [
            rt.llm.UserMessage("really?"),
            rt.llm.AssistantMessage("yes"),
            rt.llm.UserMessage("really?"),
        ]
        found = await rt.call(branch, 1), await rt.call(Agent, said)
        with anyio.move_on_after(1):
            await rt.call(endless)
        with pytest.raises(ZeroDivisionError):
            await rt.call(divmod, 1, 0)
        await rt.call_batch(branch, [2])
        await rt.call(stop, found)

    async def main(resume):
        with pytest.raises(Stop):
            async with rt.Session({"given": (1, 2)}, run_identifier="rich", store=store, resume=resume) as session:
                await rt.call(tree)
        written.append((store.journal, session.payload()))

    store, written = Keeping(), []
    for resume in (None, "rich", "rich"):
        if len(written) == 2:
            assert store.journal is not None
            store.open("rich", store.journal, True)
        virtual.run("asyncio", lambda resume=resume: main(resume))
    return [written[0], with_policies(), *written[1:]]


def with_policies():
    """The journal and the document of a session that was traced, with a timeout and a call that was tried again."""
    calls = RTState()
    record = calls.created("slow", "Tool", (), {}, None, 1.0)
    calls.cancelled(record, Reason.TIMEOUT, 6.0, timeout=5.0)
    again = calls.created("again", "Tool", (), {}, None, 6.0)
    again.policy = PolicyFacts(1, True, 0.5, "store", "process", "limit api")
    calls.failed(again, ValueError(), 7.0)
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    info = ExecutionInfo("slow", start_time=0.0, records=calls.snapshot(), traceparent=traceparent)
    read = ExecutionInfo.from_document("".join(info.document()).encode()).records
    return encode_entries([header_entry(info.facts, ""), *entries_of(read)])[0], info.payload()


def entries(content):
    read = evaluated_reader()["entries"]
    return list(read(content))


def evaluated_reader():
    namespace = {}
    [source] = [block for block in blocks("python") if "def entries" in block]
    exec(source, namespace)
    return namespace


def test_every_journal_entry_has_a_section_with_its_fields(rich):
    found = {}
    for content, _ in rich:
        for entry in entries(content):
            found.setdefault(entry["e"], set()).update(entry.keys() - {"e"})
    assert sorted(found) == sorted(KINDS)
    named = {kind: set(table(section(f"`{kind}`"))) for kind in KINDS}
    assert named == found


def test_a_field_that_is_not_called_optional_is_always_there(rich):
    for content, _ in rich:
        for entry in entries(content):
            check_members({name: value for name, value in entry.items() if name != "e"}, f"`{entry['e']}`")


def optional(heading):
    """The members or fields that may be absent, according to the page."""
    rows = (line for line in section(heading).splitlines() if re.search("absent|only in", line, re.IGNORECASE))
    return set(table("\n".join(rows)))


def check_members(data, heading):
    named = set(table(section(heading)))
    assert named - optional(heading) <= data.keys() <= named, heading


def test_a_document_has_the_members_that_the_page_names(rich):
    for _, data in rich:
        check_members(data, "The document itself")
        for run in [*data["runs"], *data.get("earlier", ())]:
            check_members(run, "A run")
            for stamp in run["steps"]:
                check_members(stamp, "A stamp")
            for part, heading in (("nodes", "A node"), ("edges", "An edge")):
                for latest in run[part]:
                    for each in filter(None, (latest, latest["parent"])):
                        check_members(each, heading)
                        check_members(each["stamp"], "A stamp")
            for edge in run["edges"]:
                check_members(edge["details"], "Details of an edge")
                check_members(edge["parent"]["details"], "Details of an edge")
                for change in edge["details"].get("context", ()):
                    check_members(change, "A context change")
                for read in edge["details"].get("reads", ()):
                    check_members(read, "A context read")
    assert data["earlier"]


def test_optional_members_are_those_with_defaults():
    fields = attrs.fields(document.EdgeDetails)
    always = {"reason", "abandoned"}  # they were there in version 1 already
    with_defaults = {field.name for field in fields if field.default is not attrs.NOTHING} - always
    assert optional("Details of an edge") == with_defaults


# ---- words and limits


@pytest.mark.parametrize("words", [Status, Reason, Form])
def test_every_status_reason_and_form_is_named(words):
    headings = {Status: "Status and reason", Reason: "Status and reason", Form: "Forms"}
    text = section(headings[words])
    assert [word.value for word in words if f'| `"{word.value}"` |' not in text] == []


def test_every_limit_stands_on_the_page():
    found = {}
    for module in pkgutil.walk_packages(state.__path__, f"{state.__name__}."):
        names = vars(importlib.import_module(module.name))
        found.update((name, value) for name, value in names.items() if LIMITS.fullmatch(name))
    assert len(found) >= 8
    limits = section("Limits") + section("What is masked")
    assert [name for name, value in found.items() if not re.search(rf"\b{value:,}\b", limits)] == []
    assert f"{_identifiers.MAX_IDENTIFIER} characters" in section("Identifiers of runs")
    assert f"first {HEADER_BYTES:,} bytes" in section("The document itself")


def test_every_word_that_names_a_secret_is_named():
    text = re.sub(r"\s+", " ", section("What is masked"))
    words = {*redact._WORDS, *redact._MODIFIERS, *redact._ENDINGS, *map(" ".join, redact._PAIRS)}
    words |= {*redact._CONTENTS, *redact._MEASURES, *redact._PLACES, *redact._FLAGS, *redact._TOKENS}
    words |= {*redact._QUANTITIES, *map(" ".join, redact._COMMANDS)}
    assert [word for word in words if f"`{word}`" not in text] == []


def test_every_attribute_of_agents_is_named():
    text = section("Attributes of agents")
    source = Path(_attributes.__file__).read_text(encoding="utf-8")
    names = set(re.findall(r'"(gen_ai\.[\w.]+)"', source))
    names |= {f"gen_ai.request.{name}" for name in _attributes._SETTINGS.values()}
    assert [name for name in names if f"`{name}`" not in text] == []
    assert "`railtracks.request.NAME`" in text


def test_the_librarys_own_nodes_have_the_keys_on_the_page():
    def asks():
        return rt.call_sync(rt.ask, "why?")

    with rt.Session(ask_callback=lambda question: "because", logging_setting="QUIET") as session:
        rt.call_sync(Agent, "really?")
        rt.call_sync(asks)
    keys = {record.node for record in session.info.records if record.node.startswith("railtracks.")}
    named = {re.sub(r"@\w+", "@FINGERPRINT", key) for key in keys}  # type: ignore[arg-type]
    assert [key for key in named if f"`{key}`" not in TEXT] == []


# ---- bytes and files


def test_the_bytes_of_an_entry_on_the_page_are_what_is_written():
    [shown] = [block for block in blocks("text") if block.startswith("10 00")]
    assert bytes.fromhex(shown) == encode_entries([attempt_entry()])[0]


def test_a_cut_list_of_types_ends_as_the_page_says():
    text = former_types(["tuple"] * 201)
    assert f"`{text[1_000:]}`" in section("Versions")  # type: ignore[index]
    assert len(" ".join(["tuple"] * 201)) == 1_205


@pytest.mark.parametrize("before", range(40))
def test_a_cut_list_of_own_types_is_made_as_the_page_says(before):
    """The names at the place of the cut are moved by some characters each time."""
    types = ["x" * before, *["railtracks.llm.ToolCall", "railtracks.LLMResponse"] * 30]
    names = {
        "railtracks.llm.ToolCall": "railtracks.llm._messages.ToolCall",
        "railtracks.LLMResponse": "railtracks.agents._response.LLMResponse",
    }
    former = " ".join(names.get(name, name) for name in types)
    part = former[:1_000]
    *whole, last = part.split(" ")
    current = {former: name for name, former in names.items()}
    shown = " ".join([*(current.get(name, name) for name in whole), last])
    assert former_types(types) == f"{shown}... {len(types)} in all, {zlib.crc32(former.encode()):08x}"
    assert len(shown) < 1_000


@pytest.mark.parametrize("beginning", [DOCUMENT_BEGINS, HEADER_BEGINS], ids=["document", "journal"])
def test_documents_and_journals_begin_as_the_page_says(beginning, rich):
    assert f"the {len(beginning)} bytes `{beginning.decode()}`" in TEXT
    for journal, data in rich:
        assert journal.startswith(HEADER_BEGINS, 8)
        assert json.dumps(data).encode().startswith(DOCUMENT_BEGINS)


_TABLES = ["runs", "journals", "documents", "large_values", "messages", "rates", "cached_results"]


@pytest.mark.parametrize("name", _TABLES)
def test_the_tables_of_sqlite_are_those_on_the_page(name):
    SQLiteStore("runs.db").save("mine", [b"{}"])
    with sqlite3.connect("runs.db") as connection:
        columns = [(row[1], row[2]) for row in connection.execute(f"PRAGMA table_info({name})")]
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        tables.discard("sqlite_sequence")  # of SQLite itself
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
    assert tables == {*_TABLES}
    shown = re.search(rf"Table `{name}`:.*?\n\n(.*?)\n\n", section("SQLite"), re.DOTALL)[1]  # type: ignore[index]
    assert re.findall(r"^\| `(\w+)` \| `(\w+)` \|", shown, re.MULTILINE) == columns


TABLES = [
    "runs", "documents", "journals", "messages", "large_values", "leases", "watchers", "rates", "cached_results",
]  # fmt: skip


@needs_postgres
def test_the_tables_of_postgres_are_those_on_the_page():
    store_of(Path.cwd()).save("mine", [b"{}"])
    query = """
        SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = %s
        ORDER BY table_name, ordinal_position
    """
    columns = server().execute(query, schema_of(Path.cwd()))
    assert {table for table, _, _ in columns} == {*TABLES}
    for name in TABLES:
        shown = re.search(rf"Table `{name}`.*?\n\n(.*?)\n\n", section("PostgreSQL"), re.DOTALL)[1]  # type: ignore[index]
        found = re.findall(r"^\| `(\w+)` \| `([\w ]+)` \|", shown, re.MULTILINE)
        assert found == [(column, kind) for table, column, kind in columns if table == name]


def test_links_within_the_page_lead_to_headings():
    headings = re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    assert [link for link in re.findall(r"\]\(#([^)]+)\)", TEXT) if link not in anchors] == []


@pytest.mark.parametrize("which", ["first", "resumed"])
def test_the_checksums_of_a_document_are_made_as_the_page_says(rich, which):
    _, data = rich[0 if which == "first" else -1]
    info = ExecutionInfo.from_document(json.dumps(data).encode())
    text = b"".join(encoded(info.document()))
    sums = json.loads(text)["checksums"]
    body = text[: text.rindex(b', "checksums": ')]
    runs, found, earlier = body.partition(b'\n"earlier": [')
    for name, part in (("runs", runs), ("earlier", found[1:] + earlier)):
        lines = part.split(b"\n") if part else []
        assert sums[name] == "".join(f"{zlib.crc32(line):08x}" for line in lines)
    assert bool(earlier) is (which == "resumed")
    before_last = text[: text.rindex(b', "document": "')]
    assert sums["document"] == f"{zlib.crc32(before_last):08x}"
    head, _, rest = text.partition(b', "checksum": "')
    assert rest.startswith(f'{zlib.crc32(head):08x}", "runs": ['.encode())


# ---- the example


def shown_example():
    lines, data = blocks("json")
    return [json.loads(line) for line in lines.splitlines()], json.loads(data)


def framed(shown):
    return encode_entries(map(json.dumps, shown))[0]


def without_moments(data):
    """The same without what differs from run to run or from Python to Python, and without the version."""
    if isinstance(data, dict):
        gone = {"time", "start_time", "end_time", "total_time", "$traceback", "version"}
        gone |= {"journal", "checksum", "checksums", "code", "processor_seconds", "peak_memory_bytes"}
        return {key: type(value) if key in gone else without_moments(value) for key, value in data.items()}
    return [without_moments(item) for item in data] if isinstance(data, list) else data


def test_the_example_is_what_its_flow_writes(monkeypatch, backend):
    monkeypatch.setenv("RAILTRACKS_BACKEND", backend)
    kept = {}

    def save(self, identifier, content):
        kept[identifier] = self.read(identifier).journal
        original(self, identifier, content)

    original = FileStore.save
    monkeypatch.setattr(FileStore, "save", save)
    namespace = evaluated()
    written = list(namespace["entries"](kept["tea"])), json.loads(Path(".railtracks/tea.json").read_text())
    assert without_moments(list(shown_example())) == without_moments(list(written))


def test_the_example_journal_holds_what_its_document_holds():
    (header, *rest), data = shown_example()
    info = ExecutionInfo.from_journal(framed([{**header, "version": VERSION}, *rest]))
    assert info.damage is None
    only_in_document = ("checksum", "checksums", "processor_seconds", "peak_memory_bytes")
    assert {**info.payload(), "version": WRITTEN} == {
        name: value for name, value in data.items() if name not in only_in_document
    }
    assert header["version"] == data["version"] == WRITTEN


def test_every_version_that_is_read_has_a_row():
    text = section("Versions")
    assert [number for number in range(1, VERSION + 1) if f"\n| {number} |" not in text] == []


# ---- the reader


def test_the_reader_finds_the_calls_that_the_library_finds(rich):
    calls = evaluated_reader()["calls"]
    for content, _ in rich:
        found = [(c["call"], c["parent"], c["name"], c["status"], c["time"], c["ended"]) for c in calls(content)]
        records = ExecutionInfo.from_journal(content).records
        assert found == [(r.index, r.parent, r.name, r.status, r.started, r.ended) for r in records]
    assert any(entry["e"] == "reused" for entry in entries(content))


def test_the_reader_stops_where_the_library_stops(rich):
    read = evaluated_reader()["entries"]
    content = rich[0][0]
    whole = list(read(content))
    for cut in range(0, len(content), 7):
        torn = list(read(content[:cut]))
        assert torn == whole[: len(torn)]
    damaged = bytearray(content)
    damaged[-1] ^= 1
    assert list(read(bytes(damaged))) == whole[:-1]
