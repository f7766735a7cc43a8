"""The examples of single components in `examples/components/`, run under Pulumi's mocks."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pulumi
import yaml

from components.base import PlatformComponent
from components.plugin.offered import OFFERED
from policies.access.render import Recorder, run

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "components"
Registered = list[pulumi.runtime.MockResourceArgs]


class Use(NamedTuple):
    """How an example creates its component."""

    name: str
    args: dict[str, Any]
    registered: Registered
    component: PlatformComponent


def file_of(component: type[PlatformComponent]) -> Path:
    """The example of a component."""
    return FOLDER / f"{re.sub(r'(?<=[a-z0-9])(?=[A-Z])', '_', component.__name__).lower()}.py"


def ran(program: Callable[[], object]) -> Registered:
    """Resources that a program registers, with the images that the example's project names."""
    mocks = Recorder()
    settings = yaml.safe_load((FOLDER / "Pulumi.yaml").read_text())["config"]
    known = {f"components:{name}": one["default"] for name, one in settings.items() if "default" in one}
    pulumi.runtime.set_all_config(known)
    run(mocks, program, project="components")
    return mocks.resources


@functools.cache
def used(component: type[PlatformComponent]) -> Use:
    """Run the example of a component. The package is named `components` in a checkout."""
    source = file_of(component).read_text().replace("from cogniforge.", "from components.")
    calls: list[tuple[str, dict[str, Any], PlatformComponent]] = []
    init: Any = component.__init__

    def recorded(self: Any, name: str, args: Any, opts: Any = None) -> None:
        calls.append((name, args, self))
        init(self, name, args, opts)

    component.__init__ = recorded  # pyright: ignore
    try:
        registered = ran(lambda: exec(compile(source, str(file_of(component)), "exec"), {"__name__": "example"}))
    finally:
        component.__init__ = init
    name, args, made = calls[0]
    return Use(name, args, registered, made)


COMPONENTS = sorted(OFFERED, key=lambda one: one.__name__)
