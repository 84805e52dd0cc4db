"""PostgresStore: its address, its connections and its leases, with a real server."""

import contextlib
import logging
import os
import pickle
import threading

import pytest

import railtracks as rt
from railtracks.exceptions import ConfigError, RunInUseError, RunLostError, StoreError
from railtracks.state import PostgresStore
from railtracks.state._stores._postgres import _owner
from railtracks.state._stores._postgres._keeper import Keeper
from railtracks.state._stores._settings import resolve_store
from tests.postgres import PASSWORD, needs_postgres, schema_of, server, store_of, url_of
from tests.state.stores import journal_of, needs_fork, process, ran, write

pytestmark = needs_postgres
SECRET = "correct-Horse-9"


@pytest.fixture
def store(tmp_path):
    return store_of(tmp_path)


@pytest.fixture
def sql(tmp_path):
    """Executes SQL in the schema of the store."""

    def execute(command, *values):
        return server().execute(command.replace("@", f"{schema_of(tmp_path)}."), *values)

    return execute


@pytest.fixture
def elsewhere(monkeypatch):
    """From now on this process is one of another machine."""

    def move():
        monkeypatch.setattr(_owner, "_host", lambda: "another machine")
        _owner.this_process.cache_clear()

    yield move
    monkeypatch.undo()
    _owner.this_process.cache_clear()


@pytest.fixture
def other(tmp_path):
    """The same store as another process has it."""
    return store_of(tmp_path)


@pytest.fixture
def paused(monkeypatch):
    """No lease is renewed, as in processes that are paused."""
    monkeypatch.setattr(Keeper, "_renew", lambda self, connection: None)


@rt.function_node
async def one() -> int:
    return 1


def expire(sql):
    sql("UPDATE @leases SET expires = clock_timestamp() - interval '1 second'")


# ---- its address


@pytest.mark.parametrize(
    "conninfo",
    [
        f"postgresql://me:{SECRET}@db.example:5433/runs?sslmode=require",
        f"postgres://me:{SECRET}@db.example:5433/runs",
        f"host=db.example port=5433 dbname=runs user=me password={SECRET}",
        f"postgresql://db.example:5433/runs?user=me&password={SECRET}&schema=railtracks",
    ],
)
def test_where_and_repr_name_the_database_without_its_password(conninfo):
    store = PostgresStore(conninfo)
    assert store.where("mine") == "postgresql://me@db.example:5433/runs (schema railtracks), as mine"
    assert SECRET not in repr(store) + str(store) + repr(store._place)
    assert "db.example" in repr(store)


def test_the_text_of_a_store_has_schema_and_lease():
    store = resolve_store("postgresql://db.example/runs?schema=mine&lease=5")
    assert isinstance(store, PostgresStore)
    assert (store._place.schema, store._place.lease) == ("mine", 5.0)
    assert "lease" not in store._place.conninfo
    assert resolve_store("postgresql://db.example/runs?schema=mine&lease=5") is store


def test_what_is_libpqs_in_the_text_stays_as_it_is():
    place = PostgresStore("postgresql://h/runs?options=-c%20a%3Db%2B1&lease=5&application_name=a+b&schema=x")._place
    assert "options='-c a=b+1'" in place.conninfo
    assert "application_name=a+b" in place.conninfo
    assert (place.schema, place.lease) == ("x", 5.0)


def test_arguments_are_stronger_than_the_text():
    place = PostgresStore("postgresql://db.example/runs?schema=a&lease=5", schema="b", lease=7)._place
    assert (place.schema, place.lease) == ("b", 7.0)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"schema": "Mine"}, "'Mine' is not allowed for schema"),
        ({"schema": "pg_mine"}, "'pg_mine' is not allowed for schema"),
        ({"schema": "a; DROP"}, "is not allowed for schema"),
        ({"lease": 0.1}, "0.1 is not allowed for lease; expected seconds"),
        ({"lease": True}, "True is not allowed for lease"),
        ({"lease": "soon"}, "'soon' is not allowed for lease"),
        ({"conninfo": ""}, "is not allowed for conninfo"),
        ({"conninfo": 5}, "int is not allowed for conninfo"),
        ({"conninfo": "postgresql://h/d?lese=3"}, "parameter 'lese' does not exist; did you mean 'lease'"),
    ],
)
def test_what_is_not_allowed_is_refused_with_what_to_use(arguments, text):
    with pytest.raises(ConfigError, match=text):
        PostgresStore(**{"conninfo": "postgresql://db.example/runs", **arguments})


