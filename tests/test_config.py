"""Options: where they come from, who wins, and what is said about wrong ones."""

import inspect
import math
import re
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest

import railtracks as rt
import railtracks.testing.faults
from railtracks._config import resolve_config
from railtracks.exceptions import ConfigError


def on_broadcast(item):
    """A callback."""


DEFAULTS = {
    "timeout": 150.0,
    "end_on_error": False,
    "logging_setting": "REGULAR",
    "log_file": None,
    "broadcast_callback": None,
    "run_identifier": None,
    "prompt_injection": True,
    "save_state": True,
    "ask_callback": None,
    "durability": "async",
    "store": None,
    "backend": "asyncio",
    "max_threads": 40,
    "if_exists": "replace",
    "code_changes": "warn",
    "allow_rerun": False,
    "suspend": None,
    "max_value_bytes": 67_108_864,
    "on_write_error": "continue",
    "slow_callback_seconds": 1.0,
    "tracing": False,
    "progress": False,
    "node_timeout": None,
    "retries": None,
    "limit": None,
    "cache": None,
    "where": None,
    "max_concurrency": None,
    "max_calls": None,
    "max_depth": None,
    "budget": None,
    "executors": None,
    "default_llm": None,
}
MODEL, OTHER_MODEL = rt.testing.ScriptedModel([]), rt.testing.ScriptedModel([])
RETRY_ONCE = rt.Retry(attempts=2)
COUNTS = [(1, 1), (2, 2), ("3", 3), (400, 400)]
# Of each option: four values, each as it is given and as it is settled.
VALUES: dict[str, list[tuple[Any, Any]]] = {
    "timeout": [(1, 1.0), (2.5, 2.5), ("3", 3.0), (math.inf, math.inf)],
    "end_on_error": [(True, True), (False, False), ("yes", True), (False, False)],
    "logging_setting": [("verbose", "VERBOSE"), ("QUIET", "QUIET"), ("none", "NONE"), ("ERROR", "ERROR")],
    "log_file": [(Path("a.log"), "a.log"), ("b.log", "b.log"), ("c.log", "c.log"), ("d.log", "d.log")],
    "broadcast_callback": [(on_broadcast, on_broadcast), (print, print)],
    "ask_callback": [(input, input), (print, print)],
    "executors": [({}, {}), ({"pool": ThreadPoolExecutor}, {"pool": ThreadPoolExecutor})],
    "default_llm": [(MODEL, MODEL), (OTHER_MODEL, OTHER_MODEL)],
    "run_identifier": [("one", "one"), ("two", "two"), ("three", "three"), ("four", "four")],
    "prompt_injection": [(False, False), (True, True), ("off", False), (True, True)],
    "save_state": [(False, False), (True, True), ("0", False), (True, True)],
    "durability": [("sync", "sync"), ("exit", "exit"), ("async", "async"), ("sync", "sync")],
    "store": [("file:a", "file:a"), ("sqlite:b", "sqlite:b"), ("file:c", "file:c"), ("sqlite:d", "sqlite:d")],
    "backend": [("trio", "trio"), ("asyncio", "asyncio"), ("trio", "trio"), ("asyncio", "asyncio")],
    "max_threads": [(1, 1), (2, 2), ("3", 3), (400, 400)],
    "if_exists": [("resume", "resume"), ("fail", "fail"), ("replace", "replace"), ("resume", "resume")],
    "code_changes": [("rerun", "rerun"), ("ignore", "ignore"), ("warn", "warn"), ("rerun", "rerun")],
    "allow_rerun": [(True, True), (False, False), ("yes", True), (False, False)],
    "suspend": [(True, True), (False, False), ("on", True), (False, False)],
    "max_value_bytes": [(1, 1), (2, 2), ("3", 3), (400, 400)],
    "on_write_error": [("stop", "stop"), ("continue", "continue"), ("stop", "stop"), ("continue", "continue")],
    "slow_callback_seconds": [(1, 1.0), (0.5, 0.5), ("3", 3.0), (math.inf, math.inf)],
    "tracing": [(True, True), ("values", "values"), ("on", True), ("values", "values")],
    "progress": [(True, True), (False, False), ("yes", True), (False, False)],
    "node_timeout": [(1, 1.0), (2.5, 2.5), ("3", 3.0), (math.inf, math.inf)],
    "retries": [
        (0, rt.Retry(attempts=1)),
        (3, rt.Retry(attempts=4)),
        ("2", rt.Retry(attempts=3)),
        (1, rt.Retry(attempts=2)),
    ],
    "limit": [(1, 1), (2, 2), ("3", 3), (math.inf, math.inf)],
    "cache": [(True, rt.Cache()), (False, False), ("yes", rt.Cache()), (False, False)],
    "where": [("task", "task"), ("process", "process"), ("caller", "caller"), ("thread", "thread")],
    "max_concurrency": COUNTS,
    "max_calls": COUNTS,
    "max_depth": COUNTS,
    "budget": [(1, 1.0), (2.5, 2.5), ("3", 3.0), (math.inf, math.inf)],
}
SOURCES = ["argument", "set_config", "environment", "file"]
OPTIONS = [*DEFAULTS]
OBJECTS = ("broadcast_callback", "ask_callback", "executors", "default_llm")
TEXT_OPTIONS = [name for name in DEFAULTS if name not in OBJECTS]


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    monkeypatch.delenv("RAILTRACKS_LOGGING_SETTING")


