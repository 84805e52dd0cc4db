"""The smallest contents of some media types, and attachments made of them."""

from __future__ import annotations

from base64 import b64decode

from railtracks.llm import Audio, Document, Image

PNG = b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC")
JPEG = b"\xff\xd8\xff\xe0" + bytes(20)
GIF = b64decode("R0lGODlhAQABAAAAACw=")
WEBP = b"RIFF\x1a\0\0\0WEBPVP8L" + bytes(14)
WAV = b"RIFF\x24\0\0\0WAVEfmt " + bytes(28)
MP3 = b"ID3\x04" + bytes(20)
OGG = b"OggS" + bytes(20)
FLAC = b"fLaC" + bytes(20)
PDF = b"%PDF-1.4\n%%EOF\n"

IMAGE = Image(PNG, name="dot.png")
AT_ADDRESS = Image("https://example.org/dot.png")
SOUND = Audio(WAV)
PAPER = Document(PDF, name="paper.pdf")
PAPER_AT_ADDRESS = Document("https://example.org/paper.pdf")
NOTES = Document("Grüß dich".encode(), media_type="text/plain", name="notes.txt")
EACH = [IMAGE, AT_ADDRESS, SOUND, PAPER, PAPER_AT_ADDRESS, NOTES]
