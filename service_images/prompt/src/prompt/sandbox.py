"""Templates of strangers: Jinja2 in which nothing can be reached but what was given, within a budget of work.

Jinja's own sandbox keeps templates from Python's internals. On top of it: no method of any object can be called, only
the filters listed here exist, and every loop, macro, concatenation, repetition and output takes from a budget, so that
no template holds up the service or fills its memory.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import DictLoader, StrictUndefined, TemplateError, meta, nodes
from jinja2.filters import FILTERS
from jinja2.runtime import Context, LoopContext, Macro, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

MAX_SOURCE = 128 * 1024
"""Characters of a template."""
MAX_WORK = 1_000_000
"""Characters that may be made, in all; a loop's round or a macro's call counts as `ROUND`."""
ROUND = 20
_PLAIN = (str, int, float, type(None), Mapping, list, tuple, Undefined)
"""What can be written out."""
_BITS = 4096
_WIDTH = 200
_TICK, _JOIN, _MADE = "_tick", "_join", "_made"
_PLAIN_FILTERS = (
    "abs batch capitalize count d default dictsort e escape first float groupby indent int items join last length list "
    "lower map max min pprint reject rejectattr replace reverse round select selectattr slice sort string striptags "
    "sum title tojson trim truncate unique upper urlencode wordcount"
)


class TemplateProblem(Exception):
    """What is wrong with a template, or with what it does."""


class _Budget:
    """Of one rendering."""

    def __init__(self) -> None:
        self.left = MAX_WORK

    def take(self, amount: int) -> None:
        self.left -= amount
        if self.left < 0:
            raise TemplateProblem("the template makes too much: fewer rounds or shorter texts are needed")


class _Guarded(NodeTransformer):
    """Rewrites a template so that loops, macros and concatenations take from the budget."""

    def visit_Name(self, node: nodes.Name) -> nodes.Node:
        """The guards' own names are nobody else's."""
        if node.name.startswith("_"):
            raise TemplateProblem(f'"{node.name}": names must not begin with an underscore')
        return node

    def _counted(self, node: Any) -> Any:
        self.generic_visit(node)
        tick = nodes.Call(nodes.Name(_TICK, "load"), [], [], None, None)
        node.body.insert(0, nodes.Output([tick]).set_lineno(node.lineno))
        return node

    visit_For = visit_Macro = visit_CallBlock = _counted

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        """`~`"""
        self.generic_visit(node)
        return nodes.Call(nodes.Name(_JOIN, "load"), node.nodes, [], None, None).set_lineno(node.lineno)

    def _literal(self, node: Any) -> nodes.Node:
        self.generic_visit(node)
        if getattr(node, "ctx", "load") != "load":
            return node
        return nodes.Call(nodes.Name(_MADE, "load"), [node], [], None, None).set_lineno(node.lineno)

    visit_List = visit_Tuple = visit_Dict = _literal

    def visit_Include(self, node: nodes.Include) -> nodes.Node:
        """Only by a name that stands there, so that it is known beforehand what belongs together."""
        if not isinstance(node.template, nodes.Const) or not isinstance(node.template.value, str):
            raise TemplateProblem("include: a name in quotes is needed")
        return node

    def _never(self, node: nodes.Node) -> nodes.Node:
        raise TemplateProblem(f"{type(node).__name__.lower()} is not possible; compose with include")

    visit_Import = visit_FromImport = visit_Extends = visit_Block = _never


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja2 with less in it."""

    intercepted_binops = frozenset(("*", "+", "**", "%", "//", "/", "-"))

    def __init__(self, sources: Mapping[str, str]) -> None:
        self.budget = _Budget()
        super().__init__(
            loader=DictLoader(sources), undefined=StrictUndefined, autoescape=False, finalize=self._finalize
        )
        self.globals = {
            "range": self._range,
            "dict": self._dict,
            "namespace": self.globals["namespace"],
            _TICK: self._tick,
            _JOIN: self._join,
            _MADE: self._small,
        }
        self.filters = {name: self._filter(name) for name in _PLAIN_FILTERS.split()}

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        return _Guarded().visit(super()._parse(source, name, filename))

    # --- what takes from the budget ---------------------------------------------------------------

    def _tick(self) -> str:
        self.budget.take(ROUND)
        return ""

    def _finalize(self, value: Any) -> Any:
        if not isinstance(value, _PLAIN):
            raise TemplateProblem(f"a {type(value).__name__} has no text")
        text = value if isinstance(value, str) else str(self._small(value))
        self.budget.take(len(text))
        return text

    def _small(self, value: Any) -> Any:
        """Before it is written out or built upon: how large it is, all its parts counted."""
        self.budget.take(_size(value))
        return value

    def _join(self, *values: Any) -> str:
        texts = [value if isinstance(value, str) else str(self._small(value)) for value in values]
        self.budget.take(sum(map(len, texts)))
        return "".join(texts)

    def _dict(self, **entries: Any) -> dict[str, Any]:
        return self._small(entries)

    def _range(self, *bounds: int) -> range:
        found = range(*bounds)
        self.budget.take(len(found) * ROUND)
        return found

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Before anything is made: how large it would be."""
        if operator == "**" or (operator == "%" and isinstance(left, str)):
            raise TemplateProblem(f"{operator} is not possible")
        if isinstance(left, int) and isinstance(right, int):
            if left.bit_length() + right.bit_length() > _BITS:
                raise TemplateProblem("a number is too large")
        elif operator == "*":
            self.budget.take(_times(left, right))
        elif operator == "+":
            self.budget.take(_size(left) + _size(right))
        return super().call_binop(context, operator, left, right)

    def _filter(self, name: str) -> Callable[..., Any]:
        function = FILTERS[name]

        def bounded(value: Any, arguments: tuple[Any, ...], more: dict[str, Any]) -> None:
            given = (value, *arguments, *more.values())
            self.budget.take(sum(map(_size, given)))
            if name == "replace" and len(arguments) >= 2:
                self.budget.take((str(value).count(str(arguments[0])) + 1) * len(str(arguments[1])))
            elif name == "join":
                separator = str(arguments[0] if arguments else more.get("d", ""))
                self.budget.take(len(separator) * _size(value))
            elif any(isinstance(v, int) and abs(v) > _WIDTH for v in (*arguments, *more.values())) and name in (
                "indent",
                "batch",
                "slice",
                "tojson",
                "round",
                "pprint",
            ):
                raise TemplateProblem(f"{name}: at most {_WIDTH}")
            elif name == "indent":
                width = arguments[0] if arguments else more.get("width", 4)
                per_line = len(width) if isinstance(width, str) else int(width)
                self.budget.take(per_line * (str(value).count("\n") + 1))

        # Filters that want the environment or the context get it as the first argument.
        wants = getattr(function, "jinja_pass_arg", None)

        @functools.wraps(function)
        def guarded(*given: Any, **more: Any) -> Any:
            start = 1 if wants is not None else 0
            bounded(given[start], given[start + 1 :], more)
            return function(*given, **more)

        return guarded

    # --- what can be reached ----------------------------------------------------------------------

    def is_safe_callable(self, obj: Any) -> bool:
        """Macros, and the few functions of ours; no method of any value."""
        owner = getattr(obj, "__self__", None)
        return (
            isinstance(obj, Macro)
            or owner is self
            or isinstance(owner, LoopContext)
            or obj is self.globals["namespace"]
        )

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Entries of what was given, and a loop's counters: no value has anything else."""
        if isinstance(obj, Mapping):
            return obj[attribute] if attribute in obj else self.undefined(obj=obj, name=attribute)
        if isinstance(obj, (LoopContext, Namespace, Undefined)):
            return super().getattr(obj, attribute)
        return self.undefined(obj=obj, name=attribute)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Nothing that begins with an underscore."""
        return not attr.startswith("_") and super().is_safe_attribute(obj, attr, value)


def _size(value: Any) -> int:
    """Characters that a value takes, at least; what is more than the whole budget is not counted on."""
    if isinstance(value, str):
        return len(value)
    found, waiting = 0, [value]
    while waiting and found <= MAX_WORK:
        item = waiting.pop()
        if isinstance(item, str):
            found += 1 + len(item)
        elif isinstance(item, Mapping):
            found += 1
            waiting += [*item.keys(), *item.values()]
        elif isinstance(item, (list, tuple, set)):
            found += 1
            waiting += item
        else:
            found += 1 + (item.bit_length() // 3 if isinstance(item, int) else 0)
    return found


def _times(left: Any, right: Any) -> int:
    count, value = (left, right) if isinstance(left, int) else (right, left)
    return max(0, count) * _size(value) if isinstance(count, int) else 1


def includes(source: str) -> list[str]:
    """The names that a template includes. Raises TemplateProblem for one that could never be rendered."""
    if len(source) > MAX_SOURCE:
        raise TemplateProblem(f"a template has at most {MAX_SOURCE} characters")
    with _told():
        environment = _Environment({})
        parsed = environment.parse(source)
        environment.from_string(source)  # what parses may still not compile
        named = [node.template for node in parsed.find_all(nodes.Include)]
        return sorted({name.value for name in named if isinstance(name, nodes.Const)})


def variables(source: str) -> set[str]:
    """The names that a template wants to be given."""

    with _told():
        return meta.find_undeclared_variables(_Environment({}).parse(source)) - {_TICK, _JOIN, _MADE}


def render(sources: Mapping[str, str], name: str, given: Mapping[str, Any]) -> str:
    """The template `name` of `sources`. Raises TemplateProblem."""
    with _told():
        environment = _Environment(sources)
        if wrong := sorted(key for key in given if key.startswith("_")):
            raise TemplateProblem(f'"{wrong[0]}": names must not begin with an underscore')
        return environment.get_template(name).render(dict(given))


class _told:
    """Whatever a template does wrong is a TemplateProblem."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is None or isinstance(error, TemplateProblem) or not isinstance(error, Exception):
            return
        if isinstance(error, RecursionError):
            raise TemplateProblem("it goes too deep") from None
        if isinstance(error, MemoryError):
            raise TemplateProblem("it is too large") from None
        line = getattr(error, "lineno", None)
        where = f"line {line}: " if line else ""
        what = (error.message if isinstance(error, TemplateError) else f"{type(error).__name__}: {error}") or "wrong"
        raise TemplateProblem(f"{where}{what}"[:500]) from None
