"""The large values of a running session: searched for secrets and stored in a thread, beside the journal."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator

from railtracks._concurrency._background import Work, background
from railtracks._test_hooks import runtime_hooks
from railtracks.execution._recording._journal_writer import is_interrupt
from railtracks.state._redaction._large_texts import has_secret
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._large_values import MASKED, checked, content_of, digests_in
from railtracks.state._stores._values import ValueStore


class ValueKeeper:
    """Keeps the large values of one session. Its methods may be called from any thread.

    Args:
        store: Where they are kept.
        identifier: The run.
        redactor: The secrets that the session knows. A value with a secret is not stored, and counts as masked.
        on_failure: Called with each exception of the store.
        at_once: Whether values are stored while the session runs; otherwise ``flush`` does that.
    """

    def __init__(
        self,
        store: ValueStore,
        identifier: str,
        redactor: Redactor,
        on_failure: Callable[[BaseException], None],
        at_once: bool,
    ) -> None:
        self._store: ValueStore | None = store  # None in a forked child
        self._identifier = identifier
        self._redactor = redactor
        self._on_failure = on_failure
        self._at_once = at_once
        self._known: set[str] = set()
        self._waiting: deque[tuple[str, str | bytes]] = deque()
        self._unstored: dict[str, str | bytes] = {}
        self._is_running = False
        self._source: tuple[str, Collection[str]] | None = None  # what `copy_from` is still to copy
        self._referred: set[str] = set()
        self._guard = threading.RLock()  # of the attributes, for a moment only: the event loop takes it
        self._turn = threading.RLock()  # held while a value is stored

    def keep(self, digest: str, value: str | bytes) -> None:
        """Store a value, soon."""
        with self._guard:
            if digest in self._known or self._store is None:
                return
            self._known.add(digest)
            self._unstored[digest] = value
            self._waiting.append((digest, value))
            must_start = self._at_once and not self._is_running
            self._is_running = self._is_running or must_start
        if must_start:
            if runtime_hooks.get().thread_scheduler is None:
                background.submit(Work(self._run))
            else:  # a simulation decides when threads run, and could not wait for this one
                self._run()

    def _run(self) -> None:
        while self._store_next():
            pass

    def _store_next(self) -> bool:
        """Store the next value. Return whether there may be more; False if the store fails: it is tried again later."""
        with self._turn:
            with self._guard:
                store = self._store
                if not self._waiting or store is None:
                    self._is_running = False
                    return False
                digest, value = self._waiting[0]
            try:
                store.put_value(self._identifier, digest, self._searched(value))
            except BaseException as exc:  # a user's store may raise anything
                with self._guard:
                    self._is_running = False
                self._fail(exc)
                return False
            with self._guard:
                self._waiting.popleft()
                self._unstored.pop(digest, None)
            return True

    def _searched(self, value: str | bytes) -> bytes:
        """Return what is stored of a value."""
        return MASKED if has_secret(value, self._redactor) else content_of(value)

    @property
    def is_flush_due(self) -> bool:
        """Whether ``flush`` would do something."""
        return self._source is not None or bool(self._waiting)

    def flush(self) -> None:
        """Store all values that were handed over until now. Blocks."""
        if self.is_flush_due:
            self._copy()
            self._run()

    def find(self, digest: str) -> bytes:
        """Return a value of the session as it is stored. Blocks.

        Raises:
            ValueError: It is not stored, because there is a secret in it, or it was lost.
        """
        value, store = self._unstored.get(digest), self._store
        if value is not None:
            return checked(self._searched(value), digest)
        try:
            return checked(None if store is None else store.read_value(self._identifier, digest), digest)
        except OSError as exc:
            raise ValueError(f"has a large value that cannot be read ({exc})") from exc

    # ---- other runs

    def copy_from(self, identifier: str, digests: Collection[str]) -> None:
        """Take over values of the run that is resumed as another one. Blocks."""
        self._source = (identifier, digests)
        if self._at_once:
            self._copy()

    def _copy(self) -> None:
        source, store = self._source, self._store
        if source is None or store is None:
            return
        try:
            store.copy_values(source[0], self._identifier, source[1])
            self._source = None
        except BaseException as exc:  # a user's store may raise anything
            self._fail(exc)

    def _fail(self, exc: BaseException) -> None:
        if is_interrupt(exc):
            raise exc
        self._on_failure(exc)

    def copy_to(self, identifier: str) -> Collection[str]:
        """Copy what is there to another run: the values of an earlier session. Blocks. Return their digests.

        Raises:
            Exception: Whatever the store raises.
        """
        assert self._store is not None
        there = self._store.list_values(self._identifier)
        if there:
            self._store.copy_values(self._identifier, identifier, there)
        return there

    def remove_from(self, identifier: str, digests: Collection[str]) -> None:
        """Remove values that were copied to another run, which is not there after all. Blocks."""
        assert self._store is not None
        self._store.remove_values(identifier, digests)

    # ---- the document

    def watch(self, document: Iterable[str]) -> Iterator[str]:
        """Yield a document, and note to which values it refers."""
        self._referred.clear()
        for text in document:
            self._referred.update(digests_in(text))
            yield text

    def remove_others(self) -> None:
        """Remove the values to which the document that was watched does not refer. Blocks. A failure does no harm."""
        store = self._store
        try:
            if store is not None and (there := store.list_values(self._identifier)):
                store.remove_values(self._identifier, {*there} - self._referred)
        except BaseException as exc:  # a user's store may raise anything
            if is_interrupt(exc):
                raise

    def detach_after_fork(self) -> None:
        """Store nothing in a forked child: the run belongs to the parent."""
        self._guard, self._turn = threading.RLock(), threading.RLock()  # a thread of the parent may have held them
        self._store = None
