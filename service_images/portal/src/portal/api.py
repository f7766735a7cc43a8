"""Operations of the Portal: its pages, the forms on them, and the files that they use."""

from __future__ import annotations

from typing import Any, cast

from kit import rest_app
from kit.rest import Call, Model, Nothing, Operation
from starlette.responses import Response

from portal import alerts, ask, dashboards, files, knowledge, mine, prompts, query, requests, routes, signing
from portal.now import Now
from portal.view import PREFIX, Views

_HTML = "text/html"


def document() -> dict[str, Any]:
    """Return the OpenAPI document."""
    return rest_app.document("Portal", operations(cast("Views", _Described())))


class _Described:
    """Stands in for the views where operations are only described."""

    def page(self, handler: Any) -> Any:
        """The handler itself, which has the name."""
        return handler

    action = page


def _page(path: str, summary: str, handler: Any, query_model: type[Model] = Nothing) -> Operation:
    return Operation("GET", PREFIX + path, summary, handler, query=query_model, media=_HTML)


def _action(path: str, summary: str, handler: Any, media: str = _HTML) -> Operation:
    return Operation("POST", PREFIX + path, summary, handler, media=media, failures=(403, 413))


def operations(views: Views) -> list[Operation]:
    """All operations. The API key that they use is in the session's cookie, so none needs one in a header."""
    page, action = views.page, views.action
    entry, own, asks, ways = signing.Signing(views), mine.Mine(views), ask.Ask(views), routes.Routes(views)
    texts, known, now, queries = prompts.Prompts(views), knowledge.Knowledge(views), Now(views), query.Queries(views)
    history, raised = requests.Requests(views), alerts.Alerts(views)
    graphs = dashboards.Dashboards(views)

    async def file(call: Call[Any, None]) -> Response:
        return views.files.answer(call.path["file"])

    return [
        _page("", "Go to the first page.", entry.home),
        _page("/sign-in", "Show the page for signing in.", entry.sign_in, signing.Entry),
        _action("/sign-in", "Sign in with an API key.", entry.with_key),
        _page("/arrive", "Begin a session after a login.", entry.arrive),
        _action("/sign-out", "End the session.", action(entry.sign_out)),
        _page("/mine", "Show the reader's keys, budget and spend.", page(own.show), mine.Chosen),
        _action("/mine/keys", "Create an API key.", action(own.make_key)),
        _action("/mine/keys/revoke", "Revoke an API key.", action(own.revoke)),
        _page("/ask", "Show the playground and set-ups of programs.", page(asks.show), ask.Begun),
        _action("/ask", "Ask a model.", action(asks.ask)),
        _action("/ask/stream", "Ask a model; the answer is streamed.", action(asks.stream), "application/x-ndjson"),
        _action("/ask/key", "Show the set-ups with the reader's key.", action(asks.show_key)),
        _page("/requests", "Search requests.", page(history.show), requests.Sought),
        _page("/requests/one", "Show what happened to a request.", page(history.one), requests.Chosen),
        _page("/routes", "Show models, and routes to operators.", page(ways.show), routes.Page),
        _action("/routes/undo", "Remove an operator's change of a route.", action(ways.undo)),
        _action("/routes/canary", "Decide about a canary.", action(ways.decide)),
        _action("/routes/weights", "Set the shares of targets.", action(ways.weights)),
        _page("/prompts", "List prompts.", page(texts.show), prompts.Listed),
        _page("/prompts/one", "Show a prompt.", page(texts.one), prompts.Chosen),
        _action("/prompts/label", "Move a label.", action(texts.move)),
        _page("/knowledge", "Show files and stores.", page(known.show), knowledge.Listed),
        _action("/knowledge", "Search a store.", action(known.search)),
        _page("/now", "Show which services answer.", page(now.now)),
        _page("/map", "Show the services and what they use.", page(now.map)),
        _page("/dashboards", "Show graphs of the platform's metrics.", page(graphs.show), dashboards.Shown),
        _page("/dashboards/query", "Show the query of a graph.", page(graphs.query), dashboards.Source),
        _page("/alerts", "Show the rules of alerts with their state.", page(raised.show)),
        _page("/evidence", "Show what the deployment runs.", page(now.evidence)),
        _page("/query", "Show a query of the API and its answer.", page(queries.show), query.Asked),
        Operation(
            "GET",
            f"{files.PLACE}/{{file}}",
            "Get a file of the pages.",
            file,
            parameters=(("file", files.NAME, "The file's name"),),
            failures=(404,),
            media="text/css",
        ),
    ]  # fmt: skip
