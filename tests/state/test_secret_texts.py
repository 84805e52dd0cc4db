"""Secrets in texts of which nothing is known: headers, URLs, connection strings, JSON, pairs of a name and a value."""

import base64
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from railtracks.state._redaction._redactor import MASK, Redactor
from railtracks.state._redaction._shapes import _SHAPES, _compiled, shape_spans
from railtracks.state._serialization._encoder import Encoder, encode, encode_for_model
from railtracks.state._serialization._secret_search import register_secrets
from tests.effort import examples

TOKEN = "Zq7secret9xK2"
LOGIN = base64.b64encode(f"ada:{TOKEN}".encode()).decode()

FOUND = {
    "bearer": f"Bearer {TOKEN}",
    "bearer, lower case": f"sent with bearer {TOKEN}",
    "bearer, upper case": f"BEARER {TOKEN}",
    "authorization header": f"Authorization: Bearer {TOKEN}",
    "authorization header with another scheme": f"Authorization: GenieKey {TOKEN}",
    "authorization header without a scheme": f"Authorization: {TOKEN}",
    "basic": f"Authorization: Basic {LOGIN}",
    "basic in lower case": f"basic {LOGIN}",
    "amazon's signature": f"Authorization: AWS4-HMAC-SHA256 Credential=A/2024, SignedHeaders=host, Signature={TOKEN}",
    "header": f"X-Api-Key: {TOKEN}",
    "dump of headers": f"GET / HTTP/1.1\r\nHost: a.example\r\nX-Auth-Token: {TOKEN}\r\nAccept: */*\r\n\r\n",
    "cookie": f"Cookie: theme=dark; session={TOKEN}; lang=en",
    "set-cookie": f"Set-Cookie: id={TOKEN}; Path=/; HttpOnly",
    "query": f"https://api.example.com/v1/items?page=2&api_key={TOKEN}&limit=5",
    "query, camel case": f"/items?apiKey={TOKEN}",
    "query of a map": "https://maps.example.com/js?key=Zq7secret9xK2",
    "signed URL": f"https://b.s3.amazonaws.com/k?X-Amz-Date=20240101T000000Z&X-Amz-Signature={TOKEN}&x=1",
    "shared access signature": f"https://x.blob.core.windows.net/c?sv=2022-11-02&sp=r&sig={TOKEN}%3D",
    "user info": f"https://ada:{TOKEN}@git.example.com/repo.git",
    "a token as the user": "https://Zq7secret9xK2abcd@git.example.com/repo.git",
    "postgres": f"postgresql+asyncpg://app:{TOKEN}@db:5432/shop?sslmode=require",
    "redis": f"rediss://:{TOKEN}@cache:6380/0",
    "mongodb": f"mongodb+srv://app:{TOKEN}@cluster0.example.net/?retryWrites=true",
    "amqp": f"amqps://app:{TOKEN}@mq:5671/%2f",
    "libpq": f"host=db port=5432 dbname=shop user=app password={TOKEN}",
    "libpq with a weak password": "host=db user=app password=correcthorse dbname=shop",
    "odbc": f"Driver={{ODBC Driver 18}};Server=tcp:x,1433;Uid=app;Pwd={TOKEN};Encrypt=yes;",
    "ado.net": f"Server=x;Database=y;User Id=app;Password={TOKEN};",
    "azure storage": f"DefaultEndpointsProtocol=https;AccountName=x;AccountKey={TOKEN}==;EndpointSuffix=core.net",
    "azure bus": f"Endpoint=sb://x.servicebus.windows.net/;SharedAccessKeyName=Root;SharedAccessKey={TOKEN}=",
    "environment": f"DEBUG=1\nexport OPENAI_API_KEY={TOKEN}\nREGION=eu\n",
    "slack webhook": "https://hooks.slack.com/services/T00000000/B00000000/Zq7secret9xK2",
    "discord webhook": "post to https://discord.com/api/webhooks/123456789/Zq7secret9xK2abc, please",
    "teams webhook": "https://contoso.webhook.office.com/webhookb2/Zq7secret9xK2@x/IncomingWebhook/y",
    "telegram bot": "https://api.telegram.org/bot123456:Zq7secret9xK2/sendMessage",
    "curl, user": f"curl -u ada:{TOKEN} https://a.example/x",
    "curl, header": f"curl -H 'Authorization: Bearer {TOKEN}' https://a.example/x",
    "curl, another header": f'curl -H "X-Api-Key: {TOKEN}" https://a.example/x',
    "option": f"deploy --api-key {TOKEN} --region eu",
    "option with a sign": f"deploy --api-key={TOKEN}",
    "json": json.dumps({"user": "ada", "access_token": TOKEN, "n": 1}),
    "json, indented": json.dumps({"auth": {"password": TOKEN}}, indent=2),
    "json with a weak password": '{"user": "ada", "password": "hunter2"}',
    "json in json": json.dumps({"body": json.dumps({"client_secret": TOKEN})}),
    "json in a text": f'the answer was {{"refresh_token":"{TOKEN}"}}, and then nothing',
    "repr of a dict": repr({"password": TOKEN}),
    "yaml": f"db:\n  user: app\n  password: {TOKEN}\n  port: 5432\n",
    "form": f"grant_type=password&username=ada&password={TOKEN}",
}

