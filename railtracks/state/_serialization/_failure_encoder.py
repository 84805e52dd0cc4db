"""Exceptions of failed calls to plain data: what people read of them, and all that is needed to make them again.

People read the type, the message and the traceback. The rest stands among the types beside it, as the state of the
exception. Texts in it are searched for secrets as messages are: a message shows them.
"""

from __future__ import annotations

from typing import Any

from railtracks.state._records import Form
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._encoder import Encoder
from railtracks.state._serialization._error_parts import error_state, links_of
from railtracks.state._serialization._hooks import registered_types
from railtracks.state._serialization._placeholders import placeholder_mark
from railtracks.state._serialization._places import Entry
from railtracks.state._serialization._plain_data import MAX_SHOWN, cut_text

_WHOLE = (Form.PLAIN, Form.TYPED)


class FailureEncoder(Encoder):
    """Turns the exception of a failed call into plain data.

    One whose texts together have more than ``MAX_SHOWN`` characters is not written whole: an error may have a whole
    answer of a server as its message, and searching that for secrets would hold up the event loop.
    """

    def __init__(self, redactor: Redactor, *limits: Any) -> None:
        super().__init__(redactor, *limits)
        if self.is_whole:
            self._max_text = min(self._max_text, MAX_SHOWN)
            self._room = min(self._room, MAX_SHOWN)
        self._numbers: dict[int, tuple[int, BaseException]] = {}  # by identity; the exception keeps that from reuse

    def encode_failure(self, error: BaseException, shown_traceback: str | None) -> dict[str, Any]:
        """Return an exception as plain data. Never raises. If it cannot be made again, the form says so.

        Args:
            error: The exception.
            shown_traceback: What to write in place of its traceback.
        """
        if self.is_whole:
            self._path.add(id(error))
            try:
                self._note_error(error)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException:  # any attribute of a user's exception may raise
                self.lose(Form.OPAQUE)
            finally:
                self._path.discard(id(error))
            if self.is_too_large:
                return {}  # it is written again, to be shown
        return self.describe_error(error, shown_traceback)

    def encode_error(self, error: Any) -> dict[str, Any]:
        """Return an exception that belongs to the one that the call raised. One that occurs twice is written once."""
        if id(error) in self._numbers:
            name = self._name_of(type(error))
            self.notes.append(("", name))
            return {"$type": name, "$same": self._numbers[id(error)][0]}
        number = len(self._numbers) + 1
        self._numbers[id(error)] = number, error
        mark = self.describe_error(error, "")
        self._note_error(error)
        return {**mark, "$number": number}

    def _write_message(self, text: str) -> str:
        message = super()._write_message(text)
        shown = text if len(text) <= MAX_SHOWN else cut_text(text[:MAX_SHOWN], MAX_SHOWN, f"{len(text)} characters")
        if message != shown:
            self.lose(Form.MASKED)  # what is masked in the message may stand in the state as well
        return message

    def _note_error(self, error: BaseException) -> None:
        """Note the type of an exception at this place, and what it consists of."""
        self.lose(Form.OPAQUE if placeholder_mark(error) else Form.TYPED)
        cls = type(error)
        found = registered_types.find(cls)
        if found is not None and found[0] is cls:
            state, links = {"value": found[1].unstructure(error)}, {}
        else:
            state, links = error_state(error), links_of(error)
        entry: Entry = self._name_of(cls)
        if state or links:
            outer, self.notes = self.notes, []
            try:
                data = {name: self.encode_at(name, value) for name, value in state.items()}
                data.update((name, self._encode_link(name, link)) for name, link in links.items())
                entry = {"type": entry, "state": data}
                if self.notes:
                    entry["types"] = dict(self.notes)
            finally:
                self.notes = outer
        self.notes.append(("", entry))

    def _encode_link(self, name: str, error: BaseException) -> dict[str, Any]:
        """Return a cause or a context as plain data: only what people read of it, if it cannot be made again."""
        loss, noted, numbers, is_too_large = self._loss, len(self.notes), dict(self._numbers), self.is_too_large
        self._loss = 0
        data: dict[str, Any] = self.encode_at(name, error)
        if self.form not in _WHOLE:
            del self.notes[noted:]
            self._numbers = numbers
            data = self.describe_error(error, "")
            self._loss, self.is_too_large = 0, is_too_large
        self._loss = max(loss, self._loss)
        return data

    def _redact(self, text: str) -> str:
        return self._redactor.redact_free_text(text)