@pytest.mark.parametrize(
    "conninfo",
    [f"postgresql://me:{SECRET}%@db.example/runs", f"host=db.example password='{SECRET}", f"{SECRET} host=x"],
)
def test_what_cannot_be_parsed_is_refused_without_the_password(conninfo):
    with pytest.raises(ConfigError, match="cannot be understood") as caught:
        PostgresStore(conninfo)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("text", [f"postgresql:me:{SECRET}@db", f"postgressql://me:{SECRET}@db/x"])
def test_a_text_that_names_no_store_is_refused_without_password(text):
    with pytest.raises(ConfigError, match="is not allowed for store") as caught:
        rt.Session(store=text)
    assert SECRET not in str(caught.value)


def test_the_configuration_is_shown_without_the_password():
    rt.set_config(store=f"postgresql://me:{SECRET}@db.example/runs")
    config = rt.Session.global_config_precedence()
    assert SECRET not in repr(config)
    assert SECRET in config.store


def test_a_missing_package_is_named_with_what_installs_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)
    with pytest.raises(ConfigError, match=r"postgresql://db\.example needs the package 'psycopg'.*\.\[postgres\]") as e:
        PostgresStore(f"postgresql://me:{SECRET}@db.example/runs")
    assert SECRET not in str(e.value)


# ---- what goes wrong


def refused(store):
    with pytest.raises(OSError, match="postgresql://") as caught:
        store.list()
    text = str(caught.value)
    assert "\n" not in text
    assert SECRET not in text
    return text


def test_no_server_is_one_clear_line(tmp_path):
    text = refused(PostgresStore(f"host={tmp_path} dbname=runs user=me password={SECRET}"))
    assert text.startswith(f"postgresql://me@{tmp_path}/runs (schema railtracks): cannot list the runs: ")
    assert "No such file or directory" in text


@pytest.mark.parametrize(
    ("user", "database", "text"),
    [
        (
            "tests",
            "absent",
            r'database "absent" does not exist; make it with `createdb absent`, or name another',
        ),
        (
            "absent",
            "postgres",
            r'role "absent" does not exist; make it with `createuser absent`, or name another',
        ),
        ("guarded", "postgres", r"password authentication failed for user \"guarded\"; put the right password into"),
    ],
)
def test_what_does_not_pass_by_itself_says_what_to_write(user, database, text):
    make_guarded()
    store = PostgresStore(f"host={server().folder} user={user} dbname={database} password={SECRET}")
    with pytest.raises(StoreError, match=text) as caught:
        store.lock("mine")
    assert str(caught.value).startswith(f"postgresql://{user}@{server().folder}/{database} (schema railtracks): cannot")
    assert caught.value.temporary is False
    assert SECRET not in str(caught.value)


def test_a_missing_database_of_one_of_several_hosts_may_pass(tmp_path):
    hosts = f"host={server().folder},{tmp_path}"
    # The oldest psycopg says of the last host alone what was wrong.
    with pytest.raises(StoreError, match=r"does not exist|No such file") as caught:
        PostgresStore(f"{hosts} user=tests dbname=absent").list()
    assert caught.value.temporary is True


def test_an_error_of_a_store_can_be_pickled():
    copy = pickle.loads(pickle.dumps(StoreError("a text", temporary=False)))
    assert (str(copy), copy.temporary) == ("a text", False)


def make_guarded():
    server().execute(f"DO $$ BEGIN CREATE ROLE guarded LOGIN PASSWORD '{PASSWORD}'; EXCEPTION WHEN others THEN END $$")


def test_a_wrong_password_is_one_clear_line():
    make_guarded()
    url = f"postgresql://guarded:{{}}@/postgres?host={server().folder}"
    assert "password authentication failed for user" in refused(PostgresStore(url.format(SECRET)))
    assert PostgresStore(url.format(PASSWORD)).list() == []


