"""Secrets by shape: tokens, URLs with a password, and assignments in prose."""

import json
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from railtracks.state._redaction._redactor import MASK, Redactor
from railtracks.state._serialization._encoder import encode
from tests.effort import examples
from tests.state.test_secret_values import SECRET, AReprOf

# ---- shapes


TOKENS = {
    "OpenAI": "sk-proj-abcDEF1234567890abcdef", "Anthropic": "sk-ant-api03-abcdefgh12345678",
    "AWS": "AKIAIOSFODNN7EXAMPLE", "AWS, temporary": "ASIAIOSFODNN7EXAMPLE",
    "GitHub": "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "GitHub, OAuth": "gho_abcdefghijklmnopqrstuvwxyz0123456789",
    "GitHub, fine": "github_pat_11ABCDEFG0abcdefghijklmnop_xyz",
    "Slack": "xoxb-123456789012-abcdefghijkl", "JWT": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N",
    "PEM": "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\nabc=\n-----END RSA PRIVATE KEY-----",
    "PEM, cut off": "-----BEGIN PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\nabc=",
}  # fmt: skip

tokens = pytest.mark.parametrize("token", TOKENS.values(), ids=TOKENS.keys())


@tokens
def test_the_shape_of_a_token_is_masked_in_any_text(token):
    for text in (token, f"Bearer {token}", f"key={token}", f"('{token}", f"\n{token}", f"line\n{token}"):
        assert Redactor().redact(text) == text.replace(token, MASK)


@tokens
def test_a_token_is_masked_after_an_escaped_line_break(token):
    """In reprs and in JSON a line break is two characters, and the second one is a letter."""
    for quote in (repr, json.dumps):
        for before in ("\n", "\t", "a\n"):
            quoted = quote(before + token + "\n")
            assert quote(token)[1:-1] not in Redactor().redact(quoted)
            assert MASK in Redactor().redact(quoted)


@tokens
def test_the_shape_of_a_token_is_masked_in_every_kind_of_value(token):
    inside = json.dumps(token)[1:-1]
    for value in ([token], {token: 1}, {"a": {"b": token}}, token.encode(), AReprOf(token), ValueError(token), {token}):
        data = json.dumps(encode(value))
        assert inside not in data
        assert "$base64" not in data


@pytest.mark.parametrize(
    ("url", "hidden"),
    [
        ("postgres://ada:pa55-word!@db:5432/x", "postgres://***@db:5432/x"),
        ("see https://ada:x@host/a and redis://:pa55@host:1", "see https://***@host/a and redis://***@host:1"),
        ("amqp://user.name:%2Fpa%40@host", "amqp://***@host"),
    ],
)
def test_user_and_password_are_cut_out_of_a_url(url, hidden):
    assert Redactor().redact(url) == hidden


@pytest.mark.parametrize(
    "text",
    [
        "https://host:8080/path", "https://host/a?mail=ada@example.com", "https://ada@host/", "task-sk-learn is fun",
        "sk-short1", "sk-no-digits-in-this-long-name", "AKIA", "AKIAlowercaselowercase",
        "ghost_writer_abcdefghijklmnopqrstuvw",
        "eyJ", "eyJabcdefgh", "-----BEGIN PUBLIC KEY-----\nabc", "xoxo-hugs", "ada@example.com: hello", "a://b",
    ],
)  # fmt: skip
def test_what_only_resembles_a_token_stays(text):
    assert Redactor().redact(text) == text


# ---- prose: reprs, messages, log lines


