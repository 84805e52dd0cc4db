"""The redactor against a model that searches for each known secret, one after another."""

import sys
import threading
from unittest.mock import patch

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from railtracks.state._redaction import _redactor
from railtracks.state._redaction._forms import forms_of, joined_lines, replace_split
from railtracks.state._redaction._redactor import MASK, MAX_KNOWN, Redactor
from railtracks.state._redaction._shapes import replace_spans, shape_spans
from railtracks.state._redaction._text_index import TextIndex
from tests.effort import examples


class Model:
    """Redacts at a cost that grows with the number of known secrets."""

    def __init__(self, limit=MAX_KNOWN):
        self.limit = limit
        self.by_age = {}
        self.revision = 0

    @property
    def known(self):
        return sorted(self.by_age, key=len, reverse=True)

    def add(self, text):
        if len(text) < 6 or text.isspace():
            return
        if text in self.by_age:
            self.by_age[text] = self.by_age.pop(text)
            return
        self.by_age[text] = None
        self.revision += 1
        if len(self.by_age) > self.limit:
            del self.by_age[next(iter(self.by_age))]

    def redact(self, text):
        forms = {form for secret in self.by_age for form in forms_of(secret)}
        for form in sorted(forms, key=lambda form: (-len(form), form)):
            if form in text:
                text = text.replace(form, MASK)
        if "\n" in text or "\\n" in text:
            joined = joined_lines(text)
            for form in sorted(forms, key=lambda form: (-len(form), form)):
                text = replace_split(text, form, MASK) if form in joined else text
        return replace_spans(text, shape_spans(text), MASK)


def texts_of(alphabet, **sizes):
    return st.text(st.sampled_from(alphabet), **sizes)


ALPHABETS = ["ab", "ab*", "a*", "abcdefgh", "aй字🔑\ud800", "a'\"\\\n", "0123456789"]
SHORTEST = [6, 7, 8, 10, 11, 12, 18, 19, 20, 40]
"""Around the lengths at which the index samples more or fewer places."""


@st.composite
def secrets_and_texts(draw):
    alphabet = draw(st.sampled_from(ALPHABETS))
    shortest = draw(st.sampled_from(SHORTEST))
    secrets = draw(st.lists(texts_of(alphabet, min_size=shortest, max_size=shortest + 12), min_size=1, max_size=12))
    if draw(st.booleans()):
        secrets.append(draw(texts_of(alphabet, min_size=6, max_size=40)))  # one that may be too short for the index
    part = st.sampled_from(secrets)
    cut = st.tuples(part, st.integers(0, 12), st.integers(0, 12)).map(lambda cut: cut[0][cut[1] : len(cut[0]) - cut[2]])
    filler = texts_of(alphabet + " x", max_size=20)
    texts = st.lists(st.one_of(part, cut, filler, st.just(MASK)), max_size=8).map("".join)
    return secrets, draw(st.lists(texts, min_size=1, max_size=4))


@examples(200)
@given(secrets_and_texts())
@example((["abcdefgh", "efghijkl"], ["abcdefghijkl", "xabcdefghijklefghijkl"]))
@example((["abcdefgh", "ab***cd", "fgh***abc", "*xxxxx", "yyyyy*"], ["yyyyyabcdefghxxxxx", "ababcdefghcd"]))
def test_it_redacts_as_the_model_does(case):
    secrets, texts = case
    redactor, model = Redactor(), Model()
    for secret in secrets:
        redactor.add(secret)
        model.add(secret)
        for text in texts:
            assert redactor.redact(text, by_name=False) == model.redact(text)
    assert set(redactor.known) == set(model.known)
    assert redactor.revision == model.revision


@examples(100)
@given(st.lists(texts_of("abc", min_size=6, max_size=9), max_size=60), st.integers(1, 12), st.data())
def test_it_forgets_the_same_secrets_as_the_model(secrets, limit, data):
    redactor, model = Redactor(), Model(limit)
    with patch.object(_redactor, "MAX_KNOWN", limit):
        for secret in secrets:
            redactor.add(secret)
            model.add(secret)
            text = "".join(data.draw(st.lists(st.sampled_from(secrets), max_size=3)))
            assert redactor.redact(text, by_name=False) == model.redact(text)
            assert redactor.known == model.known
    assert redactor.revision == model.revision


@pytest.mark.parametrize("shortest", SHORTEST)
def test_a_known_secret_is_found_wherever_it_stands(shortest):
    secrets = [f"{n:x}".rjust(shortest, "-") for n in range(50)]
    redactor = Redactor()
    for secret in secrets:
        redactor.add(secret)
    for before in range(40):
        for after in range(5):
            text = "x" * before + secrets[before] + "y" * after
            assert redactor.redact(text) == "x" * before + MASK + "y" * after


def test_the_shortest_secret_decides_how_densely_to_sample():
    assert [TextIndex(["a" * length]).shortest for length in SHORTEST] == [6, 7, 7, 7, 11, 11, 11, 19, 19, 19]


def test_a_text_without_a_secret_is_returned_as_it_is():
    redactor = Redactor()
    for n in range(100):
        redactor.add(f"secret-{n:04}")
        text = f"no secret-{n} in it: task-sk-learn, https://host/, high_light, I, J"
        assert redactor.redact(text) is text


def test_a_text_that_only_resembles_secrets_is_unchanged():
    redactor = Redactor()
    for n in range(100):
        redactor.add(f"secret-{n:04}")
    text = "secret-0100, secret-00, secret-0 012, ecret-0012"
    assert redactor.redact(text) is text


def test_secrets_that_share_their_beginning_or_end_are_found():
    redactor = Redactor()
    secrets = [f"{'a' * 30}{n:03}{'z' * 30}" for n in range(200)]
    for secret in secrets:
        redactor.add(secret)
    assert redactor.redact(" ".join(secrets)) == " ".join([MASK] * 200)


def test_the_index_forgets_secrets_that_are_forgotten():
    redactor = Redactor()
    for n in range(5 * MAX_KNOWN):
        redactor.add(f"{n * 0x9E3779B97F4A7C15 % 2**64:016x}")
    index = redactor._index
    assert (
        set(index._window_of) == set(redactor._forms) == {owner for each in index._windows.values() for owner in each}
    )
    assert len(index._grams) < 100 * MAX_KNOWN


def test_threads_may_add_secrets_while_others_redact():
    redactor = Redactor()
    redactor.add("always-known")
    problems = []

    def add(name):
        try:
            for n in range(500):
                redactor.add(f"{name}-secret-{n}")
                redactor.add("always-known")
        except Exception as exc:
            problems.append(exc)

    threads = [threading.Thread(target=add, args=(name,)) for name in "abc"]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            assert redactor.redact("it is always-known") == f"it is {MASK}"
    finally:
        for thread in threads:
            thread.join()
        sys.setswitchinterval(interval)
    assert not problems
    assert len(redactor.known) == MAX_KNOWN
