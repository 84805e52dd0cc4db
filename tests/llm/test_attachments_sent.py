"""Attachments over the wire: each adapter's form, and what is refused before anything is sent.

The server refuses what providers refuse: types, roles, sizes, and what is not base64.
"""

from __future__ import annotations

import logging

import pytest

from railtracks.exceptions import LLMError
from railtracks.llm import AssistantMessage, Audio, Document, Image, ToolCall, ToolMessage, UserMessage
from tests.llm.media import AT_ADDRESS, IMAGE, NOTES, OGG, PAPER, PAPER_AT_ADDRESS, PNG, SOUND
from tests.llm.test_adapters import TOOL, adapter, anthropic, openai, responses  # noqa: F401 (a fixture)

CALLS = AssistantMessage("", [ToolCall("1", "draw"), ToolCall("2", "add")])
DRAWN = [
    ToolMessage("[image: dot.png]", "1", "draw", attachments=[IMAGE]),
    ToolMessage("3", "2", "add"),
]


async def sent(server, model, *messages):
    """Return the messages of the request."""
    completion = await model.complete(messages, tools=[TOOL])
    assert completion.message.content == "Hello dear world"
    return server.requests[-1].body.get("messages")


async def test_an_image_and_a_document_go_to_all_adapters(server, adapter):  # noqa: F811
    await sent(server, adapter(server.url), UserMessage("What is this?", attachments=[IMAGE, PAPER, NOTES, AT_ADDRESS]))
    await sent(server, adapter(server.url), UserMessage("", attachments=[IMAGE]))


async def test_openai_gets_parts(server):
    [message] = await sent(
        server, openai(server.url), UserMessage("Hm?", attachments=[IMAGE, AT_ADDRESS, SOUND, PAPER])
    )
    assert message["content"] == [
        {"type": "text", "text": "Hm?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{IMAGE.base64}"}},
        {"type": "image_url", "image_url": {"url": "https://example.org/dot.png"}},
        {"type": "input_audio", "input_audio": {"data": SOUND.base64, "format": "wav"}},
        {
            "type": "file",
            "file": {"filename": "paper.pdf", "file_data": f"data:application/pdf;base64,{PAPER.base64}"},
        },
    ]


async def test_openai_gets_documents_that_are_texts_as_texts(server):
    [message] = await sent(server, openai(server.url), UserMessage("Hm?", attachments=[NOTES]))
    text = "<document name='notes.txt'>\nGrüß dich\n</document>"
    assert message["content"] == [{"type": "text", "text": "Hm?"}, {"type": "text", "text": text}]


async def test_responses_get_items(server):
    attachments = [IMAGE, PAPER, PAPER_AT_ADDRESS, NOTES]
    await responses(server.url).complete([UserMessage("Hm?", attachments=attachments), CALLS, *DRAWN])
    message, *_, draw, _ = server.requests[-1].body["input"]
    image = {"type": "input_image", "image_url": IMAGE.data_url, "detail": "auto"}
    assert message["content"] == [
        {"type": "input_text", "text": "Hm?"},
        image,
        {"type": "input_file", "filename": "paper.pdf", "file_data": PAPER.data_url},
        {"type": "input_file", "file_url": "https://example.org/paper.pdf"},
        {"type": "input_text", "text": "<document name='notes.txt'>\nGrüß dich\n</document>"},
    ]
    assert draw["output"] == [{"type": "input_text", "text": "[image: dot.png]"}, image]


async def test_anthropic_gets_blocks(server):
    attachments = [IMAGE, AT_ADDRESS, PAPER, PAPER_AT_ADDRESS, NOTES]
    [message] = await sent(server, anthropic(server.url), UserMessage("Hm?", attachments=attachments))
    base64 = {"type": "base64", "media_type": "image/png", "data": IMAGE.base64}
    pdf = {"type": "base64", "media_type": "application/pdf", "data": PAPER.base64}
    assert message["content"] == [
        {"type": "text", "text": "Hm?"},
        {"type": "image", "source": base64},
        {"type": "image", "source": {"type": "url", "url": "https://example.org/dot.png"}},
        {"type": "document", "source": pdf, "title": "paper.pdf"},
        {"type": "document", "source": {"type": "url", "url": "https://example.org/paper.pdf"}},
        {
            "type": "document",
            "source": {"type": "text", "media_type": "text/plain", "data": "Grüß dich"},
            "title": "notes.txt",
        },
    ]


async def test_several_messages_in_a_row_keep_their_order(server):
    messages = [UserMessage("Before:", attachments=[IMAGE]), UserMessage("After:", attachments=[PAPER])]
    [message] = await sent(server, anthropic(server.url), *messages, UserMessage("What changed?"))
    assert [block.get("text", block["type"]) for block in message["content"]] == [
        "Before:", "image", "After:", "document", "What changed?",
    ]  # fmt: skip


# ---- from tools