@pytest.mark.parametrize(
    "text",
    [
        f"password={SECRET}", f"password='{SECRET}'", f'password="{SECRET}"', f"Client(user='u', api_key='{SECRET}')",
        f"{{'password': '{SECRET}'}}", f'{{"password": "{SECRET}"}}', f'{{"password":"{SECRET}"}}',
        f"password = {SECRET}",
        f"GET /?token={SECRET}&page=2", f"X-Api-Key: '{SECRET}'", f"{{'Authorization': 'Bearer {SECRET}'}}",
        f"db_password={SECRET};host=x", f"OPENAI_API_KEY={SECRET} make", f"_password='{SECRET}'",
        f"clientSecret={SECRET},",
        f"password=b'{SECRET}'", f"{{'password': b'{SECRET}'}}", f"{{b'password': b'{SECRET}'}}",
        f"password=['{SECRET}']",
        f"{{'password': ['a', '{SECRET}']}}", f"password='it\\'s {SECRET}'", f'"password": "say \\"{SECRET}\\""',
        f"{{'token': ('{SECRET}', 1)}}", f"{{\"k\": \"{{\\\"password\\\": \\\"{SECRET}\\\"}}\"}}",
        f"password=SecretText('{SECRET}')",
    ],
)  # fmt: skip
def test_an_assignment_to_a_secret_name_is_masked_in_prose(text):
    hidden = Redactor().redact_free_text(text)
    assert SECRET not in hidden
    assert MASK in hidden


def test_what_stands_around_an_assignment_stays():
    text = f"Client(user='u', api_key='{SECRET}', region='eu', n=1)"
    assert Redactor().redact_free_text(text) == "Client(user='u', api_key=***, region='eu', n=1)"


@pytest.mark.parametrize(
    "text",
    [
        "max_tokens=4096", "Model(max_tokens=4096, author='Ada')", "{'author': 'Ada', 'key': 'v'}", "primary_key=7",
        "tokenizer='bpe'", "the password was wrong", "password reset: see mail", "a token: not given", "key=value; n=1",
        "{'tokens': 12, 'session': 'abc'}", "secretary='Bob'", "x == 1", "",
    ],
)  # fmt: skip
def test_an_assignment_to_another_name_stays_in_prose(text):
    assert Redactor().redact_free_text(text) == text


class Named:
    def __init__(self, **fields):
        self.__dict__ = fields

    def __repr__(self):
        return f"Named({', '.join(f'{name}={value!r}' for name, value in self.__dict__.items())})"


@examples(50)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20), st.booleans())
@example("'", True)
@example("\"'", True)
@example("\\", False)
@example("\\'", False)
def test_the_repr_of_an_object_does_not_show_a_secret_field(text, binary):
    secret = f"Qz7 {text} Qz7"
    shown = json.dumps(encode(Named(user="u", password=secret.encode() if binary else secret, region="eu")))
    assert "Qz7" not in shown
    assert "region='eu'" in shown


# ---- time


UNITS = [
    "a", "sk-", "sk-a", "sk-a1", "-sk-a", "://", "://a:", "://@:", "eyJ", "-eyJ", ".eyJ", "eyJabcdefgh.", "AKIA",
    "ghp_", "xoxb-",
    "key=", "password=", "password: ", "'password': '", "a-", "'", "a=", '"a":', "-----BEGIN PRIVATE KEY-----",
    "-----BEGIN A", "-----END ", " ", "\n",
    "token", "tokentoken=", "password=[", "Authorization: a ", "Cookie: a=b1", "?key=a1", "--token ", "key: ", "auth_",
    "Bearer ", "basic ", "curl -u a:b ", "://a", "://hooks.slack.com/services/", "sig=", "a=b;", "export A=b\n",
    '"token": "', "password=\\'", "token\n", "gh", "éİtoken=",
]  # fmt: skip


@pytest.mark.parametrize("unit", UNITS)
def test_no_text_takes_quadratic_time(unit):
    """40,000 characters take 5 milliseconds if all is well, 80 for the slowest; with squares it is many seconds."""
    text = (unit * 40_000)[:40_000] + " ="
    redactor = Redactor()
    redactor.add(SECRET)
    began = time.process_time()
    redactor.redact_free_text(text)
    redactor.redact(text)
    assert time.process_time() - began < 2  # which leaves time for the garbage collector