def write(text, name="railtracks.toml", folder="."):
    Path(folder).mkdir(parents=True, exist_ok=True)
    (Path(folder) / name).write_text(text, encoding="utf-8")


def toml(value):
    return "inf" if value == math.inf else str(value).lower() if isinstance(value, bool | int | float) else f'"{value}"'


def give(source, name, value, monkeypatch):
    """Give an option by one of the sources but the argument."""
    if source == "set_config":
        rt.set_config(**{name: value})
    elif source == "environment":
        monkeypatch.setenv(f"RAILTRACKS_{name.upper()}", str(value))
    else:
        write(f"{name} = {toml(value)}")


# ---- who wins


@pytest.mark.parametrize("name", OPTIONS)
def test_without_any_source_the_default_holds(name):
    assert getattr(resolve_config({}), name) == DEFAULTS[name]


@pytest.mark.parametrize("first", range(4))
@pytest.mark.parametrize("name", TEXT_OPTIONS)
def test_the_strongest_source_that_gives_a_value_wins(name, first, monkeypatch):
    for source, (given_value, _) in zip(SOURCES[1:], VALUES[name][1:], strict=True):
        if SOURCES.index(source) >= first:
            give(source, name, given_value, monkeypatch)
    argument, settled = VALUES[name][0][0], VALUES[name][first][1]
    options = {name: argument} if first == 0 else {}
    needed: dict[str, Any] = {"run_identifier": "mine"} if name == "if_exists" else {}
    assert getattr(resolve_config(options), name) == settled
    assert getattr(rt.Session(**options, **needed).executor_config, name) == settled
    assert {**DEFAULTS, name: settled} == attrs.asdict(resolve_config(options), recurse=False)


def test_a_callback_comes_by_argument_or_set_config():
    rt.set_config(broadcast_callback=print)
    assert resolve_config({}).broadcast_callback is print
    assert resolve_config({"broadcast_callback": on_broadcast}).broadcast_callback is on_broadcast


@pytest.mark.parametrize("name", OPTIONS)
def test_none_as_an_argument_means_not_given(name):
    value, settled = VALUES[name][0]
    rt.set_config(**{name: value})
    assert getattr(resolve_config({name: None}), name) == settled


