"""``fill`` against a scanner that was written without it; what no value can do; ``escape_braces`` undoes it."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import railtracks as rt
from railtracks.llm._prompt import fill
from railtracks.testing import ScriptedModel, simulate
from tests.effort import examples

# Names that regular expressions and Python see differently are among them.
NAMES = ["a", "b", "name", "_x1", "größe", "名前", "class", "λ", "Ω_2"]
COMBINED = ["हिन्दी", "e\u0301", "a·b", "ไทยที่"]
pieces = st.sampled_from(
    ["{", "}", "{{", "}}", "{a}", "{{b}}", "{ a}", "{a.b}", "{a[0]}", "{a!r}", "{a:>3}", "{}", "{0}", "{1a}", "{a-b}",
     "a", "b", "_", "1", " ", "\n", '"', ":", "é", "²", "٣", *NAMES]
)  # fmt: skip
texts = st.lists(pieces, max_size=12).map("".join) | st.text(alphabet='{}ab_1.! "', max_size=20) | st.text(max_size=20)
values = st.dictionaries(st.sampled_from(NAMES), texts | st.integers() | st.none() | st.lists(texts, max_size=2))


# ---- the model


def scanned(text, values):
    """``fill``, character by character."""
    found, place = [], 0
    while place < len(text):
        for braces in (2, 1):
            name = enclosed(text, place, braces)
            if name is not None:
                break
        if name is None:
            found.append(text[place])
            place += 1
            continue
        place += len(name) + 2 * braces
        if braces == 2:
            found.append("{" + name + "}")
        else:
            found.append(str(values[name]) if name in values else "{" + name + "}")
    return "".join(found)


def enclosed(text, place, braces):
    """The name that stands there in so many braces, if one does."""
    if text[place : place + braces] != "{" * braces:
        return None
    end = start = place + braces
    while end < len(text) and text[end] not in "{}":
        end += 1
    name = text[start:end]
    return name if name.isidentifier() and text[end : end + braces] == "}" * braces else None


@examples(400)
@given(texts, values)
@example("{{{a}}}", {"a": 1})
@example("{{a}", {"a": 1})
@example("{a}}", {"a": 1})
@example("{{{{a}}}}", {"a": 1})
@example("{a}{{a}}{a}", {"a": "{a}"})
def test_it_does_what_the_scanner_does(text, values):
    assert fill(text, values) == scanned(text, values)


@examples(200)
@given(texts, values)
def test_what_is_escaped_comes_back_as_it_was(text, values):
    assert fill(rt.escape_braces(text), values) == text


@examples(100)
@given(texts, texts, values)
def test_what_is_escaped_can_stand_within_a_prompt(text, other, values):
    """But for a brace right before it, which would become part of it."""
    before, after = other.rstrip("{") + " ", " " + other.lstrip("}")
    escaped = fill(before + rt.escape_braces(text) + after, values)
    assert escaped == fill(before, values) + text + fill(after, values)


@examples(100)
@given(texts)
def test_text_escaped_twice_is_escaped_once_after_filling(text):
    assert fill(rt.escape_braces(rt.escape_braces(text)), {}) == rt.escape_braces(text)


@pytest.mark.parametrize("name", NAMES)
def test_names_are_identifiers_of_any_language(name):
    assert fill(f"{{{name}}} {{{{{name}}}}}", {name: 1}) == f"1 {{{name}}}"


@pytest.mark.parametrize("name", COMBINED)
def test_names_with_combined_characters_are_identifiers_too(name):
    assert name.isidentifier()
    assert fill(f"{{{name}}} {{{{{name}}}}}", {name: 1}) == f"1 {{{name}}}"


@pytest.mark.parametrize("name", ["²", "a²", "½"])
def test_only_an_identifier_is_a_name(name):
    assert not name.isidentifier()
    assert fill(f"{{{name}}} {{{{{name}}}}}", {name: 1}) == f"{{{name}}} {{{{{name}}}}}"


# ---- what holds for all


@examples(100)
@given(texts, values, st.randoms(use_true_random=False))
def test_the_order_of_the_keys_does_not_count(text, values, random):
    keys = list(values)
    random.shuffle(keys)
    assert fill(text, {key: values[key] for key in keys}) == fill(text, values)


@examples(100)
@given(texts)
def test_unknown_names_stay(text):
    assert fill(text, {}) == scanned(text, {})


@examples(100)
@given(st.lists(st.sampled_from(NAMES), min_size=1, max_size=5), texts)
def test_a_value_is_not_filled_in_again(names, value):
    text = " ".join(f"{{{name}}}" for name in names)
    assert fill(text, dict.fromkeys(NAMES, value)) == " ".join([value] * len(names))


documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet="ab ._-/", max_size=5),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(alphabet="ab ", max_size=3), below, max_size=3),
    max_leaves=8,
)


@examples(100)
@given(documents, st.sampled_from([None, 2]), values)
def test_json_documents_stay(document, indent, values):
    text = json.dumps(document, indent=indent)
    assert fill(text, values) == text
    assert fill(f"{text}\n{{a}}\n{text}", {**values, "a": "between"}) == f"{text}\nbetween\n{text}"


@examples(50)
@given(st.lists(documents, max_size=2), values)
def test_json_documents_without_spaces_stay(document, values):
    text = json.dumps([{"": document}], separators=(",", ":"))
    assert fill(text, values) == text


# ---- what is done with a value


class Watched:
    """Notes each access of its attributes and operators, but for those that ``str`` needs."""

    def __init__(self):
        object.__setattr__(self, "seen", [])

    def __getattribute__(self, name):
        object.__getattribute__(self, "seen").append(name)
        return object.__getattribute__(self, name)

    def __getitem__(self, key):
        object.__getattribute__(self, "seen").append(key)
        return key

    def __format__(self, spec):
        object.__getattribute__(self, "seen").append(spec)
        return "formatted"

    def __repr__(self):
        object.__getattribute__(self, "seen").append("repr")
        return "repr"

    def __str__(self):
        return "its text"

    def __call__(self):
        object.__getattribute__(self, "seen").append("called")

    def __eq__(self, other):
        object.__getattribute__(self, "seen").append("compared")
        return True

    def __bool__(self):
        object.__getattribute__(self, "seen").append("bool")
        return False

    __hash__ = None  # type: ignore[assignment]


paths = st.lists(
    st.sampled_from(
        [".__class__", ".secret", "[0]", "['a']", "!r", "!s", ":>10", ".a.b", "[a]", "()", ".__init__.__globals__"]
    ),
    max_size=3,
).map("".join)  # fmt: skip


@examples(100)
@given(texts, paths, st.integers(1, 3))
def test_nothing_is_asked_of_a_value_but_its_text(text, path, braces):
    value = Watched()
    place = "{" * braces + f"a{path}" + "}" * braces
    filled = fill(f"{text}{place} {{a}}", {"a": value, "b": value})
    assert object.__getattribute__(value, "seen") == []
    assert filled.endswith(" its text")
    assert filled == scanned(f"{text}{place} {{a}}", {"a": value, "b": value})


def test_a_text_of_a_class_of_its_own_is_asked_for_its_text():
    class Text(str):
        def __str__(self):
            return "its text"

        def __format__(self, spec):
            raise AssertionError("it was formatted")

    assert fill("{a}", {"a": Text("raw")}) == "its text"


def test_an_error_of_a_value_is_raised_as_it_is():
    class Broken:
        def __str__(self):
            raise LookupError("broken")

    with pytest.raises(LookupError, match="broken"):
        fill("{a}", {"a": Broken()})


def test_a_name_is_looked_up_once_for_each_place():
    class Mapping(dict):
        def get(self, key, default=None):
            looked_up.append(key)
            return super().get(key, default)

    looked_up = []
    fill("{a} {b} {{a}} {c.d}", Mapping(a="{b}"))
    assert looked_up == ["a", "b"]


@pytest.mark.parametrize(
    "text", ["{" * 100_000, "{{" * 50_000 + "a" + "}}" * 50_000, "{a" * 50_000, "{" + "a" * 100_000]
)
def test_long_texts_take_no_longer_than_their_length(text):
    """Not as a time, which differs, but as steps: a hundred thousand characters would not end if it were squared."""
    assert fill(text, {}).count("a") == text.count("a")
    assert fill(rt.escape_braces(text), {}) == text


# ---- in agents


@examples(40)
@given(texts.filter(bool), texts, values)
def test_agents_are_filled_as_texts_are(backend, system, question, values):
    model = ScriptedModel(lambda messages: "{a} {{a}}")
    agent = rt.agent_node("A", llm=model, system_message=system)
    outcome = simulate(agent, question, backend=backend, context=values, save_state=False)
    sent_system, sent_question = model.calls[0]
    assert sent_system.content == scanned(system, values)
    assert sent_question.content == scanned(question, values)
    assert outcome.result.content == "{a} {{a}}", "what a model says is not filled"
    again = simulate(agent, outcome.result.message_history, backend=backend, context=values, save_state=False)
    assert [m.content for m in model.calls[1][1:]] == [m.content for m in outcome.result.message_history]
    assert again.result.message_history[:2] == outcome.result.message_history


@examples(20)
@given(texts.filter(bool), texts, values)
def test_agents_are_not_filled_where_it_is_switched_off(backend, system, question, values):
    model = ScriptedModel(lambda messages: "fine")
    agent = rt.agent_node("A", llm=model, system_message=system)
    simulate(agent, question, backend=backend, context=values, save_state=False, prompt_injection=False)
    assert [message.content for message in model.calls[0]] == [system, question]
    one = rt.agent_node("A", llm=model, system_message=rt.llm.SystemMessage(system, inject_prompt=False))
    simulate(one, rt.llm.UserMessage(question, inject_prompt=False), backend=backend, context=values, save_state=False)
    assert [message.content for message in model.calls[1]] == [system, question]
