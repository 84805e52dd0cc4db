"""A PostgreSQL server in a folder of its own, for tests and benchmarks."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

MEMORY_FOLDER = "/dev/shm"


@cache
def programs() -> Path | None:
    """The folder with ``initdb`` and ``postgres``, the latest that there is; None if there is none."""
    found = shutil.which("initdb")
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    return Path(found).parent if found else debian[-1].parent if debian else None


class Server:
    """A server in a folder of its own, which is reached by a Unix socket there.

    It fsyncs as it does by default, so what it has committed survives ``kill``.

    Args:
        on_disk: Whether the folder must be on a disk, and not in memory.
    """

    def __init__(self, on_disk: bool = False) -> None:
        where = None if on_disk or not os.access(MEMORY_FOLDER, os.W_OK) else MEMORY_FOLDER
        self.folder = Path(tempfile.mkdtemp(prefix="rt-pg-", dir=where))
        self._process: subprocess.Popen[bytes] | None = None
        found = programs()
        assert found is not None, "tests that need a server are marked with needs_postgres"
        self._programs = found
        self._as_user: Sequence[str] = ()
        if os.getuid() == 0:  # which PostgreSQL refuses
            import pwd  # here, as Windows has none

            user = pwd.getpwnam("postgres" if any(u.pw_name == "postgres" for u in pwd.getpwall()) else "nobody")
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            self._as_user = "setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"
        self._run(
            "initdb", "-D", str(self.data), "-U", "tests", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C"
        )
        self.data.joinpath("pg_hba.conf").write_text("local all guarded scram-sha-256\nlocal all all trust\n")
        self.start()
        atexit.register(self.stop)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def _run(self, name: str, *arguments: str) -> None:
        command = [*self._as_user, str(self._programs / name), *arguments]
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder)

    def start(self) -> None:
        """Start it, and wait until it accepts connections."""
        settings = {
            "unix_socket_directories": str(self.folder), "listen_addresses": "", "max_connections": "100",
            "shared_buffers": "32MB", "max_wal_size": "128MB", "autovacuum": "off", "log_min_messages": "fatal",
        }  # fmt: skip
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        dies_with_us = ("setpriv", "--pdeathsig", "QUIT") if shutil.which("setpriv") else ()
        command = [*self._as_user, *dies_with_us, str(self._programs / "postgres"), "-D", str(self.data), *options]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while not self._is_ready():
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.02)

    def _is_ready(self) -> bool:
        import psycopg

        try:
            psycopg.connect(f"host={self.folder} user=tests dbname=postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    def kill(self) -> None:
        """Let it crash: it closes no connection in order, and writes nothing more."""
        self._end(signal.SIGQUIT)

    def stop(self) -> None:
        """Stop it for good."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self, signal_number: int) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal_number)
            process.wait(30)

    def execute(self, command: str, *values: object) -> list[tuple]:
        """Execute a statement, and return its rows."""
        import psycopg

        with psycopg.connect(f"host={self.folder} user=tests dbname=postgres", autocommit=True) as connection:
            cursor = connection.execute(command, values)
            return [] if cursor.description is None else cursor.fetchall()