def test_sources_are_merged_option_by_option(monkeypatch):
    write("timeout = 1\nbackend = 'trio'\nsave_state = false\nend_on_error = true")
    monkeypatch.setenv("RAILTRACKS_TIMEOUT", "2")
    monkeypatch.setenv("RAILTRACKS_SAVE_STATE", "1")
    rt.set_config(timeout=3)
    config = resolve_config({"run_identifier": "x"})
    assert (config.timeout, config.save_state, config.backend, config.end_on_error) == (3.0, True, "trio", True)
    assert config.run_identifier == "x"


def test_global_config_precedence_keeps_the_order_of_arguments():
    names = [*inspect.signature(rt.Session.global_config_precedence).parameters]
    assert names == [
        *("timeout", "end_on_error", "logging_setting", "log_file", "broadcast_callback", "run_identifier"),
        *("prompt_injection", "save_state"),
    ]
    rt.set_config(timeout=1, end_on_error=True)
    config = rt.Session.global_config_precedence(2, None, "QUIET", "x.log", on_broadcast, "mine", False, False)
    assert isinstance(config, rt.ExecutorConfig)
    assert attrs.astuple(config) == (
        2.0, True, "QUIET", "x.log", on_broadcast, "mine", False, False, None, "async", None, "asyncio", 40, "replace",
        "warn", False, None, 67_108_864, "continue", 1.0, False, False, *[None] * 11,
    )  # fmt: skip


def test_the_options_are_named_once():
    assert [field.name for field in attrs.fields(rt.ExecutorConfig)] == OPTIONS
    assert [*rt.SessionOptions.__annotations__] == OPTIONS


def test_configuration_md_has_a_row_for_each_option():
    text = (Path(__file__).parents[1] / "docs" / "configuration.md").read_text(encoding="utf-8")
    table = text.partition("\n\n## Where")[0].partition("|---|---|---|\n")[2]
    lines = [line for line in table.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.split("|")[1:3]] for line in lines]
    assert rows == [[f"`{name}`", f"`{default!r}`".replace("'", '"')] for name, default in DEFAULTS.items()]


def test_a_settled_configuration_cannot_be_changed():
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        resolve_config({}).timeout = 1  # type: ignore[misc]


class EqualCallback:
    """Callbacks that compare equal and are not the same, as those of dataclasses do."""

    def __init__(self):
        self.items = []

    def __eq__(self, other):
        return self.items == other.items

    __hash__ = None  # type: ignore[assignment]

    def __call__(self, item):
        self.items.append(item)


async def test_sessions_with_equal_callbacks_each_call_their_own():
    """Two sessions whose callbacks compare equal each call their own."""
    first, second = EqualCallback(), EqualCallback()
    rt.Session(broadcast_callback=first)
    async with rt.Session(broadcast_callback=second):
        await rt.broadcast("item")
    assert (first.items, second.items) == ([], ["item"])


# ---- set_config


def test_set_config_holds_for_later_sessions_and_other_threads():
    before = rt.Session()
    rt.set_config(timeout=7)
    seen = []
    thread = threading.Thread(target=lambda: seen.append(rt.Session().executor_config.timeout))
    thread.start()
    thread.join()
    assert (before.executor_config.timeout, rt.Session().executor_config.timeout, seen) == (150.0, 7.0, [7.0])


def test_set_config_adds_to_earlier_settings():
    """Each set_config adds to the earlier settings, and None takes one back."""
    rt.set_config(timeout=7, end_on_error=True)
    rt.set_config(timeout=None, save_state=False)
    assert attrs.asdict(resolve_config({}), recurse=False) == {**DEFAULTS, "end_on_error": True, "save_state": False}


def test_none_takes_back_to_the_next_weaker_source(monkeypatch):
    monkeypatch.setenv("RAILTRACKS_TIMEOUT", "3")
    rt.set_config(timeout=7)
    rt.set_config(timeout=None)
    assert resolve_config({}).timeout == 3.0


