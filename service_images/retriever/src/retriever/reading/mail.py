"""E-mail messages, with the standard library: sender, recipients, subject and text. Attachments are only named."""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage

from retriever.reading import markup

_HEADERS = ("From", "To", "Cc", "Date", "Subject")


def eml(content: bytes) -> str:
    """Text of a message. The plain part is preferred to the HTML part."""
    message = email.message_from_bytes(content, policy=email.policy.default)
    return _message(message)


def _message(message: EmailMessage) -> str:
    lines = [f"{name}: {message[name]}" for name in _HEADERS if message[name]]
    body = message.get_body(("plain", "html"))
    texts = ["\n".join(lines), _body(body) if body is not None else ""]
    for part in message.iter_attachments():
        if part.get_content_type() == "message/rfc822":
            texts.append(_message(part.get_content()))
        elif name := part.get_filename():
            texts.append(f"Attachment: {name}")
    return "\n\n".join(text for text in texts if text)


def _body(part: EmailMessage) -> str:
    if part.get_content_type() == "text/html":
        payload = part.get_payload(decode=True)
        charset = part.get_content_charset() or ""
        return markup.html(payload if isinstance(payload, bytes) else b"", charset)
    try:
        return part.get_content()
    except LookupError:  # unknown charset
        payload = part.get_payload(decode=True)
        return payload.decode(errors="replace") if isinstance(payload, bytes) else ""
