"""Concurrent uploads are limited in total and per tenant, so that they fit into /tmp and memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from kit.errors import ApiError
from kit.forms import Form
from retriever.__main__ import RetrieverSettings, create
from retriever.files import FORM
from starlette.testclient import TestClient

from components.services.retriever import RECORD

from .conftest import Model, upload

MIB = 2**20


def test_all_uploads_at_once_fit_into_the_volume_for_them() -> None:
    assert FORM.at_once_bytes + 16 * MIB <= RECORD.scratch_mib * MIB


def test_a_tenant_leaves_room_for_the_largest_form_of_another_one() -> None:
    form = Form(file_bytes=10 * MIB, at_once_bytes=25 * MIB)
    with form.room("a", 10 * MIB):
        with pytest.raises(ApiError) as refused, form.room("a", 10 * MIB):
            pass
        assert (refused.value.status, refused.value.retry_after_s) == (429, 1)
        with form.room("b", form.most_bytes):
            with pytest.raises(ApiError) as refused, form.room("c", form.most_bytes):
                pass
            assert (refused.value.status, refused.value.retry_after_s) == (503, 1)
        with form.room("c", form.most_bytes):
            pass


def test_room_is_free_again_after_a_form_that_failed() -> None:
    form = Form(file_bytes=10 * MIB, at_once_bytes=25 * MIB)
    for _ in range(5):
        with pytest.raises(KeyError), form.room("a", 10 * MIB):
            raise KeyError


def test_uploads_above_the_limit_get_a_retry_after(settings: RetrieverSettings, model: Model) -> None:
    """Five uploads of 15 MB wait for their last bytes: uploads that do not fit are refused before they are read."""
    size, boundary = 15 * MIB, "b"
    head = (
        f'--{boundary}\r\ncontent-disposition: form-data; name="file"; filename="x.txt"\r\n'
        "content-type: text/plain\r\n\r\n"
    ).encode()
    tail = f"\r\n--{boundary}--\r\n".encode()
    fit = (FORM.at_once_bytes - FORM.most_bytes) // (size + len(head) + len(tail))

    async def send(client: httpx.AsyncClient, go_on: asyncio.Event, length: bool) -> httpx.Response:
        async def body() -> AsyncIterator[bytes]:
            yield head + b"x" * (size - 1)
            await go_on.wait()
            yield b"x" + tail

        headers = {"content-type": f"multipart/form-data; boundary={boundary}"}
        if length:
            headers["content-length"] = str(len(head) + size + len(tail))
        return await client.post("/v1/files", content=body(), headers=headers)

    async def work() -> None:
        app: Any = create(settings, model)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://retriever") as client,
        ):
            go_on = asyncio.Event()
            sent = [asyncio.create_task(send(client, go_on, True)) for _ in range(5)]
            refused, waiting = await asyncio.wait(sent, return_when=asyncio.FIRST_COMPLETED)
            while len(refused) < 5 - fit:
                more, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                refused |= more
            without_length = await send(client, go_on, False)
            go_on.set()
            for answer in [*(task.result() for task in refused), without_length]:
                assert (answer.status_code, answer.json()["error"]["code"]) == (429, "busy")
                assert answer.headers["retry-after"] == "1"
            assert len(waiting) == fit
            assert [answer.status_code for answer in await asyncio.gather(*waiting)] == [200] * fit
            assert (await send(client, go_on, True)).status_code == 200

    asyncio.run(work())


def test_one_content_at_a_time_is_in_memory(settings: RetrieverSettings, model: Model, monkeypatch: Any) -> None:
    now = most = 0
    app: Any = create(settings, model)
    from kit.objects import _Folder

    put = _Folder.put

    async def counted(self: _Folder, name: str, content: bytes) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await put(self, name, content)
        now -= 1

    monkeypatch.setattr(_Folder, "put", counted)

    async def work() -> None:
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://retriever") as client,
        ):
            sent = [client.post("/v1/files", files={"file": ("x.txt", b"x" * MIB)}) for _ in range(8)]
            assert {answer.status_code for answer in await asyncio.gather(*sent)} == {200}

    asyncio.run(work())
    assert most == 1


def test_documents_leave_the_backups_their_room_in_the_object_store(settings: RetrieverSettings, model: Model) -> None:
    with TestClient(create(settings.model_copy(update={"room_bytes": 100}), model)) as client:
        upload(client, "x" * 60)
        refused = client.post("/v1/files", files={"file": ("y.txt", "y" * 60)})
        assert (refused.status_code, refused.json()["error"]["code"]) == (507, "storage_full")
        upload(client, "x" * 40)
        (first, _) = client.get("/v1/files").json()["data"]
        assert client.delete(f"/v1/files/{first['id']}").status_code == 200
        upload(client, "y" * 40)
