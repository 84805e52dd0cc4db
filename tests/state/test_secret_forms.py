"""Known secrets in other forms, what is learnt as a secret, and how long texts are searched."""

import base64
import json
import re
import textwrap
import urllib.parse

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import railtracks as rt
from railtracks.state._redaction._randomness import is_random
from railtracks.state._redaction._redactor import MASK, Redactor
from railtracks.state._serialization._encoder import Encoder
from railtracks.state._serialization._plain_data import MAX_REPR, MAX_SHOWN, MAX_TEXT
from railtracks.state._serialization._record_text import inputs_text, result_text
from tests.effort import examples

SECRETS = {
    "letters and digits": "Zq7secret9xK2", "hexadecimal": "9f86d081884c7d659a2feaa0c55ad015", "long": "aB3d" * 50,
    "signs": "p@ss w/rd+&=?%", "quotes": "it's \"so\" b\\ad 1", "accents": "pässwörd-1234",
    "emoji": "key-\U0001f511-99-x",
    "lines": "-----BEGIN KEY 1\nabc=\n-----END", "slashes": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLE",
}  # fmt: skip

secrets = pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS.keys())


def in_base64(before, encode=base64.b64encode):
    return lambda secret: encode(b"x" * before + secret.encode() + b"y" * (3 - before)).decode()


FORMS = {
    **{f"base64 after {before}": in_base64(before) for before in range(4)},
    **{f"base64 for URLs after {before}": in_base64(before, base64.urlsafe_b64encode) for before in range(4)},
    "base64 without padding": lambda secret: base64.b64encode(secret.encode()).decode().rstrip("="),
    "base64 in lines": lambda secret: base64.encodebytes(b"head of it " * 7 + secret.encode() + b" tail" * 20).decode(),
    "quoted for URLs": urllib.parse.quote,
    "quoted for URLs whole": lambda secret: urllib.parse.quote(secret, safe=""),
    "quoted for forms": urllib.parse.quote_plus,
    "quoted as browsers do": lambda secret: urllib.parse.quote(secret, safe="!'()*"),
    "quoted in lower case": lambda secret: re.sub(
        "%..", lambda code: code[0].lower(), urllib.parse.quote(secret, safe="")
    ),
    "json": json.dumps,
    "json in json": lambda secret: json.dumps(json.dumps(secret)),
    "repr": repr,
    "repr in json": lambda secret: json.dumps(repr(secret)),
    "bytes": lambda secret: repr(secret.encode()),
}


