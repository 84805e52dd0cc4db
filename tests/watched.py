"""A folder whose files are searched for a secret, in any form that it can be read from, and nodes that take one."""

import base64
import contextlib
import json
import logging
import re
import urllib.parse
from pathlib import Path

import attrs

import railtracks as rt

SECRET = "Qz7-hunter2"


_BREAKS = re.compile(rb'\\+[nr]\\s*|\\s*\\n\\s*|", "')
"""What stands between the parts of a text that is split over several lines, or over the items of a list."""


class Watched:
    """A folder, and all that was ever seen in its files, and the log records that an application's handler gets."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.seen = []
        self.handler = logging.Handler()
        self.handler.setFormatter(logging.Formatter("%(message)s"))
        self.handler.emit = lambda record: self.seen.append(self.handler.format(record).encode("utf-8", "replace"))  # type: ignore[method-assign]

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
        whole = [content for seen in self.seen for content in (seen, _BREAKS.sub(b"", seen))]
        return [form for form in forms(secret) for content in whole if form in content]


def quoted(text):
    return {
        text, repr(text)[1:-1], repr(f"'{text}\"")[3:-2], json.dumps(text)[1:-1],
        json.dumps(text, ensure_ascii=False)[1:-1],
    }  # fmt: skip


def base64_cores(data):
    """Yield what stands in the base64 of anything that contains the data, wherever in it."""
    for before in range(3):
        core = base64.b64encode(bytes(before) + data)[4 if before else 0 :]
        yield core[: (len(data) - 3) // 3 * 4].rstrip(b"=")


def forms(secret):
    """Return the bytes from which someone could read the secret."""
    texts = [secret] if isinstance(secret, str) else [repr(secret)[2:-1], secret.decode("latin-1")]
    if isinstance(secret, bytes):
        with contextlib.suppress(UnicodeDecodeError):
            texts.append(secret.decode())
    data = secret.encode() if isinstance(secret, str) else secret
    found = {data, *base64_cores(data)}
    for text in texts:
        for quote in (urllib.parse.quote, urllib.parse.quote_plus):
            found.add(quote(text, safe="").encode())
        for once in quoted(text):
            found.update(twice.encode("utf-8", "replace") for twice in quoted(once))
    return {form for form in found if len(form) >= 6}


@rt.function_node
async def login(password):
    return len(password)


@rt.function_node
async def use(value, more=None):
    return 1


class Login(rt.nodes.Node):
    def __init__(self, user, access_token):
        self.size = len(access_token)

    async def invoke(self):
        return self.size


@attrs.define
class AnAttrs:
    password: object
    user: str = "ada"