LEFT = [
    "the bearer of this letter", "Bearer authentication is required", "Bearer token", "bearer realm", "Basic plan",
    "Basic authentication", "basic understanding of tokens", "Authorization: none", "authorization: not given",
    "a token: not given", "the password was wrong", "password reset: see mail", "password: required", "secret: true",
    "token_count: 12345678", "max_tokens=40964096", "next_page_token=CAUQAA123456", '{"token_type": "bearer"}',
    '{"next_page_token": "CAUQAA123456"}', '{"author": "ada1234567"}', "?page=2&page_token=abc123def456",
    "primary_key=abc123def456", "https://a.example/x?id=abc123def456&key=name", "https://ada@host/", "a@b.example",
    "cookie_consent=granted2024", "Cookie: dark", "token = get_token(user1)", "token = tokens[index1]",
    "password = os.environ['X1']", "api_key=settings.v2.api_key", "password=${DB_PASSWORD_1}", "token=<your-token-1>",
    "auth: https://auth.example.com/v1", "password=", "password: ", "--token", "--token --other1234",
    "https://hooks.slack.com/docs", "https://discord.com/channels/1/2", "curl https://a.example/x -o u:v",
    "auth_method: password2024x", "see https://a.example/tokens/12345678", "", "=", ":", "x: y", "key: value",
    "`Authorization: Bearer ...`, passwords in URLs, `?api_key=...`, webhooks",
    "settings=settings, secret_settings=secret_settings", "username=auth_info[0], password=auth_info[2]",
]  # fmt: skip


@pytest.mark.parametrize("text", FOUND.values(), ids=FOUND.keys())
def test_a_secret_is_found_by_what_stands_around_it(text):
    hidden = Redactor().redact(text)
    assert MASK in hidden
    assert not any(secret in hidden for secret in (TOKEN, LOGIN, "correcthorse", "hunter2"))
    assert Redactor().redact(hidden) == hidden


@pytest.mark.parametrize("text", FOUND.values(), ids=FOUND.keys())
def test_a_secret_is_found_in_messages_and_values_too(text):
    for value in (ValueError(text), [text], {"note": text}, text.encode(), {text: 1}):
        shown = json.dumps(encode(value))
        assert not any(secret in shown for secret in (TOKEN, LOGIN))
        assert "$base64" not in shown


@pytest.mark.parametrize("text", LEFT)
def test_a_text_that_only_looks_like_a_secret_is_left_alone(text):
    assert Redactor().redact(text) == text


def test_what_stands_around_a_secret_stays():
    text = f"GET /a?page=2&api_key={TOKEN}&limit=5 HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\nHost: a\r\n"
    assert Redactor().redact(text) == text.replace(TOKEN, MASK)
    assert Redactor().redact(FOUND["postgres"]) == "postgresql+asyncpg://***@db:5432/shop?sslmode=require"
    assert Redactor().redact(FOUND["form"]) == "grant_type=password&username=ada&password=***"
    assert Redactor().redact(FOUND["libpq"]) == "host=db port=5432 dbname=shop user=app password=***"