async def test_set_config_in_a_session_warns_and_changes_the_next():
    """In a session, set_config warns; it changes the next session and not this one."""
    async with rt.Session() as session:
        with pytest.warns(RuntimeWarning, match="open session, .*before the session is constructed") as caught:
            rt.set_config(timeout=7)
        assert session.executor_config.timeout == 150.0
    assert caught[0].filename == __file__
    assert rt.Session().executor_config.timeout == 7.0


def test_a_set_config_that_is_refused_changes_nothing():
    rt.set_config(timeout=7)
    with pytest.raises(ConfigError, match=r"rt\.set_config: 'maybe' is not allowed for end_on_error"):
        rt.set_config(timeout=8, end_on_error="maybe")  # type: ignore[arg-type]
    assert resolve_config({}).timeout == 7.0


# ---- wrong ones

WRONG = {
    "timeout": [0, -1, math.nan, "5", True, -math.inf, 1j, 10**400],
    "end_on_error": [1, "true", 0],
    "logging_setting": ["LOUD", 10, ""],
    "log_file": [5, b"x.log", ""],
    "broadcast_callback": [5, "print"],
    "ask_callback": [5, "input"],
    "executors": [5, "pool", {"pool": 5}, {"thread": ThreadPoolExecutor}],
    "default_llm": [5, "openai/gpt-5", rt.testing.ScriptedModel, []],
    "run_identifier": [5, "", "a/b", Path("a")],
    "prompt_injection": ["no", 1],
    "save_state": ["no", 1],
    "backend": ["curio", None.__class__, ""],
    "max_threads": [0, -1, 2.0, True, "5", math.inf],
    "if_exists": ["overwrite", True, ""],
    "code_changes": ["run", True, ""],
    "allow_rerun": ["yes", 1],
    "suspend": ["yes", 1],
    "max_value_bytes": [0, -1, 2.0, True, "5", math.inf],
    "on_write_error": ["ignore", False, ""],
    "slow_callback_seconds": [0, -1, math.nan, "5", True],
    "tracing": ["yes", 1, 0, "", "value"],
    "progress": ["yes", 1],
    "node_timeout": [0, -1, math.nan, "5", True],
    "retries": [-1, 1.5, True, "3", Exception],
    "limit": [0, -1, 2.5, True, "5"],
    "cache": ["yes", 1, 60],
    "where": [5, "", "a\nb"],
    "max_concurrency": [0, -1, 2.0, True, "5", math.inf],
    "max_calls": [0, -1, 2.0, True, "5", math.inf],
    "max_depth": [0, -1, 2.0, True, "5", math.inf],
    "budget": [0, -1, math.nan, "5", True],
}
ALLOWED = {
    "timeout": "seconds above 0",
    "end_on_error": "True or False",
    "logging_setting": "VERBOSE, REGULAR, QUIET, NONE",
    "log_file": "a path",
    "broadcast_callback": "a function of one argument",
    "ask_callback": "a function of one argument",
    "executors": "a mapping of names to executors",
    "default_llm": "a model, such as rt.llm.OpenAI('gpt-5')",
    "run_identifier": "a file name of letters",
    "prompt_injection": "True or False",
    "save_state": "True or False",
    "backend": "'asyncio' or 'trio'",
    "max_threads": "a whole number above 0",
    "if_exists": "'replace' or 'resume' or 'fail'",
    "code_changes": "'warn' or 'rerun' or 'ignore'",
    "allow_rerun": "True or False",
    "suspend": "True or False",
    "max_value_bytes": "a whole number above 0",
    "on_write_error": "'continue' or 'stop'",
    "slow_callback_seconds": "seconds above 0",
    "tracing": "True, False or 'values'",
    "progress": "True or False",
    "node_timeout": "seconds above 0",
    "retries": "how many times a call is tried again, such as 3",
    "limit": "how many calls run at once, such as 5",
    "cache": "True, False, or rt.Cache",
    "where": "the name of one of the executors",
    "max_concurrency": "a whole number above 0",
    "max_calls": "a whole number above 0",
    "max_depth": "a whole number above 0",
    "budget": "seconds above 0",
}


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in WRONG.items() for value in values],
    ids=lambda part: repr(part)[:20],
)
def test_wrong_value_is_named_with_option_and_what_is_allowed(name, value):
    for source, take in (("argument", lambda o: rt.Session(**o)), ("rt.set_config", lambda o: rt.set_config(**o))):
        with pytest.raises(ConfigError) as caught:
            take({name: value})
        text = str(caught.value)
        shown = "<list>" if (name, value) == ("default_llm", []) else repr(value)  # the repr of a model may have a key
        assert text.startswith(f"{source}: {shown} is not allowed for {name}; expected ")
        assert ALLOWED[name] in text


