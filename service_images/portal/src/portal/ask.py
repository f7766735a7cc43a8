"""Ask: a question to a model, as the reader's programs would ask it; its verdict, its tokens and its cost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from decimal import Decimal
from typing import Any

import httpx
from kit.rest import Model
from pydantic import Field
from starlette.responses import Response, StreamingResponse

from portal import numbers, setups
from portal.gateway import Answer
from portal.view import HEADERS, PREFIX, Views, Visit

PATH = f"{PREFIX}/ask"
QUESTION = 64 * 1024
"""Longest question, in characters."""
_TOKENS = 1024
"""Most tokens of an answer, unless the reader chooses another number."""


class Begun(Model):
    """What the page begins with."""

    model: str = Field(default="", max_length=200, description="Model that is chosen")


class Ask:
    """The page and its action."""

    def __init__(self, views: Views) -> None:
        self._views = views

    async def show(self, visit: Visit) -> Response:
        """The playground, and set-ups of programs."""
        return await self._page(visit, {"model": visit.call.query.model})

    async def ask(self, visit: Visit) -> Response:
        """Ask the model, and show the whole answer."""
        body, form = self._body(visit), visit.form
        if not body["messages"] or not body["model"]:
            return await self._page(visit, form, status=400, missing=True)
        answer = await visit.api.call("POST", "/v1/chat/completions", body, model=True)
        return await self._page(visit, form, answer=answer)

    async def show_key(self, visit: Visit) -> Response:
        """The set-ups with the reader's own key."""
        return await self._page(visit, visit.form, key=visit.session.key)

    async def stream(self, visit: Visit) -> Response:
        """The answer as it arrives: one JSON object a line with `text`, `problem`, or `usage` and `cost`."""
        body = {**self._body(visit), "stream": True, "stream_options": {"include_usage": True}}
        prices = await self._prices(visit)
        return StreamingResponse(self._lines(visit, body, prices), media_type="application/x-ndjson", headers=HEADERS)

    async def _lines(self, visit: Visit, body: dict[str, Any], prices: Answer | None) -> AsyncIterator[str]:
        usage: Any = None
        try:
            async with visit.api.stream("/v1/chat/completions", body) as answer:
                if answer.status_code >= 300:
                    await answer.aread()
                    yield _line(problem=_said(answer))
                    return
                if mark := answer.headers.get("x-guardrails"):
                    yield _line(guard=mark)
                async for line in answer.aiter_lines():
                    event = _event(line)
                    if "error" in event:
                        yield _line(problem=str(_field(event, "error", "message") or "The answer was interrupted."))
                        return
                    usage = event.get("usage") or usage
                    if text := _delta(event):
                        yield _line(text=text)
        except httpx.HTTPError:
            yield _line(problem="The answer was interrupted: its service does not answer.")
            return
        yield _line(**self._bill(body["model"], usage, prices))

    def _body(self, visit: Visit) -> dict[str, Any]:
        form = visit.form
        question, rule = form.get("question", "")[:QUESTION], form.get("rule", "")[:QUESTION]
        messages = [{"role": "system", "content": rule}] if rule.strip() else []
        messages += [{"role": "user", "content": question}] if question.strip() else []
        most = form.get("tokens", "")
        tokens = int(most) if most.isascii() and most.isdigit() and len(most) < 7 and int(most) else _TOKENS
        return {"model": form.get("model", ""), "messages": messages if question.strip() else [], "max_tokens": tokens}

    async def _prices(self, visit: Visit) -> Answer | None:
        billed = visit.session.allows("billing") and visit.gateway.has("/v1/billing/")
        return await visit.api.get("/v1/billing/prices") if billed else None

    async def _page(
        self,
        visit: Visit,
        form: Mapping[str, str],
        *,
        answer: Answer | None = None,
        key: str = "",
        status: int = 200,
        missing: bool = False,
    ) -> Response:
        models = await visit.api.get("/v1/models")
        names = [str(model.get("id", "")) for model in models.items()]
        chosen = form.get("model") or (names[0] if names else "")
        found: dict[str, Any] = {"text": "", "bill": None, "prices": None, "checked": None, "checked_answer": None}
        if answer is not None and answer.ok:
            text = str(_field(answer.content, "choices", 0, "message", "content") or "")
            prices, checked, checked_answer = await asyncio.gather(
                self._prices(visit),
                self._verdict(visit, form.get("question", ""), "input"),
                self._verdict(visit, text, "output"),
            )
            bill = self._bill(chosen, answer.get("usage"), prices)
            found = {"text": text, "bill": bill, "prices": prices}
            found |= {"checked": checked, "checked_answer": checked_answer}
        public = self._views.settings.public_url
        return await self._views.show(
            visit,
            "ask.html",
            status,
            models=models,
            names=names,
            chosen=chosen,
            form=form,
            answer=answer,
            missing=missing,
            most=QUESTION,
            tokens=form.get("tokens") or str(_TOKENS),
            shown_key=bool(key),
            setups=setups.setups(public, chosen or "MODEL", key),
            **found,
        )

    async def _verdict(self, visit: Visit, text: str, direction: str) -> Answer | None:
        """What Guardrails says about a text, if the key may ask it."""
        if not (visit.session.allows("guardrails") and visit.gateway.has("/v1/guard/check")):
            return None
        return await visit.api.call("POST", "/v1/guard/check", {"texts": [text], "direction": direction})

    def _bill(self, model: str, usage: Any, prices: Answer | None) -> dict[str, Any]:
        """Tokens of an answer, and its cost by the prices in force."""
        asked = _field(usage, "prompt_tokens"), _field(usage, "completion_tokens")
        if not all(isinstance(count, int) for count in asked):
            return {}
        made: dict[str, Any] = {"input": asked[0], "output": asked[1], "cost": ""}
        if prices is not None and prices.ok:
            cost = Decimal(0)
            for kind, tokens in zip(("input", "output"), asked, strict=True):
                price = _price(prices.items(), model, kind)
                if price is None:
                    return made
                cost += Decimal(tokens) * price
            made["cost"] = numbers.usd(cost)
        return made


def _price(prices: list[Any], model: str, kind: str) -> Decimal | None:
    """Price of one token, in USD: the tenant's before all tenants', the model's before all models', the newest."""
    fitting = [one for one in prices if one.get("kind") == kind and one.get("model") in (model, "*")]
    past = [one for one in fitting if not numbers.future(one.get("begins"))]
    if not past:
        return None
    best = max(past, key=lambda one: (bool(one.get("tenant")), one.get("model") != "*", str(one.get("begins"))))
    value, per = numbers.amount(best.get("usd")), numbers.amount(best.get("per"))
    return value / per if value is not None and per else None


def _line(**content: Any) -> str:
    return json.dumps(content) + "\n"


def _event(line: str) -> dict[str, Any]:
    """The JSON object of a line of server-sent events; empty if it has none."""
    try:
        found: Any = json.loads(line[5:]) if line.startswith("data:") else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _field(content: Any, *names: str | int) -> Any:
    """A value inside of JSON. None: there is none."""
    for name in names:
        try:
            content = content[name]
        except (KeyError, IndexError, TypeError):
            return None
    return content


def _delta(event: dict[str, Any]) -> str:
    found = _field(event, "choices", 0, "delta", "content")
    return found if isinstance(found, str) else ""


def _said(answer: httpx.Response) -> str:
    try:
        return str(_field(answer.json(), "error", "message") or f"The Router answered {answer.status_code}.")
    except ValueError:
        return f"The Router answered {answer.status_code}."