def test_a_model_sees_the_page_that_a_tool_has_read():
    """What is sent to a model is not searched for names: to it, they are only words."""
    for text in (FOUND["yaml"], FOUND["json"], FOUND["option"]):
        assert encode_for_model([text]) == [text]


# ---- pairs


PAIRS = {
    "list of tuples": [("Accept", "*/*"), ("Authorization", f"Bearer {TOKEN}")],
    "list of lists": [["x-api-key", TOKEN], ["n", "1"]],
    "tuple of tuples": (("cookie", TOKEN),),
    "bytes, as in ASGI": [(b"host", b"a"), (b"authorization", TOKEN.encode())],
    "weak": [("password", "weak"), ("user", "ada")],
    "name and value": [{"name": "DB_PASSWORD", "value": TOKEN}, {"name": "REGION", "value": "eu"}],
    "key and value": {"Key": "api_key", "Value": TOKEN},
}


@pytest.mark.parametrize("value", PAIRS.values(), ids=PAIRS.keys())
def test_a_secret_is_masked_in_a_pair_of_a_name_and_a_value(value):
    redactor = Redactor()
    shown = json.dumps(Encoder(redactor).encode({"k": value}))
    assert "weak" not in shown
    assert TOKEN not in shown
    assert MASK in shown
    searched = Redactor()
    register_secrets({"k": value}, searched)
    assert searched.known == redactor.known


def test_lists_that_are_no_pairs_stay():
    for value in (
        ["password", "user"], [("password", "user", 1)], [("a", "b"), "password"], [("password",)], [[1, "token"]],
        {"name": "token_count", "value": "12345678a"}, {"name": "ada", "password_policy": "strict", "value": "x"},
        [("page_token", "CAUQAA123456")],
    ):  # fmt: skip
        assert "***" not in json.dumps(encode(value))


# ---- the anchors of shapes


pieces = st.sampled_from(
    [
        "sk-", "abcDEF1234567890abcdef", "AKIA", "IOSFODNN7EXAMPLE", "ghp_", "github_pat_", "xoxb-", "eyJ", ".", "://",
        "ada:", "@", "Bearer ", "BEARER ", "basic ", LOGIN, " ", "\n", "\\n", "-----BEGIN PRIVATE KEY-----", "AIza",
        "https", "hooks.slack.com/services/", "curl ", " -u ", "glpat-", "sk_live_", "x" * 40, "é", "-", "_", TOKEN,
    ]
)  # fmt: skip
texts = st.lists(pieces, max_size=12).map("".join)


@examples(300)
@given(texts)
def test_no_secret_is_missed_because_of_its_anchor(text):
    """All that the expressions find anywhere in a text is found at the anchors as well."""
    found = shape_spans(text)
    for gate, shapes in _SHAPES.items():
        for shape in shapes if gate != "curl " or gate in text else ():
            pattern = _compiled(shape.expression)
            group = "secret" if "secret" in pattern.groupindex else 0
            for match in pattern.finditer(text):
                if len(text) >= 8 and (shape.check is None or shape.check(match[group])):
                    begin, end = match.span(group)
                    assert any(start <= begin and end <= stop for start, stop in found)


named = st.sampled_from(
    [
        "password", "token", "api_key", "Authorization", "Cookie", "key", "sig", "'", '"', "\\", "\\'", '\\"', "=", ":",
        ": ", " ", "\n", "?", "&", ";", "--", "{", "}", "[", "]", "(", TOKEN, "Bearer ", "://", "@", "a", "1", "*",
        "***", "é", "İ", ",", "sk-", "hunter2",
    ]
)  # fmt: skip


@examples(400)
@given(st.lists(named, max_size=14).map("".join))
@example("token=***abc12345")
def test_redacting_again_changes_nothing(text):
    redactor = Redactor()
    for redact in (redactor.redact, redactor.redact_free_text):
        hidden = redact(text)
        assert redact(hidden) == hidden