@pytest.mark.parametrize(
    ("name", "text"),
    [("timeout", "soon"), ("timeout", "nan"), ("timeout", "-1"), ("end_on_error", "maybe"), ("save_state", "2"),
     ("logging_setting", "LOUD"), ("run_identifier", "../x"), ("backend", "curio"), ("max_threads", "many"),
     ("max_threads", "0"), ("max_threads", "1.5"), ("if_exists", "go on"), ("suspend", "2")],
)  # fmt: skip
def test_wrong_variable_is_named_with_text_and_what_is_allowed(name, text, monkeypatch):
    variable = f"RAILTRACKS_{name.upper()}"
    monkeypatch.setenv(variable, text)
    with pytest.raises(ConfigError, match=f"^environment variable {variable}: .*{text}.* is not allowed.*; expected "):
        rt.Session()


def test_the_words_for_tracing_are_listed(monkeypatch):
    monkeypatch.setenv("RAILTRACKS_TRACING", "vals")
    with pytest.raises(ConfigError, match=r"expected 'values', or 1, true, yes, on, 0, false, no or off$"):
        rt.Session()


@pytest.mark.parametrize(
    ("name", "meant"),
    [("TIMOUT", "TIMEOUT"), ("TIME_OUT", "TIMEOUT"), ("MAXTHREADS", "MAX_THREADS"), ("LOGGING", "LOGGING_SETTING"),
     ("LOG_LEVEL", "LOGGING_SETTING"), ("HOMES", "HOME"), ("SAVE", "SAVE_STATE")],
)  # fmt: skip
def test_a_misspelt_variable_is_named_with_what_was_meant(name, meant, monkeypatch):
    rt.Session()  # which finds nothing wrong
    monkeypatch.setenv(f"RAILTRACKS_{name}", "5")
    for _ in range(2):  # each time, not only the first
        with pytest.raises(
            ConfigError, match=f"^environment variable RAILTRACKS_{name}: .* did you mean RAILTRACKS_{meant}[?]"
        ):
            rt.Session()
    monkeypatch.delenv(f"RAILTRACKS_{name}")
    rt.Session()


def test_a_variable_in_place_of_another_is_checked_too(monkeypatch):
    monkeypatch.setenv("SOMETHING", "else")
    rt.Session()
    monkeypatch.delenv("SOMETHING")
    monkeypatch.setenv("RAILTRACKS_TIMOUT", "5")
    with pytest.raises(ConfigError, match="RAILTRACKS_TIMOUT"):
        rt.Session()


@pytest.mark.parametrize(
    "name",
    ["PORT", "PORT_8000_TCP", "PORT_8000_TCP_ADDR", "SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP_API"],
)
@pytest.mark.parametrize("service", ["", "BACKEND_", "STORE_", "HOME_", "TIMEOUT_", "LOG_FILE_"])
def test_variables_of_a_service_in_kubernetes_are_ignored(service, name, monkeypatch):
    monkeypatch.setenv(f"RAILTRACKS_{service}{name}", "tcp://10.0.0.1:8000")
    assert resolve_config({}).timeout == 150.0


