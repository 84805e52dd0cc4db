"""Images, audio and documents: from bytes, files and addresses, with their media types, and what cannot be one."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest

from railtracks.llm import Audio, Document, Image, ToolMessage, UserMessage
from tests.llm.media import AT_ADDRESS, EACH, FLAC, GIF, IMAGE, JPEG, MP3, NOTES, OGG, PDF, PNG, WAV, WEBP

# ---- where they come from


@pytest.mark.parametrize(
    ("kind", "content", "media_type"),
    [
        (Image, PNG, "image/png"), (Image, JPEG, "image/jpeg"), (Image, GIF, "image/gif"), (Image, WEBP, "image/webp"),
        (Audio, WAV, "audio/wav"), (Audio, MP3, "audio/mpeg"), (Audio, OGG, "audio/ogg"), (Audio, FLAC, "audio/flac"),
        (Document, PDF, "application/pdf"),
    ],
)  # fmt: skip
def test_bytes_say_what_they_are(kind, content, media_type):
    found = kind(content)
    assert (found.media_type, found.data, found.size) == (media_type, content, len(content))


def test_a_file_is_read_at_once():
    Path("dot.png").write_bytes(PNG)
    found = [Image("dot.png"), Image(Path("dot.png")), Image(str(Path("dot.png").absolute()))]
    Path("dot.png").unlink()
    assert found == [Image(PNG, name="dot.png")] * 3


@pytest.mark.parametrize(
    ("name", "media_type"),
    [("a.txt", "text/plain"), ("a.md", "text/markdown"), ("a.JSON", "application/json"), ("a.py", "text/x-python")],
)
def test_the_name_says_it_where_the_content_does_not(name, media_type):
    Path(name).write_text("Grüß dich", encoding="utf-8")
    assert Document(name).media_type == media_type


def test_the_content_counts_for_more_than_the_name():
    Path("photo.jpg").write_bytes(PNG)
    assert Image("photo.jpg").media_type == "image/png"


@pytest.mark.parametrize(("given", "kept"), [("image/JPG", "image/jpeg"), ("image/heic; q=1", "image/heic")])
def test_a_media_type_that_is_given_counts(given, kept):
    assert Image(PNG, media_type=given).media_type == kept


def test_an_address_is_kept_and_not_read():
    assert (AT_ADDRESS.url, AT_ADDRESS.media_type) == ("https://example.org/dot.png", "image/png")
    assert (AT_ADDRESS.base64, AT_ADDRESS.data, AT_ADDRESS.size) == ("", b"", 0)
    assert Image("https://example.org/show?id=3").media_type is None
    assert Image("https://example.org/show.php").media_type is None
    assert Image(url="https://example.org/dot.png") == AT_ADDRESS


def test_a_data_url_has_its_content():
    assert Image(IMAGE.data_url, name="dot.png") == IMAGE
    assert Document("data:text/plain,a%20b").data == b"a b"
    assert Image(base64=IMAGE.base64, name="dot.png") == IMAGE


# ---- what cannot be one


@pytest.mark.parametrize(
    ("make", "error", "problem"),
    [
        (lambda: Image("no.png"), FileNotFoundError, r"there is no file 'no.png' in /.*; pass bytes, the path of"),
        (lambda: Image("x" * 5000), ValueError, r"a text of 5000 characters is not a path; for base64 write Image\(ba"),
        (lambda: Image("x" * 90 + "/y"), FileNotFoundError, r"there is no file 'x{59}\.\.\. in /"),
        (lambda: Image("/dev/null/x.png"), FileNotFoundError, "there is no file '/dev/null/x.png'; pass bytes"),
        (lambda: Image(b""), ValueError, "Image: there is nothing in it"),
        (lambda: Image(b"hello"), ValueError, r"type of it is not known; write Image\(..., media_type='image/png'\)"),
        (lambda: Image(PDF), ValueError, r"has the type application/pdf; .* such as image/png; write rt.llm.Document"),
        (lambda: Audio(PNG), ValueError, r"Audio: it has the type image/png; .* audio/wav; write rt.llm.Image"),
        (lambda: Document(WAV), ValueError, "write rt.llm.Audio"),
        (lambda: Image(PNG, media_type="video/mp4"), ValueError, "has the type video/mp4; .* such as image/png$"),
        (lambda: Image(PNG, media_type="png"), ValueError, "the media_type is 'png'; expected one such as 'image/png'"),
        (lambda: Image("ftp://a/b.png"), ValueError, "the address is 'ftp://a/b.png'; pass bytes, .* https://"),
        (lambda: Image(url="dot.png"), ValueError, "the address is 'dot.png'"),
        (lambda: Image("https://"), ValueError, "the address is 'https://'"),
        (lambda: Image(base64="?" * 99), ValueError, r"Image: '\?{59}... is not base64"),
        (lambda: Image("data:image/png"), ValueError, "has no comma; expected 'data:image/png;base64,...'"),
        (lambda: Image(), ValueError, r"Image needs one source: pass bytes, .*; or write Image\(base64=...\)"),
        (lambda: Image(PNG, base64="eA=="), ValueError, "Image needs one source"),
        (lambda: Image(3), TypeError, "Image: the source is 3; pass bytes"),  # type: ignore[arg-type]
        (lambda: Document(b"\xff", media_type="text/plain"), ValueError, "type text/plain, and is not in UTF-8"),
        (lambda: UserMessage("", attachments=IMAGE), ValueError, r"expected a list: attachments=\[rt.llm.Image"),  # type: ignore[arg-type]
        (lambda: UserMessage("", attachments=["a.png"]), ValueError, "'a.png' cannot be attached to a message; "),  # type: ignore[list-item]
        (lambda: UserMessage(["What?", IMAGE]), TypeError, r"is a list; .*s=\[rt.llm.Image\('photo.png'\)\]"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_what_cannot_be_one_says_why(make, error, problem):
    with pytest.raises(error, match=problem):
        make()


def test_an_empty_file_says_so():
    Path("dot.png").touch()
    with pytest.raises(ValueError, match=r"the file 'dot.png' is empty"):
        Image("dot.png")


# ---- how they are shown


def test_they_are_shown_short():
    long = Document(b"x" * 1_000_000, media_type="text/plain", name="x.txt")
    assert str(long) == "[document: x.txt, text/plain, 1000 kB]"
    assert repr(long) == ("Document(media_type='text/plain', name='x.txt', size=1000000, digest='3e6cc1405e091a6d')")
    assert str(AT_ADDRESS) == "[image: https://example.org/dot.png, image/png]"
    assert len(repr(UserMessage("What?", attachments=[long] * 3))) < 400


def test_the_repr_of_other_messages_has_not_changed():
    """It is part of digests that are on record."""
    assert repr(UserMessage("Hi.")) == "UserMessage(role='user', content='Hi.', inject_prompt=True)"
    assert repr(ToolMessage("3", "1", "add")) == (
        "ToolMessage(role='tool', content='3', tool_call_id='1', name='add', is_error=False)"
    )


def test_the_repr_tells_contents_apart():
    first, other = (UserMessage("What?", attachments=[Image(content)]) for content in (GIF, GIF + b";"))
    assert repr(first) != repr(other)
    assert repr(first) == repr(UserMessage("What?", attachments=[Image(GIF)]))


def test_they_are_copied_pickled_and_hashed():
    message = UserMessage("What?", attachments=EACH)
    assert pickle.loads(pickle.dumps(message)) == copy.deepcopy(message) == message
    assert len({message, copy.deepcopy(message)}) == 1
    assert NOTES.data.decode() == "Grüß dich"