async def test_anthropic_gets_what_a_tool_returned_in_its_result(server):
    *_, message = await sent(server, anthropic(server.url), UserMessage("Draw."), CALLS, *DRAWN)
    source = {"type": "base64", "media_type": "image/png", "data": IMAGE.base64}
    assert message["content"] == [
        {
            "type": "tool_result",
            "tool_use_id": "1",
            "content": [{"type": "text", "text": "[image: dot.png]"}, {"type": "image", "source": source}],
        },
        {"type": "tool_result", "tool_use_id": "2", "content": "3"},
    ]


async def test_openai_gets_what_a_tool_returned_after_all_results(server):
    """In a message of the user, as it takes only texts of tools."""
    *_, draw, add, user = await sent(server, openai(server.url), UserMessage("Draw."), CALLS, *DRAWN)
    assert (draw["content"], add["content"], user["role"]) == ("[image: dot.png]", "3", "user")
    assert user["content"][0]["text"] == "What the tool draw has returned (call 1):"
    assert user["content"][1]["image_url"]["url"].startswith("data:image/png;base64,")


async def test_what_a_tool_returned_goes_into_the_next_message(server):
    later = UserMessage("And now?", attachments=[PAPER])
    *_, add, user = await sent(server, openai(server.url), UserMessage("Draw."), CALLS, *DRAWN, later)
    assert (add["role"], user["role"]) == ("tool", "user")
    assert [part.get("text", part["type"]) for part in user["content"]] == [
        "What the tool draw has returned (call 1):", "image_url", "And now?", "file",
    ]  # fmt: skip


async def test_results_of_tools_go_to_all_adapters(server, adapter):  # noqa: F811
    await sent(server, adapter(server.url), UserMessage("Draw."), CALLS, *DRAWN)
    await sent(
        server, adapter(server.url), UserMessage("Draw."), CALLS, *DRAWN, AssistantMessage("So."), UserMessage("?")
    )


# ---- what a provider does not take


def real(make, **options):
    """Return a model of the provider itself: nothing must be sent."""
    return make("http://unused", **{"base_url": None, **options})


@pytest.mark.parametrize(
    ("make", "attachment", "problem"),
    [
        (anthropic, SOUND, "its provider does not take the type 'audio', only 'image', 'document'"),
        (anthropic, Image(b"BM", media_type="image/bmp"), "takes 'image/gif', .* 'image/webp'; convert it"),
        (anthropic, Document(b"PK", media_type="application/zip"), "takes 'application/pdf', and texts; convert it"),
        (anthropic, Image("http://a/b.png"), "addresses that begin with https:// only"),
        (anthropic, Document("https://a/b.txt"), "does not read it at an address; pass the content, or the path"),
        (anthropic, Image(PNG + bytes(2**23)), r"in base64 it has 11184\d+ characters; its provider takes 10485760"),
        (responses, SOUND, "does not take the type 'audio', only 'image', 'document'"),
        (openai, Audio(OGG), "its provider takes 'audio/mpeg', 'audio/wav'; convert it"),
        (openai, PAPER_AT_ADDRESS, "does not read it at an address"),
        (openai, Audio("https://a/b.wav"), "does not read it at an address"),
    ],
)  # fmt: skip
async def test_what_a_provider_does_not_take_is_not_sent(make, attachment, problem):
    with pytest.raises(LLMError, match=r"the model some-model cannot be sent \[.*\]: .*" + problem):
        await real(make).complete([UserMessage("Hm?", attachments=[attachment])])


async def test_what_a_tool_returned_is_left_out_if_it_is_not_taken(server, caplog):
    model = anthropic(server.url)
    returned = ToolMessage(f"{SOUND}\n{IMAGE}", "1", "draw", attachments=[SOUND, IMAGE])
    with caplog.at_level(logging.WARNING, "RT"):
        for _ in range(2):
            *_, message = await sent(server, model, UserMessage("Hm?"), CALLS, returned)
    text, image = message["content"][0]["content"]
    assert image["type"] == "image"
    assert text["text"].splitlines()[2] == (
        "[audio: audio/wav, 44 bytes] cannot be shown to you: its provider does not take the type 'audio', only "
        "'image', 'document'"
    )
    assert caplog.text.count("is not shown [audio: audio/wav, 44 bytes], which the tool draw has returned") == 1


async def test_an_unknown_server_is_sent_what_the_format_can_hold(server):
    from tests.llm.server import Answer

    server.answers = [Answer()] * 9
    model = openai(server.url)
    assert model.attachment_types == ("image", "audio", "document")
    with pytest.raises(Exception, match="Supported values are: 'wav' and 'mp3'"):  # by the server
        await model.complete([UserMessage("Hm?", attachments=[Audio(OGG)])])
    with pytest.raises(LLMError, match="does not read it at an address"):
        await model.complete([UserMessage("Hm?", attachments=[Audio("https://a/b.wav")])])
    assert len(server.requests) == 1
