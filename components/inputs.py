"""Inputs of components: validated before anything is registered, with all mistakes in one error.

A component takes a TypedDict, which editors complete and the plugin's schema is made of. The model behind it has the
limits. Where a part is in the stack file too, the model derives from its section, so that each limit stands once.
"""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Mapping, Sequence
from typing import Annotated, Any, NotRequired, TypedDict, TypeVar, cast

import pulumi
from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import ErrorDetails

from components.config.base import DnsLabel, Section
from components.config.pod import Pod
from components.config.problems import ConfigError, Problem, describe, violation
from components.pods import CustomizeArgs, PodArgs, customization


class InputError(ConfigError):
    """A component cannot be made of its inputs; `problems` has every reason."""

    def __init__(self, component: str, name: str, problems: list[Problem]) -> None:
        super().__init__(problems, f'{component} "{name}"')


class Foreign(dict[str, Any]):
    """Inputs of a program in another language, with camelCase names as in the plugin's schema."""


class ResourcesArgs(TypedDict):
    """What a container may use."""

    cpu: NotRequired[str]
    """CPU request, a Kubernetes quantity such as "250m"."""
    memory: NotRequired[str]
    """Memory request and limit, a Kubernetes quantity such as "256Mi"."""


class LoginArgs(TypedDict):
    """A login whose passwords are in a Secret. `Logins.credentials` has one for each login."""

    secret_name: pulumi.Input[str]
    """Secret with one entry a system, such as "postgres"."""
    passwords: NotRequired[Mapping[str, pulumi.Input[str]]]
    """Passwords by system, for servers that keep a list of users."""
    version: NotRequired[pulumi.Input[str]]
    """Changes with the passwords, so that pods restart with the new ones."""


class ServerArgs(CustomizeArgs):
    """Inputs that all data servers share."""

    namespace: pulumi.Input[str]
    """Namespace in Kubernetes."""
    kubernetes_name: NotRequired[str]
    """Name of the server's objects in Kubernetes. Default: the component's name."""
    logins: NotRequired[Mapping[str, LoginArgs]]
    """Logins that exist already, by name. The component makes the others that it needs."""
    credentials_generation: NotRequired[int]
    """Raise it to give every login that the component makes a new password. Default 1."""
    destroy_data: NotRequired[bool]
    """Whether deleting the component may delete its volumes. Default false: it is refused."""


def _text(value: Any) -> Any:
    """Convert a string, or an output or awaitable of one."""
    if not isinstance(value, pulumi.Output | Awaitable | str):
        raise violation("a string, or an output of another resource", "write a string")
    return cast("Any", value)


def _something(value: Any) -> Any:
    if value == "":
        raise violation("not empty", "write a value, or leave it out")
    return _text(value)


Text = Annotated[Any, BeforeValidator(_something)]
"""A string that may be known only after another resource is made."""
Port = Annotated[int, Field(ge=1, le=65_535)]
"""A TCP port."""
AnyText = Annotated[Any, BeforeValidator(_text)]
"""The same; it may be empty."""


class Inputs(Section):
    """Base of the models behind components' inputs."""

    model_config = ConfigDict(arbitrary_types_allowed=True)


class Login(Inputs):
    """A login with its passwords."""

    secret_name: Text
    passwords: dict[str, Text] = Field(default_factory=dict[str, Any])
    version: AnyText = ""


class Server(Inputs):
    """What all data servers share."""

    @property
    def pods(self) -> PodArgs:
        """Settings of its pods."""
        return cast("PodArgs", self.customize or {})

    namespace: Text = Field(description="Namespace in Kubernetes")
    kubernetes_name: DnsLabel = Field(default="", description="Name of the server's objects in Kubernetes")
    logins: dict[str, Login] = Field(
        default_factory=dict[str, Login], description="Logins that exist already; the others are made"
    )
    credentials_generation: int = Field(
        default=1, ge=1, le=1_000_000, description="Raise it to give every login that is made here a new password"
    )
    customize: Any = Field(default=None, description="Settings of its pods, which are checked where they are applied")
    destroy_data: bool = Field(default=False, description="Whether deleting the component may delete its volumes")
    pod: Any = Field(default_factory=Pod, exclude=True, description="Only in the stack file")

    @field_validator("pod", mode="before")
    @classmethod
    def _not_here(cls, _: object) -> object:
        raise violation("not an input: `pod` is its name in the stack file", "rename it to `customize`")


def same_as(section: type[Section], field: str) -> Any:
    """A field with the limits, the default and the description that it has in a section of the stack file."""
    return copy.copy(section.model_fields[field])


Model = TypeVar("Model", bound=Inputs)


def checked(model: type[Model], component: object, name: str, args: Mapping[str, Any]) -> Model:
    """The inputs of a component, such as `self`. Raises InputError with every mistake."""
    given = {key: _lists(value) for key, value in args.items() if value is not None}
    if "kubernetes_name" in model.model_fields:
        given.setdefault("kubernetes_name", name)
    found: list[ErrorDetails] = []
    made: Model | None = None
    try:
        made = model.model_validate(given)
    except ValidationError as error:
        found = error.errors()
    wrong = {detail["loc"][0] for detail in found if detail["loc"]}
    if wrong:
        try:  # rules between inputs are checked only where each of them is valid by itself
            model.model_validate({key: value for key, value in given.items() if key not in wrong})
        except ValidationError as error:
            found += [detail for detail in error.errors() if not detail["loc"]]
    python = not isinstance(args, Foreign)
    problems = [describe(_shown(detail), model, given, python=python) for detail in found]
    if "customize" in model.model_fields:
        problems += _of_pods(given.get("customize"))
    if problems or made is None:
        raise InputError(type(component).__name__, name, problems)
    return made


def _lists(value: Any) -> Any:
    """The value with lists for tuples, because an input that is a sequence may be either."""
    if type(value) is dict:
        return {key: _lists(one) for key, one in cast("dict[str, Any]", value).items()}
    if type(value) in (list, tuple):
        return [_lists(one) for one in cast("Sequence[Any]", value)]
    return value


def _of_pods(settings: Any) -> Sequence[Problem]:
    """Mistakes in settings of pods. Those that only a pod shows, such as a label of its own, are found later."""
    try:
        customization(settings)
    except ConfigError as error:
        return error.problems
    return ()


def _shown(detail: ErrorDetails) -> ErrorDetails:
    """Replace unknown values with a placeholder."""
    if isinstance(detail["input"], pulumi.Output):
        return {**detail, "input": "(an output)"}
    return detail
