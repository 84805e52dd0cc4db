"""The stack of layers: each imports only from those above it in this list. ``docs/design.md`` shows the same list."""

from __future__ import annotations

LAYERS: list[tuple[str, str]] = [
    ("exceptions", "the errors that the library raises"),
    (
        (
            "_lazy _main_module _mocks _public_path _identifiers _exit_codes _test_hooks _context_variable _tracebacks"
            " _wording _addresses _approval_request"
        ),
        "what everything may use",
    ),
    ("_concurrency", "event loops, cancellation, threads: no session"),
    ("_log_handlers _logging", "a session's log"),
    ("state._stores._protocols", "what a store can do"),
    ("_policies", "the policies of a call: timeout, retries, limit, cache, where"),
    ("_options _config", "what can be set, and from where it comes"),
    ("state._file_system", "files written whole or not at all"),
    ("state._garbage state._ordering", "very many records: making them, and their order"),
    (
        "state._records state._shared_texts state._events state._item_records state._batch_summary",
        "records of calls, and of batches",
    ),
    ("state._node_codes state._call_tree state._replayed_calls state._transitions", "their tree and transitions"),
    ("state._redaction", "secrets: what names one, and how it is masked"),
    ("state._serialization", "values to JSON text and back"),
    ("state._document", "the state file"),
    ("state._journal", "the journal"),
    ("state._questions", "what a run waits for"),
    ("state._views", "what people see of a run: its tree, a summary"),
    ("state._info", "the snapshot of a session, live or loaded"),
    ("state._stores", "where runs are kept, listed, locked, pruned"),
    ("state", "rt.state"),
    ("_progress", "the live view in the terminal"),
    ("pubsub", "events to subscribers"),
    ("nodes", "what can be called, in one form"),
    ("executors", "work in other processes and on other machines: pickling, workers, executors"),
    ("_telemetry", "spans of OpenTelemetry, live and of a recorded run"),
    ("_resume", "the history of a run, and the match of a call in it"),
    ("execution._recording", "what a session writes while it runs"),
    ("execution", "strategies, cancel scopes, the Coordinator"),
    ("context", "rt.context"),
    ("_session", "Session: nursery, event loop thread, decorator"),
    ("_worker", "the session in a worker: the other end of executors"),
    ("_calls", "call, call_batch, call_stream, call_sync, broadcast, ask"),
    ("_schema", "types to JSON Schema, and JSON to values"),
    ("llm", "messages, the Model protocol, the providers' models"),
    ("agents", "agent_node, astream"),
    ("_event_stream", "the events of a run of a flow, for one consumer"),
    ("_flow", "Flow, FlowConnection"),
    ("_recover", "recover"),
    ("mcp", "tools of MCP servers as nodes, and nodes as tools of a server"),
    ("_test_probe", "what the test harness asks of the runtime"),
    ("railtracks", "rt"),
    ("page", "a run as a page of HTML"),
    ("ui", "`railtracks ui`: the runs of a store in the browser"),
    ("cli __main__", "the command line"),
    ("testing._trace testing._arguments", "what the harness notes, and what is wrong with arguments"),
    ("testing._virtual_time", "event loops on a clock that jumps"),
    ("testing._answers", "what a model for tests answers"),
    ("testing._numbered_faults", "what goes wrong, by numbers and by chances"),
    (
        "testing._executor testing._leases testing._faulty_model testing._network testing.faults",
        "the faults that the harness injects",
    ),
    ("testing._simulation", "simulate, and the witness that observes a run"),
    ("testing", "rt.testing: invariants, strategies, SessionMachine"),
    ("pytest_plugin", "fixtures, the tree of a failed test, leaks"),
]
"""Modules and folders (with everything in them that no other layer names), and what they hold."""


def layer_of(module: str) -> int:
    """Return the position of a module's layer: that of the longest name in the list that it begins with."""
    name = module.removeprefix("railtracks.")
    found = [
        (len(prefix), position)
        for position, (prefixes, _) in enumerate(LAYERS)
        for prefix in prefixes.split()
        if name == prefix or name.startswith(f"{prefix}.")
    ]
    if not found:
        raise LookupError(f"{module} belongs to no layer")
    return max(found)[1]


def table() -> str:
    """Return the list as it stands in the documentation."""
    lines = []
    for prefixes, description in LAYERS:
        names = prefixes if len(prefixes) <= 38 else prefixes.replace(" ", "\n")
        *first, last = names.split("\n")
        lines += [*first, f"{last:<39} {description}"]
    return "\n".join(lines)