def test_missing_rights_are_one_clear_line(tmp_path):
    server().execute("DO $$ BEGIN CREATE ROLE visitor LOGIN; EXCEPTION WHEN others THEN END $$")
    store = PostgresStore(url_of(tmp_path, user="visitor"))
    assert store.list() == []  # reading makes nothing
    with pytest.raises(OSError, match=r"permission denied for database postgres; grant the role what it needs"):
        store.save("mine", [b"{}"])
    store_of(tmp_path).save("mine", [b"{}"])
    assert "permission denied for schema" in refused(store)
    schema = schema_of(tmp_path)
    server().execute(f"GRANT USAGE ON SCHEMA {schema} TO visitor")
    server().execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO visitor")
    assert [run.identifier for run in store.list()] == ["mine"]
    assert store.is_locked("mine") is False
    with pytest.raises(OSError, match="permission denied for table"):
        store.save("mine", [b"{}"])


def test_a_role_needs_no_more_than_the_page_says(tmp_path):
    server().execute("DO $$ BEGIN CREATE ROLE worker LOGIN; EXCEPTION WHEN others THEN END $$")
    store_of(tmp_path).save("mine", [b"{}"])
    schema = schema_of(tmp_path)
    server().execute(f"GRANT USAGE ON SCHEMA {schema} TO worker")
    server().execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO worker")
    store = PostgresStore(url_of(tmp_path, user="worker"))
    came = threading.Event()
    stop = store.watch("run", came.set)
    with rt.Session(run_identifier="run", store=store, durability="sync", logging_setting="NONE"):
        assert rt.call_sync(bytes, 100_000) == bytes(100_000)
        rt.state.send("run", "topic", 1, store)
    assert came.wait(30)
    stop()
    assert rt.state.prune(keep=0, store=store) == ["run"]


def test_reading_does_not_make_the_tables(store, sql, tmp_path):
    assert store.list() == []
    assert store.read("mine") is store.modified("mine") is store.find("mine") is None
    assert store.exists("mine") is store.is_locked("mine") is store.move_journal("mine", "other") is False
    assert store.list_messages("mine") == store.list_values("mine") == []
    assert store.read_value("mine", "0") is store.read_message("mine", "0") is None
    assert sql("SELECT to_regnamespace(%s)", schema_of(tmp_path)) == [(None,)]


