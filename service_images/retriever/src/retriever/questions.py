"""Operations that query a store: searches and answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kit.errors import ApiError
from kit.rest import Call, Operation

from retriever.engines import Hit, Scope, Where
from retriever.handling import SCOPE, STORE, STORES, Handling, Shown
from retriever.models import Answered, Ask, Ranking, Search


class Questions(Handling):
    """Handlers."""

    def question_operations(self) -> list[Operation]:
        """Searches and answers."""
        store = STORES + "/{store}"
        return [
            Operation("POST", store + "/search", "Find passages.", self.search, body=Search, parameters=(STORE,),
                      scope=SCOPE, failures=(404, 429)),
            Operation("POST", store + "/answer", "Answer a question from a store, with citations.", self.answer,
                      Answered, body=Ask, parameters=(STORE,), scope=SCOPE, failures=(404, 429)),
        ]  # fmt: skip

    async def _found(
        self, call: Call[Any, Any], queries: Sequence[str], limit: int, where: Where, ranking: Ranking
    ) -> tuple[list[Hit], dict[str, str]]:
        tenant, store = call.caller.tenant, call.path["store"]
        rights = await self.rights(call)
        async with self.database.transaction() as connection:
            row = await self.the_store(connection, call)
            if row["expired"]:
                message = f"The vector store expired at {row['expires_at']}."
                raise ApiError(400, message, param="vector_store", code="vector_store_expired")
            if row["expires_days"]:  # minutes are exact enough for an expiry in days
                await connection.execute(
                    "UPDATE stores SET active = now() WHERE id = %s AND active < now() - interval '1 minute'", (store,)
                )
        hits = await self.searching.search(Scope(tenant, store, rights.names, where), queries, limit, ranking)
        async with self.database.transaction() as connection:
            cursor = await connection.execute(
                "SELECT id, name FROM files "
                "WHERE tenant = %s AND id = ANY(%s) AND (expires IS NULL OR expires > now())",
                (tenant, [hit.document for hit in hits]),
            )
            names = dict(await cursor.fetchall())
        # A file that was deleted during the search is left out.
        return [hit for hit in hits if hit.document in names], names

    async def search(self, call: Call[Any, Search]) -> Shown:
        """Best first."""
        asked = call.body
        found = await self._found(call, asked.queries, asked.max_num_results, asked.filters, asked.ranking_options)
        hits, names = found
        data = [
            {
                "file_id": hit.document,
                "filename": names[hit.document],
                "score": hit.score,
                "attributes": hit.attributes,
                "content": [{"type": "text", "text": hit.content}],
            }
            for hit in hits
        ]
        page = {"object": "vector_store.search_results.page", "search_query": list(asked.queries)}
        return {**page, "data": data, "has_more": False, "next_page": None}

    async def answer(self, call: Call[Any, Ask]) -> Answered:
        """Uses the caller's own key for the request to the Router."""
        asked = call.body
        hits, names = await self._found(
            call, [asked.question], asked.max_num_results, asked.filters, asked.ranking_options
        )
        passed = {
            name: value
            for name in ("authorization", "x-api-key", "x-request-id")
            if (value := call.request.headers.get(name, "")).isascii() and value.isprintable() and value
        }
        return await self.answering.answer(asked, hits, names, passed)