@pytest.mark.parametrize("name", ["API_KEY", "URL"])
def test_variables_of_others_are_ignored(name, monkeypatch):
    monkeypatch.setenv(f"RAILTRACKS_{name}", "5")
    assert resolve_config({}).timeout == 150.0


@pytest.mark.parametrize("name", ["BROADCAST_CALLBACK", "ASK_CALLBACK"])
def test_a_variable_for_what_no_text_expresses_says_so(name, monkeypatch):
    monkeypatch.setenv(f"RAILTRACKS_{name}", "print")
    with pytest.raises(
        ConfigError, match=f"RAILTRACKS_{name}: text cannot express this option; pass it as an argument"
    ):
        rt.Session()


@pytest.mark.parametrize(
    ("name", "meant"),
    [("nmae", "name"), ("contxt", "context"), ("timout", "timeout"), ("log_level", "logging_setting"),
     ("run_id", "run_identifier"), ("fail_fast", "end_on_error"), ("max_workers", "max_threads")],
)  # fmt: skip
def test_a_misspelt_argument_is_named_with_what_was_meant(name, meant):
    makers: list[Any] = [rt.Session, rt.session, lambda **options: rt.Flow("Flow", print, **options)]
    for make in makers:
        with pytest.raises(ConfigError, match=f"there is no option '{name}'; did you mean '{meant}'[?]"):
            make(**{name: 5})


def test_an_empty_variable_counts_as_not_set(monkeypatch):
    monkeypatch.setenv("RAILTRACKS_TIMEOUT", "")
    assert resolve_config({}).timeout == 150.0


@pytest.mark.parametrize("text", ["1", "TRUE", "yes", " on "])
def test_a_flag_in_the_environment_may_be_written_as_people_do(text, monkeypatch):
    monkeypatch.setenv("RAILTRACKS_END_ON_ERROR", text)
    assert resolve_config({}).end_on_error is True


def test_no_limit_can_be_written_in_each_source(monkeypatch):
    write('timeout = "inf"')
    assert resolve_config({}).timeout == math.inf
    monkeypatch.setenv("RAILTRACKS_TIMEOUT", "inf")
    assert resolve_config({}).timeout == math.inf


@pytest.mark.parametrize("take", [rt.Session, rt.set_config, lambda **o: rt.Flow("f", len, **o), rt.session])
def test_unknown_option_is_refused_with_those_that_exist(take):
    with pytest.raises(
        ConfigError,
        match=r"there is no option 'time_out'; did you mean 'timeout'\? The options are timeout, end_on_error",
    ):
        take(time_out=1)


def test_unknown_option_like_no_other_is_refused_without_guess():
    with pytest.raises(ConfigError, match="there is no option 'colour'; the options are timeout, end_on_error"):
        rt.Session(colour="blue")  # type: ignore[call-arg]


# ---- the file