def test_many_processes_may_make_the_tables_at_once(tmp_path):
    stores = [store_of(tmp_path) for _ in range(6)]
    start, failed = threading.Barrier(6), []

    def save(number):
        start.wait()
        try:
            stores[number].save(f"run-{number}", [b"{}"])
        except OSError as exc:
            failed.append(exc)

    threads = [threading.Thread(target=save, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(stores[0].list()) == 6


def test_tables_that_were_dropped_are_made_again(store, tmp_path):
    store.save("mine", [b"{}"])
    server().execute(f"DROP SCHEMA {schema_of(tmp_path)} CASCADE")
    assert store.list() == []  # reading finds nothing
    store.save("mine", [b"{}"])
    server().execute(f"DROP SCHEMA {schema_of(tmp_path)} CASCADE")
    with pytest.raises(OSError, match="does not exist"):
        store.save("mine", [b"{}"])
    store.save("mine", [b"{}"])
    assert store.exists("mine")


@pytest.mark.parametrize("name", ["a\0b", "lone \ud800", "ünïcode 🚂", "'; DROP TABLE runs; --", "%s"])
def test_any_name_of_a_flow_can_be_stored(store, sql, name):
    flow = rt.Flow(name, one, store=store, run_identifier="mine", logging_setting="NONE")
    assert flow.invoke() == 1
    assert rt.state.load_run("mine", store).flow_name == name
    [run] = rt.state.list_runs(store)
    assert (run.flow_name, run.state) == (name, "ended")
    assert len(sql("SELECT flow_name FROM @runs")) == 1


def test_a_document_of_something_else_is_kept_as_it_is(store, sql):
    content = b'{"flow_name": [1], "calls": "many", "start_time": {}, "runs": []}'
    store.save("mine", [content])
    assert store.read("mine").document == content
    assert sql("SELECT flow_name, calls, start_time FROM @runs") == [(None, None, None)]


def test_a_stricter_isolation_level_of_the_role_does_not_matter(tmp_path, sql):
    server().execute("DO $$ BEGIN CREATE ROLE strict LOGIN SUPERUSER; EXCEPTION WHEN others THEN END $$")
    server().execute("ALTER ROLE strict SET default_transaction_isolation = 'serializable'")
    store = PostgresStore(url_of(tmp_path, user="strict"))
    lock = store.lock("mine")

    def change(connection):
        connection.execute("SELECT 1")
        sql("UPDATE @leases SET expires = expires + interval '1 second'")  # as the thread does that renews them
        connection.execute("UPDATE leases SET expires = expires + interval '1 second'")

    store._connection.run(change, again=False)
    lock.release()


@pytest.mark.parametrize("code", ["serialization_failure", "deadlock_detected"])
def test_a_transaction_that_was_undone_is_tried_again(store, code):
    fails = [True]

    def work(connection):
        if fails.pop():
            fails.append(False)
            connection.execute(f"DO $$ BEGIN RAISE {code}; END $$")
        return "done"

    assert store._connection.run(work, again=False) == "done"


# ---- a server that goes away


def test_connections_are_opened_again_after_the_server_restarted(store):
    store.save("mine", [b"{}"])
    appender = store.open("other", b"one")
    appender.sync()
    server().kill()
    with pytest.raises(OSError, match="postgresql://"):
        store.list()
    appender.append(b"two")
    with pytest.raises(OSError, match="postgresql://"):
        appender.sync()
    server().start()
    appender.sync()
    appender.close()
    assert journal_of(store, "other") == b"onetwo"
    assert store.read("mine").document == b"{}"
    store.put_message("mine", b"hello")
    assert [store.read_message("mine", each) for each in store.list_messages("mine")] == [b"hello"]


def end_connections():
    server().execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'railtracks'")


def test_a_connection_that_was_ended_is_replaced_unnoticed(store):
    lock = store.lock("mine")
    write(store, "mine", b"one")
    for _ in range(3):
        end_connections()
        store.put_message("mine", b"x")
        end_connections()
        write(store, "mine", b"two")
        end_connections()
        assert journal_of(store) == b"two"
    assert len(store.list_messages("mine")) == 3
    end_connections()
    lock.release()
    assert store.is_locked("mine") is False


def test_a_commit_whose_answer_was_lost_is_not_done_twice(store, monkeypatch):
    import psycopg

    write(store, "mine", b"one")
    original, lost = psycopg.Connection.execute, []

    def execute(self, query, *args, **kwargs):
        result = original(self, query, *args, **kwargs)
        if isinstance(query, str) and ("INSERT INTO messages" in query or "INSERT INTO journals" in query) and lost:
            lost.pop()
            server().execute("SELECT pg_terminate_backend(%s)", self.info.backend_pid)
            original(self, "SELECT 1")
        return result

    monkeypatch.setattr(psycopg.Connection, "execute", execute)
    appender = store.open("mine", b"new")
    appender.sync()
    appender.append(b"er")
    lost.append(True)
    appender.sync()
    lost.append(True)
    store.put_message("mine", b"hello")
    assert lost == []
    assert journal_of(store) == b"newer"
    assert len(store.list_messages("mine")) == 1


@needs_fork
def test_a_forked_child_leaves_the_connections_alone(store):
    lock = store.lock("mine")
    write(store, "mine", b"one")
    child = os.fork()
    if not child:
        status = 1
        try:
            found = journal_of(store), store.is_locked("mine")
            try:
                store.lock("mine")
            except RunInUseError:
                status = 0 if found == (b"one", True) else 2
            store.close()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    write(store, "mine", b"two")
    assert journal_of(store) == b"two"
    lock.release()


def test_a_process_has_at_most_three_connections(store):
    count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'railtracks'"
    [(before,)] = server().execute(count)
    locks = [store.lock(f"run-{number}") for number in range(20)]
    threads = [threading.Thread(target=write, args=(store, f"run-{number}", b"x")) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server().execute(count)[0][0] - before <= 3
    for lock in locks:
        lock.release()
    store.close()
    still = threading.Event()
    while server().execute(count)[0][0] > before:  # the server takes a moment to notice
        still.wait(0.01)


# ---- group commit


def test_what_many_appenders_hold_is_committed_together(store, monkeypatch):
    write(store, "first", b"x")  # the tables are there
    locks = [store.lock(f"run-{number}") for number in range(30)]
    appenders = [store.open(f"run-{number}", b"x") for number in range(30)]
    statements, original = [], type(store._committer)._write

    def slow_write(self, group):
        statements.append(len(group.appenders))
        if len(statements) == 1:
            gathered.wait(30)
        return original(self, group)

    gathered = threading.Event()
    monkeypatch.setattr(type(store._committer), "_write", slow_write)
    done = []
    for number, appender in enumerate(appenders):
        appender.sync_soon(done.append)
        if number == 0:
            while not statements:
                threading.Event().wait(0.001)  # until the first one is being committed
    gathered.set()
    appenders[-1].append(b"y")
    appenders[-1].sync()
    assert done == [None] * 30
    assert statements[:2] in ([1, 29], [1, 30])
    assert len(statements) <= 3
    assert len(store.list()) == 31
    for lock in locks:
        lock.release()


@pytest.mark.parametrize("others", [0, 3])
def test_the_committing_thread_outlives_what_is_raised_in_it(store, monkeypatch, others):
    shown, done = [], []
    monkeypatch.setattr(threading, "excepthook", shown.append)

    def leave(error):
        raise SystemExit(f"a handler of the log, after {error}")

    first, *more = [store.open(f"run-{number}", b"one") for number in range(1 + others)]
    first.sync_soon(leave)
    for appender in more:
        appender.sync_soon(done.append)
    for appender in (first, *more):
        appender.append(b"two")
        appender.sync()
    assert done == [None] * others
    assert [journal_of(store, run.identifier) for run in store.list()] == [b"onetwo"] * (1 + others)
    assert [str(each.exc_value) for each in shown] == ["a handler of the log, after None"]


def test_all_are_answered_if_noting_a_lost_lease_fails(paused, store, other, sql, monkeypatch):
    shown, done = [], []
    monkeypatch.setattr(threading, "excepthook", shown.append)

    def fail(lost):
        raise SystemExit(f"of a handler: {lost}")

    leases = [store.lock(f"run-{number}") for number in range(2)]
    appenders = [store.open(f"run-{number}", b"one") for number in range(2)]
    leases[0].on_lost = fail
    sql("UPDATE @leases SET token = 1 WHERE identifier = 'run-0'")
    store._committer._commit_gathered(store._committer._queue, [(appenders[1], done.append)])
    with pytest.raises(RunLostError):
        appenders[0].sync()
    appenders[1].append(b"two")
    appenders[1].sync()
    assert done == [None]
    assert journal_of(store, "run-1") == b"onetwo"
    assert [type(each.exc_value) for each in shown] == [SystemExit]
    leases[1].release()


def test_a_journal_that_was_settled_is_not_brought_back(store):
    lock = store.lock("mine")
    appender = store.open("mine", b"one")
    appender.sync()
    appender.append(b"two")
    appender.settle()
    store.save("mine", [b"{}"])
    outcome = threading.Event()
    appender.sync_soon(lambda error: outcome.set())
    assert outcome.wait(30)
    assert journal_of(store) is None
    lock.release()


# ---- leases


def test_a_lease_names_process_and_machine(store, sql):
    lock = store.lock("mine")
    [(process_number, machine, seconds)] = sql(
        "SELECT process, machine, extract(epoch FROM expires - clock_timestamp())::float8 FROM @leases"
    )
    assert process_number == os.getpid()
    assert machine
    assert 20 < seconds <= 30
    with pytest.raises(RunInUseError, match=rf"open in another session \(process {os.getpid()} on {machine}"):
        store.lock("mine")
    lock.release()
    assert sql("SELECT * FROM @leases") == []


def test_a_lease_that_expired_may_be_taken_over(paused, store, other, sql):
    lock = store.lock("mine")
    assert other.is_locked("mine") is True
    expire(sql)
    assert other.is_locked("mine") is False
    new = other.lock("mine")
    assert other.is_locked("mine") is True
    lock.release()  # it does not release what is not its own
    assert store.is_locked("mine") is True
    new.release()
    assert store.is_locked("mine") is False


def test_who_lost_its_lease_can_write_nothing(paused, store, other, sql):
    lock = store.lock("mine")
    appender = store.open("mine", b"one")
    appender.sync()
    store.put_value("mine", "0", b"x")
    store.put_message("mine", b"x")
    expire(sql)
    new = other.lock("mine")
    write(other, "mine", b"other")
    appender.append(b"two")
    for attempt in (
        appender.sync,
        store.open("mine", b"anew").sync,
        lambda: store.save("mine", [b"{}"]),
        lambda: store.remove("mine"),
        lambda: store.move_journal("mine", "third"),
        lambda: store.put_value("mine", "1", b"y"),
        lambda: store.copy_values("mine", "third", ["0"]),
        lambda: store.remove_values("mine", ["0"]),
        lambda: store.remove_message("mine", store.list_messages("mine")[0]),
        lambda: store.move_messages("mine", "third"),
    ):
        with pytest.raises(RunLostError, match="does not have the run 'mine' any more"):
            attempt()
    assert other.read("mine") == (None, b"other")
    assert (list(other.list_values("mine")), len(other.list_messages("mine"))) == (["0"], 1)
    lock.release()
    new.release()


def test_who_could_not_take_a_run_does_not_write_it(store, other, sql):
    write(store, "mine", b"one")  # nobody has it
    lock = store.lock("mine")
    sql("UPDATE @leases SET host = 'another machine'")
    for attempt in (
        other.open("mine", b"other").sync,
        lambda: other.save("mine", [b"{}"]),
        lambda: other.remove("mine"),
        lambda: other.put_value("mine", "0", b"x"),
    ):
        with pytest.raises(RunInUseError, match="'mine' is open in another session"):
            attempt()
    assert journal_of(store) == b"one"
    lock.release()


def test_one_that_lost_its_lease_does_not_harm_the_others(paused, store, other, sql):
    locks = [store.lock(name) for name in ("one", "two")]
    appenders = [store.open(name, b"x") for name in ("one", "two")]
    sql("UPDATE @leases SET expires = clock_timestamp() - interval '1 second' WHERE identifier = 'one'")
    new = other.lock("one")
    outcomes = {}
    done = threading.Barrier(3)

    def sync(appender):
        try:
            appender.sync()
        except RunLostError as exc:
            outcomes[appender.identifier] = exc
        done.wait(30)

    for appender in appenders:
        threading.Thread(target=sync, args=(appender,)).start()
    done.wait(30)
    assert outcomes.keys() == {"one"}
    assert journal_of(store, "two") == b"x"
    assert journal_of(store, "one") is None
    for lock in (*locks, new):
        lock.release()


def test_a_lease_that_expired_unnoticed_is_still_its_holders(paused, store, sql):
    lock = store.lock("mine")
    expire(sql)
    write(store, "mine", b"one")
    assert journal_of(store) == b"one"
    lock.release()


def test_leases_are_renewed_in_the_background(tmp_path, sql):
    store = store_of(tmp_path, lease=0.5)
    lock = store.lock("mine")
    expire(sql)
    deadline = threading.Event()
    while not store.is_locked("mine"):  # within a third of the lease
        deadline.wait(0.01)
    lock.release()


def test_a_holder_is_notified_when_its_lease_is_lost(tmp_path, sql, other):
    store = store_of(tmp_path, lease=0.5)
    lost, errors = threading.Event(), []
    lock = store.lock("mine")

    def on_lost(error):
        errors.append(error)
        lost.set()

    lock.on_lost = on_lost
    sql("UPDATE @leases SET token = 1")
    assert lost.wait(30)
    assert isinstance(errors[0], RunLostError)
    lock.release()


def test_who_is_taking_over_does_not_wait_for_a_writer(paused, store, other, sql):
    import psycopg

    lock = store.lock("mine")
    with psycopg.connect(store._place.conninfo) as writer:  # in the middle of a write
        writer.execute(f"SELECT 1 FROM {store._place.schema}.leases FOR KEY SHARE")
        expire_now = f"UPDATE {store._place.schema}.leases SET expires = clock_timestamp() - interval '1 second'"
        server().execute(expire_now)
        with pytest.raises(RunInUseError):
            other.lock("mine")
    other.lock("mine").release()
    lock.release()


BODY_HOLD = """
lock = store.lock("mine")
say("held")
sys.stdin.readline()
"""


@needs_fork
def test_the_lease_of_a_dead_process_is_free_on_its_machine(store, other, elsewhere):
    with process("postgres", BODY_HOLD) as child:
        assert child.stdout.readline() == "held\n"
        with pytest.raises(RunInUseError):
            store.lock("mine")
        child.kill()
        child.wait()
        assert store.is_locked("mine") is False
        elsewhere()
        assert other.is_locked("mine") is True  # another machine cannot know
        with pytest.raises(RunInUseError, match="whose lease ends in"):
            other.lock("mine")


def test_of_many_who_take_over_exactly_one_succeeds(paused, store, sql, tmp_path):
    for _ in range(5):
        store.lock("mine")
        expire(sql)
        stores = [store_of(tmp_path) for _ in range(6)]
        start, got = threading.Barrier(6), []

        def take(each, start=start, got=got):
            start.wait()
            with contextlib.suppress(RunInUseError):
                got.append(each.lock("mine"))

        threads = [threading.Thread(target=take, args=(each,)) for each in stores]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(got) == 1
        got[0].release()


def test_sweeping_removes_what_is_long_over(store, sql):
    store.save("mine", [b"{}"])
    lock = store.lock("mine")
    sql("INSERT INTO @leases VALUES ('old', 5, clock_timestamp() - interval '2 days', 'm', 1)")
    sql("INSERT INTO @large_values VALUES ('gone', '0', 'x'), ('mine', '0', 'x')")
    store.sweep()
    assert sql("SELECT identifier FROM @leases") == [("mine",)]
    assert sql("SELECT identifier FROM @large_values") == [("mine",)]
    lock.release()


# ---- what is announced


def test_a_message_is_announced_to_every_process_that_listens(store):
    came = threading.Event()
    stop = store.listen("mine", came.set)
    came.wait(30)  # it begins to work
    came.clear()
    ran("postgres", 'store.put_message("mine", b"x")')
    assert came.wait(30)
    stop()
    stop()


def test_what_is_written_is_announced_to_those_who_watch(store, other):
    came = threading.Event()
    lock = other.lock("mine")
    stop = store.watch("mine", came.set)
    assert came.wait(30)
    deadline = threading.Event()
    while not server().execute(f"SELECT 1 FROM {store._place.schema}.watchers"):
        deadline.wait(0.01)
    for act in (lambda: write(other, "mine", b"x"), lambda: other.save("mine", [b"{}"]), lock.release):
        came.clear()
        act()
        assert came.wait(30)
    stop()


def test_an_outage_is_logged_once_and_so_is_its_end(store, caplog):
    lock = store.lock("mine")
    woken = threading.Event()
    stop = store.listen("mine", woken.set)
    woken.wait(30)
    with caplog.at_level(logging.WARNING, "RT"):
        server().kill()
        woken.clear()
        server().start()
        assert woken.wait(30)  # connected again
        stop()
        lock.release()
        store.close()
    texts = [record.getMessage() for record in caplog.records]
    assert next(text for text in texts if "cannot be reached" in text).startswith("postgresql://tests@")
    assert len(texts) <= 2


def test_a_process_may_end_while_it_holds_a_lease(store):
    assert ran(
        "postgres",
        """
lock = store.lock("mine")
store.open("mine", b"x").sync()
say("held")
""",
    ) == ["held"]
    store.lock("mine").release()
