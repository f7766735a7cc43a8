"""Checks a stream of chat completions or completions with Guardrails.

Every string of a delta is a text that arrives in pieces. Tool calls are held until they are complete, since their
arguments are JSON, whose escapes and numbers can be read only then.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from router import sse, texts
from router.guard import FILTERED, Guard, decode, encode
from router.guarded import Guarded

Json = dict[str, Any]
Path = tuple[str | int, ...]
_DONE = sse.event(sse.DONE)
_KEPT = ("id", "object", "created", "model", "system_fingerprint", "service_tier")
"""Fields of a chunk without text of the model."""


class GuardedChat(Guarded):
    """The chunks of one answer."""

    def __init__(self, guard: Guard, exchange: Any) -> None:
        super().__init__(guard, exchange)
        self._last: Json = {}
        """The latest chunk, without its choices."""
        self._frames: dict[Any, Json] = {}
        """By text: the choice that a further piece of it belongs to."""
        self._tools: dict[int, dict[int, Json]] = {}
        """Tool calls of each choice so far."""
        self._legacy: dict[int, Json] = {}
        """The same for `function_call`, the predecessor of tools."""

    async def one(self, event: bytes) -> bool:
        """Process a chunk."""
        line = (sse.data(event) or b"").strip()
        if line == sse.DONE:
            if await self.rest():
                self.send(_DONE)
                return True
            return False
        if not line:
            return True  # a comment, which only keeps the connection alive
        try:
            content = decode(line)
        except ValueError:
            content = line.decode(errors="replace")
        if not isinstance(content, dict):
            return await self._strange(content)
        choices = content.pop("choices", None)
        if not isinstance(choices, list):
            return await self._strange(content if choices is None else {**content, "choices": choices})
        if not await self.whole(content):
            self._block(0)
            return False
        self._last = {name: content[name] for name in _KEPT if name in content}
        sent: list[Json] = []
        for choice in choices:
            if not isinstance(choice, dict):
                continue
            if not await self._choice(choice):
                return False
            sent.append(choice)
        left = [choice for choice in sent if not _empty(choice)]
        if left or not sent or content.get("usage"):
            self.send(sse.event(encode({**content, "choices": left})))
        return True

    async def _strange(self, content: Any) -> bool:
        """Check an event that is not a chunk, such as an error, as a whole."""
        holder = content if isinstance(content, dict) else {"content": content}
        if not await self.whole(holder):
            self._block(0)
            return False
        self.send(sse.event(encode(content if isinstance(content, dict) else holder["content"])))
        return True

    async def _choice(self, choice: Json) -> bool:
        number = choice.get("index", 0)
        finished = bool(choice.get("finish_reason"))
        self._collect(number, choice)
        changed = False
        before: list[Any] = []
        for path, holder, name in list(_pieces(choice)):
            key = (number, *path)
            text = holder[name]
            before.append(key)
            self._frames[key] = _frame(choice, path)
            passed, going_on = await self.look(key, text, last=finished, answer=path in _ANSWERS)
            if finished:
                self.forget(key)
            if not going_on:
                self._block(number)
                return False
            changed = changed or passed != text
            holder[name] = passed
        await self._probabilities(choice, changed)
        beside = {name: value for name, value in choice.items() if name not in ("delta", "text", "logprobs", "index")}
        if not await self.whole(beside):
            self._block(number)
            return False
        choice.update(beside)
        if finished:
            for key in [key for key in self._calls if key[0] == number]:
                if not await self.flush(key):
                    return False
            return await self._send_tools(number)
        return True

    def _collect(self, number: int, choice: Json) -> None:
        """Remove tool calls from the delta, and hold them until they are complete."""
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            return
        calls = delta.pop("tool_calls", None)
        for place, call in enumerate(calls if isinstance(calls, list) else ()):
            if isinstance(call, dict):
                index = call.get("index", place)
                self._merge(self._tools.setdefault(number, {}).setdefault(index, {"index": index}), call)
        if isinstance(call := delta.pop("function_call", None), dict):
            self._merge(self._legacy.setdefault(number, {}), call)

    def _merge(self, into: Json, piece: Json) -> None:
        """Append arguments, which arrive in pieces; other fields arrive once."""
        for name, value in piece.items():
            if isinstance(value, dict):
                self._merge(into.setdefault(name, {}), value)
            elif isinstance(value, str) and name in ("arguments", "name", "input"):
                into[name] = (into.get(name) or "") + self.hold(value)
            elif value is not None:
                into[name] = value

    async def _send_tools(self, number: int) -> bool:
        """Forward complete tool calls, each in one piece."""
        delta: Json = {}
        if calls := self._tools.pop(number, None):
            delta["tool_calls"] = [calls[index] for index in sorted(calls, key=str)]
        if call := self._legacy.pop(number, None):
            delta["function_call"] = call
        if not delta:
            return True
        if not await self.whole({"choices": [{"delta": delta}]}):
            self._block(number)
            return False
        choice = {"index": number, "delta": delta, "finish_reason": None}
        self.send(sse.event(encode({**self._last, "choices": [choice]})))
        return True

    async def _probabilities(self, choice: Json, changed: bool) -> None:
        """Forward log-probabilities only if they match the forwarded text exactly; alternatives are checked."""
        found = choice.get("logprobs")
        if not found:
            return
        said = "".join(holder[name] for _, holder, name in _pieces(choice))
        tokens, beside = texts.said_by(found)
        others = {"alternatives": "\n".join(beside)}
        before = dict(others)
        if changed or tokens != said or (beside and not (await self.whole(others) and others == before)):
            texts.without_probabilities(choice)

    async def rest(self) -> bool:
        """Also forwards tool calls without a finish reason."""
        if not await super().rest():
            return False
        for number in {*self._tools, *self._legacy}:
            if not await self._send_tools(number):
                return False
        return True

    async def flush(self, key: Any) -> bool:
        """Sends a chunk of its own."""
        if self.closed(key):
            return True
        found = await self.look(key, "", last=True)
        self.forget(key)
        return self._further(key, *found)

    async def late(self, key: Any) -> bool:
        """Sends a chunk of its own, too."""
        return self._further(key, *await self.look(key, "", late=True))

    def _further(self, key: Any, text: str, going_on: bool) -> bool:
        if not going_on:
            self._block(key[0])
            return False
        if text:
            choice = self._frames[key]
            path = key[1:]
            holder: Any = choice
            for step in path[:-1]:
                holder = holder[0] if isinstance(step, int) else holder[step]
            if isinstance(holder, list):
                holder.append(text)
            else:
                holder[path[-1]] = text
            self.send(sse.event(encode({**self._last, "choices": [choice]})))
        return True

    def _block(self, number: int) -> None:
        """Ends the choice as OpenAI's content filter does."""
        empty = {"index": number, "delta": {}, "finish_reason": FILTERED}
        self.stop(sse.event(encode({**self._last, "choices": [empty]})), _DONE)


