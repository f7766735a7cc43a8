"""Set-ups of programs that speak the API, ready to be copied."""

from __future__ import annotations

import json
from dataclasses import dataclass

_PLACEHOLDER = "YOUR-KEY"


@dataclass(frozen=True)
class Setup:
    """The set-up of one program."""

    name: str
    title: str
    about: str
    text: str


def setups(url: str, model: str, key: str = "") -> list[Setup]:
    """Set-ups for the gateway at `url`. Without a key, they contain a placeholder."""
    secret = key or _PLACEHOLDER
    shell_model = _in_shell(model)
    asked = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello"}]}, ensure_ascii=False)
    return [
        Setup(
            "curl",
            "curl",
            "One request, in a shell.",
            f"export CF_KEY={_in_shell(secret)}\n"
            f"curl {url}/v1/chat/completions \\\n"
            '  -H "authorization: Bearer $CF_KEY" \\\n'
            '  -H "content-type: application/json" \\\n'
            f"  -d {_in_shell(asked)}",
        ),
        Setup(
            "openai",
            "OpenAI SDK",
            "Python, with the package openai.",
            "from openai import OpenAI\n\n"
            f"client = OpenAI(base_url={url + '/v1'!r}, api_key={secret!r})\n"
            "answer = client.chat.completions.create(\n"
            f'    model={model!r}, messages=[{{"role": "user", "content": "Hello"}}]\n'
            ")\n"
            "print(answer.choices[0].message.content)",
        ),
        Setup(
            "anthropic",
            "Anthropic SDK",
            "Python, with the package anthropic.",
            "from anthropic import Anthropic\n\n"
            f"client = Anthropic(base_url={url!r}, auth_token={secret!r})\n"
            "answer = client.messages.create(\n"
            f'    model={model!r}, max_tokens=256, messages=[{{"role": "user", "content": "Hello"}}]\n'
            ")\n"
            "print(answer.content[0].text)",
        ),
        Setup(
            "claude-code",
            "Claude Code",
            "In the shell that starts it.",
            f"export ANTHROPIC_BASE_URL={_in_shell(url)}\n"
            f"export ANTHROPIC_AUTH_TOKEN={_in_shell(secret)}\n"
            f"export ANTHROPIC_MODEL={shell_model}\n"
            f"export ANTHROPIC_SMALL_FAST_MODEL={shell_model}\n"
            "claude",
        ),
        Setup(
            "codex",
            "Codex",
            "In ~/.codex/config.toml, with the key in the variable CF_KEY.",
            f"model = {_in_toml(model)}\n"
            'model_provider = "cogniforge"\n\n'
            "[model_providers.cogniforge]\n"
            'name = "CogniForge"\n'
            f"base_url = {_in_toml(url + '/v1')}\n"
            'env_key = "CF_KEY"\n'
            'wire_api = "responses"',
        ),
        Setup(
            "langchain",
            "LangChain",
            "Python, with the package langchain-openai.",
            "from langchain_openai import ChatOpenAI\n\n"
            f"model = ChatOpenAI(base_url={url + '/v1'!r}, api_key={secret!r}, model={model!r})\n"
            'print(model.invoke("Hello").content)',
        ),
    ]


def _in_shell(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _in_toml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
