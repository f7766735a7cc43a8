"""`forge destroy`: deletes the platform from its cluster."""

from __future__ import annotations

from cli import output
from cli.options import Stack, Yes


def run(stack_name: Stack = "local", yes: Yes = False) -> None:
    """Delete the platform from its cluster. The cluster stays. Refused while data is protected."""
    from cli import destruction, stack

    found = stack.resources(stack_name)
    if not found:
        stack.read_config(stack_name)  # an environment without a stack file is more likely a misspelled one
        output.line(f"{stack_name} is not deployed; there is nothing to delete")
        return
    stack.ensure(stack_name)
    stack.refuse_protected(stack_name)
    destruction.show(stack_name, found)
    output.confirm(f"Delete {stack_name}?", yes)
    stack.run(stack_name, "destroy")