@pytest.mark.parametrize(
    ("name", "text"),
    [("railtracks.toml", "time_out = 1"), ("pyproject.toml", "[tool.railtracks]\ntime_out = 1")],
)
def test_an_unknown_key_in_a_file_names_file_and_key(tmp_path, name, text):
    write(text, name)
    with pytest.raises(ConfigError) as caught:
        rt.Session()
    assert str(tmp_path / name) in str(caught.value)
    assert "there is no option 'time_out'; did you mean 'timeout'? The options are timeout" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("timeout = 'soon'", "'soon' is not allowed for timeout; expected a number of seconds"),
        ("timeout = -1", "-1 is not allowed for timeout; expected a number of seconds"),
        ("end_on_error = 'yes'", "'yes' is not allowed for end_on_error; expected True or False"),
        ("broadcast_callback = 'print'", "'print' is not allowed for broadcast_callback; expected a function"),
        ("[timeout]\nx = 1", "is not allowed for timeout"),
        ("timeout = ", "the configuration file cannot be read"),
        ("\x00", "the configuration file cannot be read"),
    ],
)
@pytest.mark.parametrize("name", ["railtracks.toml", "pyproject.toml"])
def test_a_wrong_file_is_named_with_what_is_wrong(tmp_path, name, text, says):
    if name == "pyproject.toml":
        text = "[tool.railtracks]\n" + text.replace("[timeout]", "[tool.railtracks.timeout]")
    write(text, name)
    with pytest.raises(ConfigError) as caught:
        rt.Session()
    assert str(caught.value).startswith(str(tmp_path / name))
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "text", ["tool = 5", "[tool]\nrailtracks = 5", "tool = []", "[[tool.railtracks]]\ntimeout = 1"]
)
def test_setting_in_place_of_the_table_is_named(tmp_path, text):
    write(text, "pyproject.toml")
    with pytest.raises(ConfigError, match=r"pyproject\.toml"):
        rt.Session()


@pytest.mark.parametrize("table", ["railtracks", "tool.railtracks"])
def test_a_table_in_railtracks_toml_is_refused(tmp_path, table):
    write(f"[{table}]\ntimeout = 1")
    with pytest.raises(ConfigError) as caught:
        rt.Session()
    says = "write the options without a table in this file; remove the line "
    assert str(caught.value) == f"{tmp_path / 'railtracks.toml'}: {says}[{table}]"


@pytest.mark.parametrize("table", ["railtracks", "tool.railtrack", "tool.Railtracks", "tool.rail-tracks"])
def test_a_misspelt_table_in_pyproject_is_refused(tmp_path, table):
    write(f"[{table}]\ntimeout = 1", "pyproject.toml")
    with pytest.raises(ConfigError) as caught:
        rt.Session()
    assert str(caught.value).startswith(
        f"{tmp_path / 'pyproject.toml'}: did you mean [tool.railtracks], not [{table}]?"
    )


@pytest.mark.parametrize("table", ["tool.rails", "tool.tracks", "railway", "tool.railroad"])
def test_a_table_of_another_tool_is_ignored(table):
    write(f"[{table}]\ntimeout = 1", "pyproject.toml")
    assert resolve_config({}).timeout == 150.0