def forms_that_show(secret):
    """Return what someone could read the secret from: it and its base64, wherever that begins."""
    data = secret.encode()
    cores = []
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + data).decode()
        cores.append(encoded[4 if before else 0 : (before + len(data)) // 3 * 4])
    return [secret, *cores, *(core.replace("+", "-").replace("/", "_") for core in cores)]


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
@secrets
def test_a_known_secret_is_masked_in_its_other_forms(secret, form):
    redactor = Redactor()
    redactor.learn(secret)
    text = f"it is <{form(secret)}> here"
    hidden = redactor.redact(text)
    assert MASK in hidden
    assert hidden.startswith("it is <")
    assert hidden.endswith("> here")
    assert not any(shown in hidden.replace("\n", "") for shown in forms_that_show(secret))


@given(st.binary(min_size=8, max_size=40), st.binary(max_size=5), st.binary(max_size=5))
def test_known_bytes_are_masked_in_base64_at_every_place(secret, before, after):
    assume(is_random(secret.decode("latin-1")))
    redactor = Redactor()
    Encoder(redactor).encode({"encryption_key": secret})
    hidden = redactor.redact(base64.b64encode(before + secret + after).decode())
    assert MASK in hidden
    assert len(hidden) <= len(MASK) + 2 * (len(before) + len(after)) + 8


SPLIT = {
    "wrapped": lambda secret: "\n".join(textwrap.wrap(secret, 5, break_on_hyphens=False)),
    "wrapped and indented": lambda secret: "\n    ".join([secret[:4], secret[4:7], secret[7:]]),
    "with carriage returns": lambda secret: f"{secret[:6]}\r\n{secret[6:]}",
    "escaped": lambda secret: repr(f"{secret[:6]}\n{secret[6:]}"),
    "a character a line": "\n".join,
}


@pytest.mark.parametrize("split", SPLIT.values(), ids=SPLIT.keys())
@pytest.mark.parametrize("secret", ["Zq7secret9xK2", SECRETS["hexadecimal"]])
def test_a_known_secret_is_masked_if_it_is_split_over_lines(secret, split):
    redactor = Redactor()
    for n in range(20):
        redactor.add(f"another-{n:04}")
    redactor.add(secret)
    hidden = redactor.redact(f"first line\n{split(secret)}\nlast line")
    assert hidden.strip("'") == f"first line\n{'' if split is not SPLIT['escaped'] else chr(39)}{MASK}" + (
        "'\nlast line" if split is SPLIT["escaped"] else "\nlast line"
    )


@pytest.mark.parametrize("parts", [["Zq7sec", "ret9xK2"], list("Zq7secret9xK2"), ["a Zq7", "secret9", "", "xK2 b"]])
@pytest.mark.parametrize("kind", [list, tuple])
def test_a_known_secret_that_is_split_over_items_is_masked(parts, kind):
    redactor = Redactor()
    redactor.add("Zq7secret9xK2")
    encoder = Encoder(redactor)
    assert set(encoder.encode(kind(["first", *parts, "last"]))) <= {"first", "", MASK, "last"}
    assert encoder.form == "masked"
    whole = ["first", "Zq7 secret", "last"]
    assert Encoder(redactor).encode(whole) == whole


# ---- what is learnt

LEARNT = [
    "Zq7secret9xK2", "hunter2-x", "Summer2024!", "correcthorsebatterystaple", "correct horse battery staple",
    "4539 1488 0343 6467", "9f86d081884c", "pässwörd1", "密码口令钥匙串锁1", "tr0ub4dor&3", "!@#$%^&*()_+!?~",
    "f81d4fae-7dec-11d0",
]  # fmt: skip
NOT_LEARNT = [
    "", "true", "production", "Production", "PRODUCTION", "localhost", "development", "not-set", "none", "disabled",
    "required", "12345678", "2024-01-01", "2024-01-01 10:30:00", "1700000000", "127.0.0.1:8080", "aaaaaaaaaaaaaaa1",
    "12121212a", "********", "********1", "hunter2", "a1b2c3", "changeme", "application/json", "oauth2", "bearer",
    "client_credentials", "your-api-key", "YOUR_API_KEY", "<token>", "        ", "--------------------", MASK,
]  # fmt: skip


@pytest.mark.parametrize("text", LEARNT)
def test_what_is_long_and_random_enough_is_learnt(text):
    redactor = Redactor()
    assert Encoder(redactor).encode({"password": text}) == {"password": MASK}
    assert text in redactor.known
    assert redactor.redact(f"it is {text}") == f"it is {MASK}"


@pytest.mark.parametrize("text", NOT_LEARNT)
def test_a_word_under_the_name_of_a_secret_is_not_learnt(text):
    redactor = Redactor()
    assert Encoder(redactor).encode({"password": text}) == {"password": MASK}
    assert redactor.known == []


@pytest.mark.parametrize("text", ["hunter", "production", "kitchen tablet", "123456"])
def test_a_marked_secret_is_learnt_from_six_characters_on(text):
    redactor = Redactor()
    for value in (rt.Secret(text), {"password": rt.Secret([text])}):
        Encoder(redactor).encode(value)
        assert redactor.known == [text]


WITHIN = {
    "header": (f"Bearer {SECRETS['hexadecimal']}", SECRETS["hexadecimal"]),
    "login": ("Basic " + base64.b64encode(b"ada:Zq7secret9xK2").decode(), "Zq7secret9xK2"),
    "URL": ("postgres://ada:Zq7secret9xK2@db/x", "Zq7secret9xK2"),
    "settings": ("Server=db;Pwd=Zq7secret9xK2;Uid=ada", "Zq7secret9xK2"),
    "json": ('{"user": "ada", "password": "Zq7secret9xK2"}', "Zq7secret9xK2"),
}


@pytest.mark.parametrize(("value", "inside"), WITHIN.values(), ids=WITHIN.keys())
def test_the_secret_within_a_secret_is_learnt_too(value, inside):
    redactor = Redactor()
    Encoder(redactor).encode({"authorization": value})
    assert redactor.redact(f"it is {inside}, or {value}") == f"it is {MASK}, or {MASK}"


@given(st.text())
def test_a_longer_text_is_no_less_random(text):
    assert not is_random(text) or is_random(text + "a1")


# ---- cutting


class Shown:
    def __init__(self, text):
        self.text = text

    def __repr__(self):
        return self.text


def shown_repr(text, redactor):
    return Encoder(redactor).encode(Shown(text))["$repr"]


def shown_message(text, redactor):
    return Encoder(redactor).encode(ValueError(text))["$message"]


def shown_text(text, redactor):
    return Encoder(redactor).encode([text])[0]


def shown_bytes(text, redactor):
    data = text.encode().ljust(MAX_TEXT + 1, b".")
    return Encoder(redactor).encode(data)["$repr"]


CUT = {"repr": (shown_repr, MAX_REPR), "message": (shown_message, MAX_SHOWN), "bytes": (shown_bytes, MAX_REPR)}
cut = pytest.mark.parametrize(("show", "limit"), CUT.values(), ids=CUT.keys())


def parts_of(secret, size=6):
    return [secret[at : at + size] for at in range(len(secret) - size + 1)]


@cut
@pytest.mark.parametrize("secret", ["Zq7secret9xK2", "Zq7" + SECRETS["hexadecimal"] * 600])
def test_a_secret_that_straddles_the_cut_is_masked_whole(show, limit, secret):
    redactor = Redactor()
    redactor.add(secret)
    for at in (limit - len(secret) - 50, limit - 40, limit - 33, limit - 20, limit - 5, limit, limit + 8_190):
        text = ("." * max(at, 0) + secret).ljust(limit + 60_000, ".")
        shown = show(text, redactor)
        assert len(shown) <= limit
        assert "in all]" in shown
        assert not any(part in shown for part in parts_of(secret[:200]))


@cut
def test_secrets_before_the_cut_move_no_part_of_one_into_view(show, limit):
    """Masks are shorter than secrets, so more of the text comes into view."""
    secret = "Zq7" + "x1y2z3" * 300
    redactor = Redactor()
    redactor.add(secret)
    shown = show((secret * 100)[: limit + 9_000] + "." * 100_000, redactor)
    assert not any(part in shown for part in parts_of(secret[:100]))


@cut
@pytest.mark.parametrize(
    "text", ["password='{}'", "Authorization: Bearer {}", "https://ada:{}@host", "{{'token': '{}'}}"]
)
def test_a_secret_known_by_its_name_is_masked_at_the_cut(show, limit, text):
    secret = "Zq7" + "x1y2z3" * 30
    for at in (limit - 100, limit - 45):
        shown = show("." * (at - 1) + " " + text.format(secret) + "." * 50_000, Redactor())
        assert not any(part in shown for part in parts_of(secret))


@examples(50)
@given(st.integers(0, 1_100), st.integers(0, 12_000), st.sampled_from(["", "password='", "x Zq7secret9xK2 "]))
def test_a_repr_is_shown_up_to_its_limit(before, after, middle):
    redactor = Redactor()
    redactor.add("Zq7secret9xK2")
    text = "a" * before + middle + "b" * after
    shown = shown_repr(text, redactor)
    assert len(shown) <= MAX_REPR
    if len(text) > MAX_REPR + 50 and middle != "password='":
        assert shown.endswith(f"... [{len(text)} characters in all]")
    assert "Zq7s" not in shown


class Counting(Redactor):
    """Counts the characters that are searched."""

    __slots__ = ("searched",)

    def __init__(self):
        super().__init__()
        self.searched = 0

    def redact(self, text, by_name=True):
        self.searched += len(text)
        return super().redact(text, by_name)


@pytest.mark.parametrize("size", [2_000_000, 10_000_000])
def test_no_more_of_what_is_shown_is_searched_than_can_matter(size):
    """Searching all of 10 MB of bytes held up the event loop for seconds, in order to write a kilobyte."""
    redactor = Counting()
    inputs_text((b"x" * size,), {}, redactor, max_bytes=MAX_TEXT)
    inputs_text((Shown("x" * size),), {}, redactor)
    assert redactor.searched < 100_000
    result_text(ValueError("x" * size), redactor)
    inputs_text(("x" * size,), {}, redactor, max_bytes=MAX_TEXT)
    assert redactor.searched < 2 * MAX_TEXT
