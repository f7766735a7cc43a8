"""A developer's first steps with the usual clients, in an environment of its own: flows.py NAME URL MODEL KEY."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel

URL, MODEL, KEY = sys.argv[2:5]
os.environ |= {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": f"{URL}/v1", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
FLOWS: dict[str, Callable[[], None]] = {}


class City(BaseModel):
    """A place."""

    name: str
    people: int | None = None


class Person(BaseModel):
    """A person, as a typical schema of developers: nested, optional, with recursive references."""

    name: str
    age: int
    kind: Literal["adult", "child"]
    home: City
    friends: list[Person] = []


def flow(work: Callable[[], None]) -> Callable[[], None]:
    FLOWS[work.__name__] = work
    return work


def get_weather(city: str) -> str:
    """Get the weather of a city."""
    return f"sunny in {city}"


@flow
def openai_chat() -> None:
    import openai

    client = openai.OpenAI(max_retries=0)
    hello: Any = [{"role": "user", "content": "What is the weather in Quito?"}]
    answer = client.chat.completions.create(model=MODEL, messages=hello)
    assert answer.choices[0].message.content and answer.usage and answer.usage.total_tokens
    pieces = list(client.chat.completions.create(model=MODEL, messages=hello, stream=True))
    assert "".join(p.choices[0].delta.content or "" for p in pieces if p.choices)
    parsed = client.chat.completions.parse(model=MODEL, messages=hello, response_format=Person)
    assert parsed.choices[0].message.parsed
    tools: Any = [openai.pydantic_function_tool(Person)]
    called = client.chat.completions.create(model=MODEL, messages=hello, tools=tools, tool_choice="required")
    assert Person.model_validate_json(called.choices[0].message.tool_calls[0].function.arguments)  # type: ignore
    with client.chat.completions.stream(model=MODEL, messages=hello, response_format=Person) as stream:
        assert stream.get_final_completion().choices[0].message.parsed
    assert MODEL in [model.id for model in client.models.list()]
    as_json = client.chat.completions.create(model=MODEL, messages=hello, response_format={"type": "json_object"})
    assert (as_json.choices[0].message.content or "").startswith("{")


@flow
def openai_responses() -> None:
    import openai

    client = openai.OpenAI(max_retries=0)
    assert client.responses.create(model=MODEL, input="hi").output_text
    assert client.responses.parse(model=MODEL, input="hi", text_format=Person).output_parsed
    with client.responses.stream(model=MODEL, input="hi") as stream:
        for _ in stream:
            pass
        assert stream.get_final_response().output_text
    tool: Any = {"type": "function", "name": "get_weather", "parameters": City.model_json_schema()}
    called = client.responses.create(model=MODEL, input="hi", tools=[tool], tool_choice="required")
    assert called.output[-1].type == "function_call"


@flow
def openai_errors() -> None:
    import openai

    client = openai.OpenAI(max_retries=0)
    hello: Any = [{"role": "user", "content": "hi"}]
    cases: list[tuple[type[openai.APIStatusError], dict[str, Any]]] = [
        (openai.NotFoundError, {"model": "nobody", "messages": hello}),
        (openai.BadRequestError, {"model": MODEL, "messages": hello, "temperature": 9}),
        (openai.BadRequestError, {"model": MODEL, "messages": hello, "web_search_options": {}}),
    ]
    for kind, asked in cases:
        try:
            client.chat.completions.create(**asked)
        except kind as error:
            assert error.code and error.param and error.request_id, error
        else:
            raise AssertionError(asked)


@flow
def anthropic_messages() -> None:
    import anthropic

    client = anthropic.Anthropic(base_url=URL, api_key=KEY, max_retries=0)
    hello: Any = [{"role": "user", "content": "What is the weather in Quito?"}]
    answer = client.messages.create(model=MODEL, max_tokens=64, messages=hello)
    assert answer.content[0].type == "text" and answer.usage.output_tokens and answer._request_id
    with client.messages.stream(model=MODEL, max_tokens=64, messages=hello) as stream:
        assert "".join(stream.text_stream)
    tool: Any = {"name": "get_weather", "description": "The weather.", "input_schema": City.model_json_schema()}
    asked = client.messages.create(
        model=MODEL, max_tokens=1024, messages=hello, tools=[tool], tool_choice={"type": "any"}
    )
    (use,) = [block for block in asked.content if block.type == "tool_use"]
    assert City.model_validate(use.input) and asked.stop_reason == "tool_use"
    result: Any = {"type": "tool_result", "tool_use_id": use.id, "content": "sunny"}
    more = [*hello, {"role": "assistant", "content": asked.content}, {"role": "user", "content": [result]}]
    reported = client.messages.create(model=MODEL, max_tokens=64, messages=more, tools=[tool])
    assert reported.stop_reason in ("end_turn", "max_tokens")
    thinking = client.messages.create(
        model=MODEL, max_tokens=4096, messages=hello, thinking={"type": "enabled", "budget_tokens": 1024}
    )
    assert thinking.content[0].type == "thinking"
    assert client.messages.count_tokens(model=MODEL, messages=hello, tools=[tool]).input_tokens > 0
    assert MODEL in [model.id for model in client.models.list()]


@flow
def langchain() -> None:
    from langchain_core.messages import HumanMessage, ToolMessage
    from langchain_core.tools import tool
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(model=MODEL, max_retries=0)
    assert model.invoke("hi").content
    assert "".join(str(chunk.content) for chunk in model.stream("hi"))
    for method in ("json_schema", "function_calling", "json_mode"):
        made = model.with_structured_output(City, method=method)
        if method != "json_mode":  # this method has no schema: the result is any JSON
            assert isinstance(made.invoke("hi"), City)
    weather = tool(get_weather)
    asked = model.bind_tools([weather]).invoke("What is the weather in Quito?")
    result = ToolMessage(weather.invoke(asked.tool_calls[0]["args"]), tool_call_id=asked.tool_calls[0]["id"])
    assert model.bind_tools([weather]).invoke([HumanMessage("What is the weather?"), asked, result]).content


@flow
def llama_index() -> None:
    from llama_index.core.llms import ChatMessage
    from llama_index.core.prompts import PromptTemplate
    from llama_index.core.tools import FunctionTool
    from llama_index.llms.openai_like import OpenAILike

    model = OpenAILike(
        model=MODEL,
        api_base=f"{URL}/v1",
        api_key=KEY,
        is_chat_model=True,
        is_function_calling_model=True,
        max_retries=0,
    )
    assert model.complete("hi").text
    assert "".join(piece.delta or "" for piece in model.stream_chat([ChatMessage(content="hi")]))
    assert isinstance(model.structured_predict(City, PromptTemplate("Name a city.")), City)
    assert isinstance(model.as_structured_llm(City).complete("Name a city.").raw, City)
    weather = FunctionTool.from_defaults(get_weather)
    assert model.predict_and_call([weather], "What is the weather in Quito?").sources


@flow
def instructor_models() -> None:
    import anthropic
    import instructor
    import openai

    hello: Any = [{"role": "user", "content": "Ann is 30"}]
    for mode in (instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA):
        client = instructor.from_openai(openai.OpenAI(max_retries=0), mode=mode)
        assert client.chat.completions.create(model=MODEL, messages=hello, response_model=Person, max_retries=0).age
    of_anthropic = instructor.from_anthropic(anthropic.Anthropic(base_url=URL, api_key=KEY, max_retries=0))
    made = of_anthropic.messages.create(
        model=MODEL, max_tokens=1024, messages=hello, response_model=Person, max_retries=0
    )
    assert made.name


@flow
def openai_agents() -> None:
    import agents
    import openai

    agents.set_tracing_disabled(True)
    client = openai.AsyncOpenAI(max_retries=0)

    async def run() -> None:
        weather = agents.function_tool(get_weather)
        for kind in (agents.OpenAIChatCompletionsModel, agents.OpenAIResponsesModel):
            model: Any = kind(model=MODEL, openai_client=client)
            agent = agents.Agent(name="a", instructions="Help.", model=model, tools=[weather])
            result = await agents.Runner.run(agent, "What is the weather in Quito?")
            assert result.final_output and any(item.type == "tool_call_output_item" for item in result.new_items)
            typed = agents.Agent(name="b", model=model, output_type=City)
            assert isinstance((await agents.Runner.run(typed, "hi")).final_output, City)
            streamed = agents.Runner.run_streamed(agent, "What is the weather?")
            async for _ in streamed.stream_events():
                pass
            assert streamed.final_output

    asyncio.run(run())


@flow
def litellm_calls() -> None:
    import litellm

    hello = [{"role": "user", "content": "hi"}]
    for name, base in ((f"openai/{MODEL}", f"{URL}/v1"), (f"anthropic/{MODEL}", URL)):
        more: Any = {
            "model": name,
            "api_base": base,
            "api_key": KEY,
            "messages": hello,
            "num_retries": 0,
            "max_tokens": 1024,
        }
        assert litellm.completion(**more).choices[0].message.content  # type: ignore[union-attr]
        assert list(litellm.completion(**more, stream=True))
        assert litellm.completion(**more, tools=[_tool()], tool_choice="required").choices[0].message.tool_calls  # type: ignore


def _tool() -> Any:
    return {"type": "function", "function": {"name": "get_weather", "parameters": City.model_json_schema()}}


@flow
def huggingface() -> None:
    from huggingface_hub import InferenceClient

    client = InferenceClient(base_url=f"{URL}/v1", api_key=KEY)
    hello = [{"role": "user", "content": "hi"}]
    assert client.chat_completion(hello, model=MODEL, max_tokens=32).choices[0].message.content
    assert list(client.chat_completion(hello, model=MODEL, max_tokens=32, stream=True))


@flow
def langfuse_wrapper() -> None:
    os.environ["LANGFUSE_TRACING_ENABLED"] = "false"
    from langfuse.openai import OpenAI

    client = OpenAI(max_retries=0)
    hello: Any = [{"role": "user", "content": "hi"}]
    assert client.chat.completions.create(model=MODEL, messages=hello, name="first").choices[0].message.content


@flow
def langchain_embeddings() -> None:
    import importlib.util
    from pathlib import Path

    # LangChain sends token IDs; LiteLLM contains the encoding, which LangChain would download.
    found = importlib.util.find_spec("litellm")
    assert found and found.origin
    os.environ["TIKTOKEN_CACHE_DIR"] = str(Path(found.origin).parent / "litellm_core_utils" / "tokenizers")
    from langchain_openai import OpenAIEmbeddings

    of_tokens = OpenAIEmbeddings(model=MODEL, max_retries=0)
    of_text = OpenAIEmbeddings(model=MODEL, max_retries=0, check_embedding_ctx_length=False)
    texts = ["Cats hunt mice.", "Interest rates rise."]
    for one, other in zip(of_tokens.embed_documents(texts), of_text.embed_documents(texts), strict=True):
        assert len(one) == 384 and max(abs(a - b) for a, b in zip(one, other, strict=True)) < 1e-4
    assert len(of_tokens.embed_query("pets")) == 384


@flow
def huggingface_embeddings() -> None:
    from huggingface_hub import InferenceClient

    # As for a server of Text Embeddings Inference, the address is the whole path.
    vectors = InferenceClient(model=f"{URL}/embed", api_key=KEY).feature_extraction("Cats hunt mice.")
    assert vectors.shape == (1, 384)


@flow
def openai_vector_stores() -> None:
    import openai

    client = openai.OpenAI(max_retries=0)
    store = client.vector_stores.create(name="pets", metadata={"team": "zoo"})
    file = client.files.create(file=("cats.txt", b"Cats hunt mice at night."), purpose="assistants")
    added = client.vector_stores.files.create_and_poll(file.id, vector_store_id=store.id, attributes={"kind": "cat"})
    assert added.status == "completed", added.last_error
    batch = client.vector_stores.file_batches.upload_and_poll(
        store.id, files=[("money.md", b"# Money\n\nInterest rates rise."), ("dogs.txt", b"Dogs guard houses.")]
    )
    assert batch.status == "completed" and batch.file_counts.completed == 2
    hits = client.vector_stores.search(store.id, query="What do cats hunt?", max_num_results=2).data
    assert (
        hits[0].filename == "cats.txt" and "mice" in hits[0].content[0].text and hits[0].attributes == {"kind": "cat"}
    )
    only: Any = {"type": "eq", "key": "kind", "value": "cat"}
    assert [hit.file_id for hit in client.vector_stores.search(store.id, query="rates", filters=only)] == [file.id]
    assert {one.id for one in client.vector_stores.files.list(store.id, limit=1)} >= {file.id}
    assert client.files.content(file.id).read() == b"Cats hunt mice at night."
    assert client.files.delete(file.id).deleted and client.vector_stores.delete(store.id).deleted
    try:
        client.files.retrieve(file.id)
    except openai.NotFoundError:
        return
    raise AssertionError(file.id)


@flow
def langfuse_prompts() -> None:
    import httpx

    chat = [{"role": "system", "content": "You speak {{language}}."}, {"role": "user", "content": "{{question}}"}]
    for name, kind, prompt in (("greeting", "text", "Hello {{who}}"), ("team/chat", "chat", chat)):
        made = {"name": name, "type": kind, "prompt": prompt, "labels": ["production"], "config": {"temperature": 0}}
        answer = httpx.post(f"{URL}/v1/prompts", json=made, trust_env=False)
        assert answer.is_success, answer.text
    os.environ["LANGFUSE_TRACING_ENABLED"] = "false"
    from langfuse import Langfuse

    client = Langfuse(public_key="x", secret_key=KEY, base_url=URL)
    text = client.get_prompt("greeting")
    assert text.compile(who="you") == "Hello you" and text.version == 1 and text.config == {"temperature": 0}
    assert client.get_prompt("greeting", version=1).prompt == "Hello {{who}}"
    messages: Any = client.get_prompt("team/chat", type="chat").compile(language="French", question="Why?")
    assert [message["content"] for message in messages] == ["You speak French.", "Why?"]
    assert {one.name for one in client.api.prompts.list().data} == {"greeting", "team/chat"}
    assert client.get_prompt("nobody", fallback="Hi", max_retries=0).prompt == "Hi"


if __name__ == "__main__":
    FLOWS[sys.argv[1]]()