_ANSWERS = {("delta", "content"), ("text",)}


def _empty(choice: Json) -> bool:
    """Whether a choice is empty after its tool calls were removed."""
    return choice.get("delta") == {} and not choice.get("finish_reason") and not choice.get("logprobs")


def _pieces(choice: Json) -> Iterator[tuple[Path, Any, Any]]:
    """(path, holder, name) of every text of a choice that arrives in pieces."""
    if isinstance(choice.get("text"), str) and choice["text"]:
        yield ("text",), choice, "text"
    if isinstance(choice.get("delta"), dict):
        yield from _leaves(choice["delta"], ("delta",))


def _leaves(holder: Any, path: Path) -> Iterator[tuple[Path, Any, Any]]:
    for name, value in holder.items() if isinstance(holder, dict) else enumerate(holder):
        here = (*path, _place(holder, name, value))
        if isinstance(value, str):
            form = texts.HARMLESS.get(name) if isinstance(name, str) else None
            if value and not (form is not None and form.fullmatch(value)):
                yield here, holder, name
        elif isinstance(value, dict | list):
            yield from _leaves(value, here)


def _place(holder: Any, name: Any, value: Any) -> str | int:
    """Index of a piece. Pieces of one text share it, independently of their position in the list."""
    if isinstance(holder, list) and isinstance(value, dict) and isinstance(value.get("index"), int):
        return value["index"]
    return name


def _frame(choice: Json, path: Path) -> Json:
    """The choice reduced to the structure around one text."""
    made: Json = {"index": choice.get("index", 0), "finish_reason": None}
    source: Any = choice
    into: Any = made
    for step in path[:-1]:
        if isinstance(source, list):
            value = next((v for n, v in enumerate(source) if _place(source, n, v) == step), None)
        else:
            value = source[step]
        new: Any = [] if isinstance(value, list) else {n: v for n, v in value.items() if _plain(n, v)}
        if isinstance(into, list):
            into.append(new)
        else:
            into[step] = new
        source, into = value, new
    return made


def _plain(name: str, value: Any) -> bool:
    """Whether further pieces repeat this field, because it identifies the text."""
    return isinstance(value, int) or (isinstance(value, str) and name in ("type", "format"))
