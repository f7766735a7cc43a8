"""Extraction of text from files, and refusals with their reasons."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from kit.workers import OutOfMemory, OutOfTime, WorkError, Workers
from retriever import reading
from retriever.ingest import READING
from retriever.reading import Unreadable, characters

from . import documents


def html(body: str) -> str:
    return reading.text("a.html", body.encode())


@pytest.mark.parametrize(
    ("page", "shown"),
    [
        ("<!doctype html><html><head><title>T</title><body><p>text", "text"),
        ("<table><tr><td>Quito</td><td>Ecuador</td></tr><tr><td>a<td>b</table>", "Quito\tEcuador\na\tb"),
        ("<td>Quito</td><td>Ecuador</td>", "QuitoEcuador"),  # browsers ignore cells outside of a table
        ("<ul><li>one<li>two</ul>", "one\ntwo"),
        ("one<br>two<b>bold</b>er  \n text", "one\ntwobolder text"),
        ("<p>a</p><p>b</p>", "a\n\nb"),
        ("<dl><dt>a<dd>b</dl>", "a\nb"),
        ("a<script>no()</script><style>no{}</style><noscript>no</noscript><template>no</template>b", "ab"),
        ("a<!-- no --><p hidden>no</p><div style='color:red; Display : none'>no</div><title>no</title>", "a"),
        ("<option>a<option>b", "a\nb"),
        ("x<button>a</button>y", "x a y"),
        ("<pre>  a\n  b</pre>", "  a\n  b"),
        ("a &amp; b &eacute; &nbsp; &#x41; &notit;", "a & b é   A ¬it;"),
        ("<svg><title>no</title><text>yes</text></svg>", "yes"),
        ("<div>" * 300 + "deep", "deep"),
        ("plain text", "plain text"),
    ],
)
def test_html_is_read_as_a_browser_shows_it(page: str, shown: str) -> None:
    assert html(page) == shown


@pytest.mark.parametrize(
    ("page", "encoding"),
    [
        ("<p>café “q”", "utf-8"),
        ("<p>café “q”", "utf-8-sig"),
        ("<p>café “q”", "utf-16"),
        ("<meta charset=iso-8859-1><p>café “q”", "cp1252"),
        ("<meta http-equiv=content-type content='text/html; charset=windows-1251'><p>привет", "cp1251"),
        ("<meta charset='shift_jis'><p>日本語", "cp932"),
        ("<p>café “q”", "cp1252"),
        ("<!-- <meta charset=cp1251> --><meta charset=utf-8><p>é", "utf-8"),
        ("<meta charset=nonsense><p>é", "utf-8"),
    ],
)
def test_html_is_decoded_as_a_browser_decodes_it(page: str, encoding: str) -> None:
    assert reading.text("a.html", page.encode(encoding)) == page[page.index("<p>") + 3 :]


@given(st.text(max_size=300), st.sampled_from(["a.html", "a.txt", "a.md", "a.csv", "a.xml", "a.eml"]))
@hypothesis_settings(max_examples=60)
def test_any_text_is_read_or_refused_with_a_reason_and_can_be_kept(text: str, name: str) -> None:
    try:
        found = reading.text(name, text.encode())
    except Unreadable as error:
        assert str(error)
    else:
        assert "\0" not in found
        found.encode()


@given(st.binary(max_size=300), st.sampled_from(sorted(reading.KINDS)))
@hypothesis_settings(max_examples=60)
def test_any_bytes_are_read_or_refused_with_a_reason(content: bytes, suffix: str) -> None:
    try:
        reading.text(f"a{suffix}", content).encode()
    except Unreadable as error:
        assert str(error)


def test_json_is_read_with_its_escapes_resolved() -> None:
    found = reading.text("a.json", b'{"a":"\\u00e9 \\ud83d\\ude00 \\"q\\" \\\\ud83d","a":[1,{}]}')
    assert found == '{\n"a":"é 😀 "q" \\ud83d",\n"a":[\n1,\n{\n}]}'


@pytest.mark.parametrize(
    "content", ['{"a":"hi \\ud83d there"}', '{"a":"hi \\udc00 there"}', '{"a":"hi \\u0000 there"}']
)
def test_invalid_characters_in_json_become_the_replacement_character(content: str) -> None:
    assert '"hi \ufffd there"' in reading.text("a.json", content.encode())


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
@hypothesis_settings(max_examples=50)
def test_any_json_is_read(value: Any) -> None:
    for ascii_only in (True, False):
        written = json.dumps(value, ensure_ascii=ascii_only, allow_nan=True).encode(errors="replace")
        if b"Infinity" not in written:
            assert reading.text("a.json", written)


def test_json_lines_are_read_line_by_line() -> None:
    assert reading.text("a.jsonl", b'{"a":1}\r\n\n["b"]\n') == '{\n"a":1}\n\n[\n"b"]'
    with pytest.raises(Unreadable, match="line 3"):
        reading.text("a.jsonl", b'{"a":1}\n\n{a}\n')


def test_word_files_are_read_with_tables_and_headers() -> None:
    found = reading.text("a.docx", documents.word("Hello"))
    assert "Hello\nQuito\tEcuador" in found and "Head of the page" in found


def test_slides_are_read_with_their_notes() -> None:
    found = reading.text("a.pptx", documents.slides("First\nSecond"))
    assert "Title\nFirst\nSecond" in found and "Said aloud" in found


def test_sheets_are_read_row_by_row_unless_they_are_hidden() -> None:
    found = reading.text("a.xlsx", documents.sheet("Hello"))
    assert "Hello\t1\t2.5\t\tTRUE" in found and "far away" in found and "not shown" not in found


def test_mail_is_read_with_sender_recipients_and_subject() -> None:
    mail = (
        b"From: Ann <ann@example.com>\r\nTo: bob@example.com\r\nSubject: =?utf-8?q?caf=C3=A9?=\r\nMIME-Version: 1.0\r\n"
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/html; charset=iso-8859-1\r\n\r\n"
        b"<p>d\xe9j\xe0 <b>vu</b>\r\n--b\r\nContent-Type: application/pdf\r\n"
        b"Content-Disposition: attachment; filename=plan.pdf\r\n\r\nx\r\n--b--\r\n"
    )
    found = reading.text("a.eml", mail)
    assert "Subject: café" in found and "déjà vu" in found and "Attachment: plan.pdf" in found


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.doc", b"x", "save it as .docx"),
        ("a.exe", b"MZ", "are not supported"),
        ("noend", b"x", "are not supported"),
        ("a.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1...", "password"),
        ("a.docx", b"PK", "not an Office file"),
        ("a.docx", documents.sheet("x"), "cannot be read as .docx"),
        ("a.pdf", b"%PDF-nothing", "cannot be read"),
        ("a.pdf", documents.pdf(b""), "images of text"),
        ("a.txt", b"\xff\xfe\xfa", "UTF-16"),
        ("a.txt", b"caf\xe9", "save it as UTF-8"),
        ("a.txt", b" \n ", "no text"),
        ("a.json", b"{", "cannot be read"),
        ("a.json", b"\xff\xff", "UTF-8"),
    ],
)
def test_unsupported_files_are_refused_with_the_reason(name: str, content: bytes, reason: str) -> None:
    with pytest.raises(Unreadable, match=reason):
        reading.text(name, content)


# --- normalization of characters ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("cafe\u0301", "café"),
        ("\ufb01re \uff21\uff22\uff23", "fire ABC"),
        ("so\u00adft\u200b", "soft"),
        ("x² ½ ①", "x² ½ ①"),
        ("a\0b\ud83d", "a\ufffdb\ufffd"),
        ("한글", "한글"),
    ],
)
def test_texts_that_look_the_same_are_the_same(text: str, normal: str) -> None:
    assert characters.normal(text) == normal


@given(st.text())
def test_the_normal_form_is_final(text: str) -> None:
    assert characters.normal(characters.normal(text)) == characters.normal(text)


# --- limits ---------------------------------------------------------------------------------------


def in_worker(name: str, content: bytes) -> Any:
    async def main() -> Any:
        workers = Workers("reading-test", 1, READING)
        try:
            return await workers.call("a", reading.text, name, content=content)
        except Exception as error:
            return error
        finally:
            await workers.close()

    return asyncio.run(main())


def test_a_small_pdf_that_unpacks_to_much_is_refused() -> None:
    bomb = documents.pdf_bomb()
    assert len(bomb) < 400_000
    found = in_worker("a.pdf", bomb)
    assert isinstance(found, Exception) and "decompression" in str(found), found


@pytest.mark.parametrize("kind", ["docx", "pptx", "xlsx"])
def test_an_office_file_that_unpacks_to_much_is_refused(kind: str) -> None:
    found = in_worker(f"a.{kind}", documents.office_bomb(kind))
    assert isinstance(found, Exception) and "unpacking" in str(found), found


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", b"[" + b"[1]," * (15 * 2**18 - 2) + b"1]"),
        ("a.json", b"[" * 15 * 2**20),
        ("a.html", b"<div>" * 200_000),
        ("a.eml", b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\n" * 2**18),
    ],
)
def test_a_file_that_takes_too_much_is_refused_or_read_within_the_limits(name: str, content: bytes) -> None:
    found = in_worker(name, content)
    assert isinstance(found, str | Exception)
    if isinstance(found, WorkError):
        assert isinstance(found, OutOfMemory | OutOfTime), found


def test_a_large_file_is_read_within_the_limits() -> None:
    entry = json.dumps({"name": "x" * 60, "items": [1, 2, 3], "text": "word " * 20})
    content = ("[" + ",".join([entry] * 40_000) + "]").encode()
    assert len(content) > 8_000_000
    found = in_worker("a.json", content)
    assert isinstance(found, str), found