def test_a_file_that_is_not_utf8_is_named():
    Path("railtracks.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"railtracks\.toml: the configuration file cannot be read"):
        rt.Session()


def test_the_nearest_file_wins(monkeypatch):
    write("timeout = 1\nend_on_error = true")
    write("[tool.railtracks]\ntimeout = 2", "pyproject.toml", "near")
    Path("near/deep/er").mkdir(parents=True)
    monkeypatch.chdir("near/deep/er")
    assert (resolve_config({}).timeout, resolve_config({}).end_on_error) == (2.0, False)


def test_railtracks_toml_wins_over_pyproject_beside_it():
    write("timeout = 1")
    write("[tool.railtracks]\ntimeout = 2", "pyproject.toml")
    assert resolve_config({}).timeout == 1.0


def test_files_without_our_table_are_ignored():
    """A pyproject without our table and a TOML file of other tools are ignored."""
    write("[tool.other]\ntimeout = 2", "pyproject.toml")
    assert resolve_config({}).timeout == 150.0


def test_each_working_directory_has_its_own_file(monkeypatch):
    assert resolve_config({}).timeout == 150.0
    write("timeout = 2", folder="other")
    monkeypatch.chdir("other")
    assert resolve_config({}).timeout == 2.0


# ---- sessions and threads


def test_constructing_a_session_touches_nothing(tmp_path):
    context = {"a": 1}
    session = rt.Session(context, log_file="x/y.log", run_identifier="mine")
    session.context["b"] = 2
    assert context == {"a": 1}
    assert rt.session_id() is None
    assert [*tmp_path.iterdir()] == []


def test_set_config_is_never_seen_half_done():
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    rt.set_config(timeout=10)
    over = threading.Event()

    def write():
        while not over.is_set():
            rt.set_config(timeout=10)
            rt.set_config(timeout=11)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert {rt.Session().executor_config.timeout for _ in range(2000)} <= {10.0, 11.0}
    finally:
        over.set()
        writer.join()
        sys.setswitchinterval(switch)


HOUR: Any = timedelta(hours=1)
TAKE_SECONDS = {
    "rt.Cache": lambda: rt.Cache(ttl=HOUR),
    "rt.Limit": lambda: rt.Limit("api", concurrency=1, wait=HOUR),
    "rt.Retry": lambda: rt.Retry(timeout=HOUR),
    "wait_max": lambda: rt.Retry(wait_max=HOUR),
    "function_node": lambda: rt.function_node(len, timeout=HOUR),
    "options": lambda: rt.function_node(len).options(timeout=HOUR),
    "timeout": lambda: rt.Session(timeout=HOUR),
    "node_timeout": lambda: rt.Session(node_timeout=HOUR),
    "budget": lambda: rt.set_config(budget=HOUR),
    "slow_callback_seconds": lambda: rt.Flow("Some", len, slow_callback_seconds=HOUR),
    "rt.sleep": lambda: anyio.run(rt.sleep, HOUR),
    "rt.receive": lambda: anyio.run(rt.receive, "topic", HOUR),
    "PostgresStore": lambda: rt.state.PostgresStore("postgresql://", lease=HOUR),
    "LeaseStore": lambda: rt.testing.faults.LeaseStore(lease=HOUR),
}


@pytest.mark.parametrize("name", TAKE_SECONDS)
def test_timedelta_is_refused_with_the_seconds_to_write(name):
    if name == "PostgresStore":
        pytest.importorskip("psycopg")
    with pytest.raises((ConfigError, rt.exceptions.NodeInvocationError), match=r"write 3600.0, its total_seconds\(\)"):
        TAKE_SECONDS[name]()


def test_timedelta_in_place_of_a_number_is_not_taken_for_seconds():
    with pytest.raises(ConfigError, match=r"expected a whole number above 0$"):
        rt.Session(max_calls=HOUR)


@pytest.mark.parametrize(
    ("policy", "name", "text"),
    [
        (rt.Limit, "concurrent", "rt.Limit has no argument 'concurrent'; did you mean 'concurrency'?"),
        (rt.Retry, "attempt", "rt.Retry has no argument 'attempt'; did you mean 'attempts'?"),
        (rt.Cache, "zzz", "rt.Cache has no argument 'zzz'; it has ttl, "),
    ],
)
def test_misspelt_argument_of_a_policy_says_what_to_write(policy: Any, name, text):
    with pytest.raises(TypeError, match=re.escape(text)):
        policy(**{name: 3})


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ("proc", "did you mean 'process'? The session has 'pool', 'task', 'thread', 'caller', 'process'"),
        ("pol", "did you mean 'pool'?"),
        ("cluster", "the session has 'pool', 'task', 'thread', 'caller', 'process'"),
    ],
)
@pytest.mark.parametrize("source", SOURCES)
def test_a_place_that_the_session_does_not_have(where, text, source, monkeypatch):
    if source != "argument":
        give(source, "where", where, monkeypatch)
    options = {"where": where} if source == "argument" else {}
    with pytest.raises(ConfigError, match=re.escape(text)) as caught:
        rt.Session(executors={"pool": ThreadPoolExecutor}, **options)
    shown = {"argument": "the argument where", "set_config": "rt.set_config", "environment": "RAILTRACKS_WHERE"}
    assert str(caught.value).startswith(shown.get(source, str(Path.cwd())))
    assert rt.Session(executors={where: ThreadPoolExecutor}, **options).executor_config.where == where
