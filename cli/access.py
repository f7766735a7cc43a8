"""Access to an environment for programs: its URL, an API key, and its CA certificate."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import certifi

from local import paths


@dataclass(frozen=True)
class Access:
    """Settings for a client. Only their owner can read the files."""

    url: str
    """Base URL of the OpenAI API; ends with /v1."""
    key: str
    authority_file: Path
    """File with the CA certificate of the environment."""
    bundle_file: Path
    """File with that certificate and the public CAs, so that a client that uses it can also reach other servers."""
    key_file: Path
    model: str
    """Name of a model of the environment."""

    @property
    def root(self) -> str:
        """The URL without /v1, for Anthropic's clients."""
        return self.url.removesuffix("/v1")


def folder(stack: str) -> Path:
    """Folder with an environment's files. Those of `local` are in the parent folder, for compatibility."""
    return paths.state() if stack == "local" else paths.state() / "access" / stack


def write(stack: str, outputs: dict[str, Any], model: str) -> Access:
    """Write an environment's files from the outputs of its stack."""
    home = folder(stack)
    found = Access(
        str(outputs["url"]), str(outputs["apiKey"]), home / "ca.pem", home / "ca-bundle.pem", home / "api-key", model
    )
    authority = str(outputs["authority"])
    paths.write_private(found.authority_file, authority)
    paths.write_private(found.bundle_file, Path(certifi.where()).read_text() + authority)
    paths.write_private(found.key_file, found.key)
    return found


def of(stack_name: str) -> Access:
    """Access to an environment. Raises LocalError if it is not running."""
    from cli import stack

    config = stack.read_config(stack_name)
    return write(stack_name, stack.running(stack_name), config.models[0].name)


def exports(access: Access) -> str:
    """Shell commands that export the environment variables for OpenAI's and Anthropic's clients."""
    variables = {
        "OPENAI_BASE_URL": access.url,
        "OPENAI_API_KEY": access.key,
        "ANTHROPIC_BASE_URL": access.root,
        "ANTHROPIC_API_KEY": access.key,
        "SSL_CERT_FILE": str(access.bundle_file),
    }
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())


_PYTHON = """\
import ssl
from pathlib import Path

from {package} import {names}

trusted = ssl.create_default_context(cafile={authority!r})
client = {cls}(
    base_url={url!r},
    api_key=Path({key!r}).read_text(),
    http_client=DefaultHttpxClient(verify=trusted),
)
"""
_OPENAI = """\
answer = client.chat.completions.create(
    model={model!r},
    messages=[{{"role": "user", "content": "Hello!"}}],
)
print(answer.choices[0].message.content)
"""
_ANTHROPIC = """\
answer = client.messages.create(
    model={model!r},
    max_tokens=64,
    messages=[{{"role": "user", "content": "Hello!"}}],
)
print(answer.content[0].text)
"""


def openai(access: Access) -> str:
    """A Python program with OpenAI's client. It reads the key from the key file."""
    return _python(access, "openai", "OpenAI", access.url) + _OPENAI.format(model=access.model)


def anthropic(access: Access) -> str:
    """A Python program with Anthropic's client."""
    return _python(access, "anthropic", "Anthropic", access.root) + _ANTHROPIC.format(model=access.model)


def _python(access: Access, package: str, cls: str, url: str) -> str:
    authority, key = str(access.authority_file), str(access.key_file)
    names = ", ".join(sorted((cls, "DefaultHttpxClient")))
    return _PYTHON.format(package=package, names=names, cls=cls, url=url, authority=authority, key=key)


def curl(access: Access) -> str:
    """A curl command. It reads the key from the key file, so that the shell's history does not contain the key."""
    body = f'{{"model": "{access.model}", "messages": [{{"role": "user", "content": "Hello!"}}]}}'
    return (
        f"curl --cacert {shlex.quote(str(access.authority_file))} "
        f'-H "Authorization: Bearer $(cat {shlex.quote(str(access.key_file))})" \\\n'
        f"  -H 'Content-Type: application/json' {access.url}/chat/completions \\\n  -d {shlex.quote(body)}\n"
    )
