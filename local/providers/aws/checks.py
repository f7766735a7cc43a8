"""Checks inputs of AWS resources against the SDK's types and required fields, and botocore's service models."""

from __future__ import annotations

import functools
import importlib.util
import inspect
import json
import re
from collections.abc import Iterator
from typing import Any

from local.providers import sdk_types
from local.providers.aws.kinds import KINDS
from local.providers.wire import UNKNOWN, Secret, format_path, has_unknown

_JSON_FIELDS = {"policy", "assumeRolePolicy", "eventPattern", "configurationValues"}
_RENAMED = {
    ("eks", "CreateNodegroup", "nodeGroupName"): "nodegroupName",
    ("ec2", "AllocateAddress", "domain"): "Domain",
    ("iam", "CreateRole", "name"): "RoleName",
    ("sqs", "CreateQueue", "name"): "QueueName",
    ("kms", "CreateAlias", "name"): "AliasName",
    ("logs", "CreateLogGroup", "name"): "logGroupName",
    ("ec2", "CreateLaunchTemplate", "name"): "LaunchTemplateName",
}
"""Fields whose name in the provider differs from the name in AWS' API."""


@functools.cache
def required(token: str) -> tuple[str, ...]:
    """Names of inputs that the SDK requires."""
    cls = sdk_types.arguments_type(token)
    if cls is None:
        return ()
    names = {python: pulumi for pulumi, python in _names(cls).items()}
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    return tuple(names[p.name] for p in parameters if p.default is inspect.Parameter.empty and p.name in names)


def _names(cls: type) -> dict[str, str]:
    from pulumi import _types

    return {pulumi: python for python, pulumi in _types.input_type_py_to_pulumi_names(cls).items()}


def problems(token: str, inputs: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(path, problem) of each input that AWS or the SDK would refuse."""
    cls = sdk_types.arguments_type(token)
    if cls is None:
        yield "", f"{token} is not a resource of the installed pulumi-aws"
        return
    yield from sdk_types.problems(inputs, cls)
    for name in required(token):
        if inputs.get(name) is None:
            yield name, "required"
    for name in _JSON_FIELDS & inputs.keys():
        value = inputs[name].value if isinstance(inputs[name], Secret) else inputs[name]
        if isinstance(value, str):
            try:
                json.loads(value)
            except ValueError as error:
                yield name, f"must be JSON: {error}"
    kind = KINDS.get(token.removeprefix("aws:"))
    if kind and kind.operation[1]:
        yield from _service_problems(*kind.operation, inputs)


def version_step(token: str, before: object, after: object) -> str:
    """Reason why EKS would refuse this change of a cluster's version; empty if it would not.

    Source: https://docs.aws.amazon.com/eks/latest/userguide/update-cluster.html
    """
    if token != "aws:eks/cluster:Cluster" or not (isinstance(before, str) and isinstance(after, str)):
        return ""
    steps = int(after.split(".")[1]) - int(before.split(".")[1])
    if steps in (0, 1):
        return ""
    return f"Unsupported Kubernetes minor version update from {before} to {after}: one minor version up at a time"


@functools.cache
def _input_shape(service: str, operation: str) -> Any:
    """Shape of an operation's input; None if botocore is not installed."""
    model = _model(service)
    return None if model is None else model.operation_model(operation).input_shape


@functools.cache
def _model(service: str) -> Any:
    """Model of a service, which takes up to a second to read; None if botocore is not installed."""
    if importlib.util.find_spec("botocore") is None:
        return None
    from botocore.loaders import Loader
    from botocore.model import ServiceModel

    return ServiceModel(Loader().load_service_model(service, "service-2"), service)


def _service_problems(service: str, operation: str, inputs: dict[str, Any]) -> Iterator[tuple[str, str]]:
    shape = _input_shape(service, operation)
    if shape is None:
        return
    members = {name.lower(): member for name, member in shape.members.items()}
    for name, value in inputs.items():
        member = members.get(_RENAMED.get((service, operation, name), name).lower())
        if member is not None:
            yield from _shape_problems(member, value, (name,))


def _shape_problems(shape: Any, value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[str, str]]:
    value = value.value if isinstance(value, Secret) else value
    if value is None or value is UNKNOWN:
        return
    if shape.type_name == "structure" and isinstance(value, dict):
        members = {name.lower(): member for name, member in shape.members.items()}
        for name, item in value.items():
            if member := members.get(name.lower()):
                yield from _shape_problems(member, item, (*path, name))
    elif shape.type_name == "list" and isinstance(value, list):
        for index, item in enumerate(value):
            yield from _shape_problems(shape.member, item, (*path, index))
    elif isinstance(value, str) and not has_unknown(value):
        yield from _text_problems(shape, value, path)


def _text_problems(shape: Any, value: str, path: tuple[str | int, ...]) -> Iterator[tuple[str, str]]:
    where, rules = format_path(path), shape.metadata
    if (options := getattr(shape, "enum", None)) and value not in options:
        yield where, f'"{value}" is not one of {", ".join(options)}'
    if "max" in rules and len(value) > rules["max"]:
        yield where, f"{len(value)} characters; at most {rules['max']}"
    if "min" in rules and len(value) < rules["min"]:
        yield where, f"{len(value)} characters; at least {rules['min']}"
    if pattern := rules.get("pattern"):
        try:
            fits = re.fullmatch(pattern.replace("\\p{", "\\w{"), value) is not None
        except re.error:  # a Java pattern that Python does not support
            return
        if not fits:
            yield where, f'"{value}" does not match {pattern}'
