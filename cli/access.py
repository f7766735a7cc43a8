"""How programs reach an environment: its URL, a key, and the authority of its certificate."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import certifi

from local import paths


@dataclass(frozen=True)
class Access:
    """What a client needs. The files are readable by their owner only."""

    url: str
    """Of the OpenAI API; ends with /v1."""
    key: str
    authority_file: Path
    """The certificate of the environment's own authority."""
    bundle_file: Path
    """The same beside the public authorities: a client that trusts it still reaches the rest of the world."""
    key_file: Path
    model: str
    """One that can be asked."""

    @property
    def root(self) -> str:
        """The URL without /v1, as Anthropic's clients want it."""
        return self.url.removesuffix("/v1")


def folder(stack: str) -> Path:
    """Where an environment's files are. Those of `local` are where they were before there were others."""
    return paths.state() if stack == "local" else paths.state() / "access" / stack


def write(stack: str, outputs: dict[str, Any], model: str) -> Access:
    """Write the files of an environment from its stack's outputs."""
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
    """The access to an environment. Raises LocalError where it is not up."""
    from cli import stack

    config = stack.read_config(stack_name)
    return write(stack_name, stack.running(stack_name), config.models[0].name)


def exports(access: Access) -> str:
    """Variables that the clients of OpenAI and Anthropic read, as commands of a shell."""
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
    """A Python program with OpenAI's client. It reads the key from its file."""
    return _python(access, "openai", "OpenAI", access.url) + _OPENAI.format(model=access.model)


def anthropic(access: Access) -> str:
    """A Python program with Anthropic's client."""
    return _python(access, "anthropic", "Anthropic", access.root) + _ANTHROPIC.format(model=access.model)


def _python(access: Access, package: str, cls: str, url: str) -> str:
    authority, key = str(access.authority_file), str(access.key_file)
    names = ", ".join(sorted((cls, "DefaultHttpxClient")))
    return _PYTHON.format(package=package, names=names, cls=cls, url=url, authority=authority, key=key)


def curl(access: Access) -> str:
    """A command to paste: it reads the key from its file, so that the key is not in the shell's history."""
    body = f'{{"model": "{access.model}", "messages": [{{"role": "user", "content": "Hello!"}}]}}'
    return (
        f"curl --cacert {shlex.quote(str(access.authority_file))} "
        f'-H "Authorization: Bearer $(cat {shlex.quote(str(access.key_file))})" \\\n'
        f"  -H 'Content-Type: application/json' {access.url}/chat/completions \\\n  -d {shlex.quote(body)}\n"
    )
