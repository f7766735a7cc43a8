"""The Router's OpenAPI document, served at /openapi.json and checked in as openapi.json."""

from __future__ import annotations

import functools
import json
from typing import Any

from kit.directory import Scope

from router import admin, anthropic, token_count
from router.api import Feedback

Json = dict[str, Any]
API_VERSION = "1.0.0"
_MODEL: Json = {"type": "string", "minLength": 1, "maxLength": 256}


def _text(description: str) -> Json:
    return {"type": "string", "description": description}


_MESSAGE: Json = {
    "type": "object",
    "required": ["role"],
    "properties": {
        "role": _text("system, user, assistant or tool"),
        "content": {"type": ["string", "array", "null"], "description": "Text, or content parts"},
    },
}
_SHARED: Json = {
    "model": _MODEL,
    "stream": {"type": "boolean", "default": False},
    "temperature": {"type": ["number", "null"], "minimum": 0, "maximum": 2},
    "max_tokens": {"type": ["integer", "null"], "minimum": 0, "maximum": 1_000_000},
    "user": {"type": ["string", "null"], "description": "End user; sticky routes keep a user on one target"},
}


def _asks(field: str, schema: Json, **more: Json) -> Json:
    """Schema of a request with the common parameters; `parameters.py` has all of them."""
    properties = {**_SHARED, field: schema, **more}
    return {"type": "object", "required": ["model", field], "properties": properties, "additionalProperties": True}


def _body(schema: Json) -> Json:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


_REPEATED: Json = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "For ten minutes, repeats of a request without streaming receive the first request's answer",
    "schema": {"type": "string", "maxLength": 255},
}


def _error(description: str, reference: str = "Error") -> Json:
    schema = {"$ref": f"#/components/schemas/{reference}"}
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _answers(schema: Json, reference: str = "Error") -> Json:
    """Responses of the operations that ask a model."""
    content = {"application/json": {"schema": schema}, "text/event-stream": {}}
    return {
        "200": {"description": "The answer; with `stream`, its events", "content": content},
        "400": _error("The request is invalid; `param` names the field", reference),
        "401": _error("The API key is missing or unknown", reference),
        "404": _error("The model does not exist", reference),
        "413": _error("The body is larger than 16 MiB", reference),
        "422": _error("The Idempotency-Key was used for another request", reference),
        "429": _error("A rate limit or budget is exceeded; `retry-after` gives the seconds to wait", reference),
        "502": _error("Every target failed", reference),
        "503": _error("No target is available", reference),
        "504": _error("No target answered in time", reference),
    }


def _ask(name: str, summary: str, request: Json, answer: Json, reference: str = "Error") -> Json:
    return {
        "post": {
            "operationId": name,
            "summary": summary,
            "parameters": [_REPEATED],
            "requestBody": _body(request),
            "responses": _answers(answer, reference),
        }
    }


def _schema(model: Any) -> Json:
    """A pydantic model's schema with inlined definitions, as OpenAPI has no place for `$defs` here."""
    schema = model.model_json_schema(ref_template="#/components/schemas/Anthropic{model}")
    schema.pop("$defs", None)
    return schema


def _definitions() -> Json:
    template = "#/components/schemas/Anthropic{model}"
    found = anthropic.Request.model_json_schema(ref_template=template).get("$defs", {})
    return {f"Anthropic{name}": schema for name, schema in found.items()}


@functools.cache
def written() -> bytes:
    """The document as served; made on the first request."""
    return json.dumps(document()).encode()


def document() -> Json:
    """Return the OpenAPI document."""
    completion: Json = {"type": "object", "properties": {"choices": {"type": "array"}, "usage": {"type": "object"}}}
    anything: Json = {"type": "object"}
    texts: Json = {"type": ["string", "array"], "minLength": 1, "minItems": 1}
    listed: Json = {"type": "object", "required": ["object", "data"], "properties": {"data": {"type": "array"}}}
    messages: Json = {"type": "array", "minItems": 1, "items": _MESSAGE}
    missing = {"404": _error("The model does not exist")}
    operator = admin.describe()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "CogniForge AI Router",
            "version": API_VERSION,
            "description": "One API for all models. Each parameter is honoured, passed on, or refused by name.",
        },
        "security": [{"key": [Scope.INFERENCE.value]}],
        "paths": {
            "/v1/chat/completions": _ask(
                "createChatCompletion", "Create a chat completion", _asks("messages", messages), completion
            ),
            "/v1/completions": _ask("createCompletion", "Create a text completion", _asks("prompt", texts), completion),
            "/v1/embeddings": _ask("createEmbedding", "Create embeddings", _asks("input", texts), anything),
            "/v1/responses": _ask("createResponse", "Create a response", _asks("input", texts), anything),
            "/v1/messages": _ask(
                "createMessage",
                "Create a message (Anthropic's API)",
                _schema(anthropic.Request),
                anything,
                "AnthropicError",
            ),
            token_count.PATH: {
                "post": {
                    "operationId": "countTokens",
                    "summary": "Count the tokens of a request (Anthropic's API)",
                    "requestBody": _body(_schema(anthropic.Counted)),
                    "responses": {
                        "200": {
                            "description": "The model server's count, or an estimate if the server offers none",
                            "content": {
                                "application/json": {
                                    "schema": {
                                        "type": "object",
                                        "required": ["input_tokens"],
                                        "properties": {"input_tokens": {"type": "integer"}},
                                    }
                                }
                            },
                        },
                        **{
                            status: _error(text, "AnthropicError")
                            for status, text in (
                                ("400", "The request is invalid"),
                                ("401", "The API key is missing or unknown"),
                                ("404", "The model does not exist"),
                                ("413", "The body is too large"),
                                ("429", "A rate limit is exceeded"),
                            )
                        },
                    },
                }
            },
            "/v1/models": {
                "get": {
                    "operationId": "listModels",
                    "summary": "List the models",
                    "responses": {"200": {"description": "All", "content": {"application/json": {"schema": listed}}}},
                }
            },
            "/v1/models/{model}": {
                "get": {
                    "operationId": "getModel",
                    "summary": "Describe a model",
                    "parameters": [{"name": "model", "in": "path", "required": True, "schema": _MODEL}],
                    "responses": {
                        "200": {"description": "It", "content": {"application/json": {"schema": anything}}},
                        **missing,
                    },
                }
            },
            "/v1/feedback": {
                "post": {
                    "operationId": "giveFeedback",
                    "summary": "Rate an answer",
                    "requestBody": _body(_schema(Feedback)),
                    "responses": {
                        "204": {"description": "Taken"},
                        "400": _error("The request is invalid"),
                        "404": _error("No recent answer has this id"),
                        "413": _error("The body is too large"),
                    },
                }
            },
            **operator["paths"],
        },
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": {**_definitions(), **operator["components"]["schemas"], "AnthropicError": _anthropic_envelope()},
        },
    }


def _anthropic_envelope() -> Json:
    error: Json = {
        "type": "object",
        "required": ["type", "message"],
        "properties": {"type": {"type": "string"}, "message": {"type": "string"}},
    }
    properties = {"type": {"const": "error"}, "error": error}
    return {"type": "object", "required": ["type", "error"], "properties": properties}


if __name__ == "__main__":
    print(json.dumps(document(), indent=2))
