"""Sandbox for untrusted templates: Jinja2 with access to the given variables only, and a budget of work.

Jinja's own sandbox blocks access to Python internals. In addition, no methods can be called, only the filters listed
here exist, and each loop, macro, concatenation, repetition, comparison, test, slice and output uses up a part of a
budget, so that no template can block the service or exhaust its memory. A variable is optional if the template guards
it (`name | default('there')`, `name is defined`, `if name`, `name or 'there'`).
"""

from __future__ import annotations

import functools
import reprlib
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

from jinja2 import DictLoader, StrictUndefined, TemplateError, UndefinedError, nodes
from jinja2.filters import FILTERS
from jinja2.runtime import Context, LoopContext, Macro, Undefined, missing
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.tests import TESTS
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer
from kit import limits

MAX_SOURCE = limits.TEMPLATE.most
"""Most characters of a template."""
MAX_TOKENS = 8000
"""Most Jinja2 tokens in a template. Each takes 3.5 KB while parsing. A long prompt for an agent has 500."""
MAX_WORK = limits.RENDERED.most
"""Most characters that a rendering may produce. A loop iteration or macro call counts as `ROUND` characters."""
ROUND = 20
_COMPARED = 8
"""Number of characters that are compared or searched in the time of producing one character."""
_PLAIN = (str, int, float, type(None), Mapping, list, tuple, Undefined)
"""Types that can be printed."""
_LONGEST = 200
"""Most characters of a name in a message."""
_SHORT = reprlib.Repr()
_BITS = 4096
_WIDTH = 200
_TICK, _JOIN, _MADE, _SEEN = "_tick", "_join", "_made", "_seen"
_PLAIN_FILTERS = (
    "abs batch capitalize count d default dictsort e escape first float groupby indent int items join last length list "
    "lower map max min pprint reject rejectattr replace reverse round select selectattr slice sort string striptags "
    "sum title tojson trim truncate unique upper urlencode wordcount"
)


class TemplateProblem(Exception):
    """A template is invalid, or does something that is not allowed."""

    def __init__(self, message: str) -> None:
        super().__init__(message.encode(errors="replace").decode())  # it may contain an unpaired surrogate


class MissingVariables(TemplateProblem):
    """Values that a template needs are missing. There is one sentence per value."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = tuple(reasons)


class _Missing(StrictUndefined):
    """A missing value: it is false, its entries are missing, too, and its use is an error."""

    __slots__ = ()
    noted: dict[str, None]
    """Missing values that one rendering needed, in order."""

    def note(self) -> None:
        """Record that the value is needed."""
        plain = self._undefined_obj is missing and not self._undefined_hint
        reason = f"{self._undefined_name}: the value is missing" if plain else self._undefined_message[:_LONGEST]
        self.noted[reason.encode(errors="replace").decode()] = None

    def __bool__(self) -> bool:
        return False

    def __getattr__(self, name: str) -> Any:
        if name[:2] == "__" or self._undefined_hint:
            raise AttributeError(name)  # Python itself looks up such names; templates cannot
        return self[name]

    def __getitem__(self, name: Any) -> Any:
        path = f"{self._undefined_name}.{_SHORT.repr(name) if not isinstance(name, str) else name[:_LONGEST]}"
        return type(self)(self._undefined_hint, self._undefined_obj, path[:_LONGEST])

    def __repr__(self) -> str:
        self.note()  # a container of the value is printed
        return ""

    def _fail_with_undefined_error(self, *_: Any, **__: Any) -> Any:
        self.note()
        raise UndefinedError(self._undefined_message)

    # Jinja2 binds these methods to its own version of the function above, not to this override.
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _fail_with_undefined_error
    __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = _fail_with_undefined_error
    __pos__ = __neg__ = __call__ = __lt__ = __le__ = __gt__ = __ge__ = __eq__ = __ne__ = _fail_with_undefined_error
    __index__ = __int__ = __float__ = __complex__ = __pow__ = __rpow__ = __hash__ = _fail_with_undefined_error  # type: ignore[assignment]
    __iter__ = __str__ = __len__ = __contains__ = _fail_with_undefined_error  # type: ignore[assignment]


class Budget:
    """Work budget of one rendering, for all texts of a prompt together."""

    def __init__(self) -> None:
        self.left = MAX_WORK

    def take(self, amount: int) -> None:
        """Use up a part of the budget. Raises TemplateProblem if it is exhausted."""
        self.left -= amount
        if self.left < 0:
            raise TemplateProblem("the template does too much work: use fewer iterations or shorter texts")


class _Guarded(NodeTransformer):
    """Rewrites a template so that loops, macros and concatenations use up the budget."""

    def visit_Name(self, node: nodes.Name) -> nodes.Node:
        """Refuse names that are reserved for the guards."""
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

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        """Slices such as `text[1:]` create a new text."""
        return self._literal(node) if isinstance(node.arg, nodes.Slice) else self.generic_visit(node)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        """The cost of comparisons and searches depends on the sizes of both operands."""
        self.generic_visit(node)
        node.expr = nodes.Call(nodes.Name(_SEEN, "load"), [node.expr], [], None, None).set_lineno(node.lineno)
        for operand in node.ops:
            seen = nodes.Call(nodes.Name(_SEEN, "load"), [operand.expr], [], None, None)
            operand.expr = seen.set_lineno(node.lineno)
        return node

    def visit_Include(self, node: nodes.Include) -> nodes.Node:
        """Allow literal names only, so that includes are known before rendering."""
        if not isinstance(node.template, nodes.Const) or not isinstance(node.template.value, str):
            raise TemplateProblem("include: the name must be a literal in quotes")
        return node

    def _never(self, node: nodes.Node) -> nodes.Node:
        raise TemplateProblem(f"{type(node).__name__.lower()} is not allowed; use include")

    visit_Import = visit_FromImport = visit_Extends = visit_Block = _never


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja2 with a restricted set of features."""

    intercepted_binops = frozenset(("*", "+", "**", "%", "//", "/", "-"))

    def __init__(self, sources: Mapping[str, str], budget: Budget | None = None) -> None:
        self.budget = budget or Budget()
        self.missing: dict[str, None] = {}
        undefined = type("_MissingHere", (_Missing,), {"noted": self.missing, "__slots__": ()})
        super().__init__(loader=DictLoader(sources), undefined=undefined, autoescape=False, finalize=self._finalize)
        self.globals = {
            "range": self._range,
            "dict": self._dict,
            "namespace": self.globals["namespace"],
            _TICK: self._tick,
            _JOIN: self._join,
            _MADE: self._small,
            _SEEN: self._seen,
        }
        self.filters = {name: self._filter(name) for name in _PLAIN_FILTERS.split()}
        self.tests = {name: self._guarded(test, self._compared) for name, test in TESTS.items()}

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tokens = sum(1 for _ in islice(self.lex(source), MAX_TOKENS + 1))
        if tokens > MAX_TOKENS:
            raise TemplateProblem(f"a template has at most {MAX_TOKENS} tokens, such as names and operators")
        self.budget.take(tokens * ROUND)
        return _Guarded().visit(super()._parse(source, name, filename))

    # --- what takes from the budget ---------------------------------------------------------------

    def _tick(self) -> str:
        self.budget.take(ROUND)
        return ""

    def _finalize(self, value: Any) -> Any:
        if isinstance(value, _Missing):
            value.note()  # rendering continues, so that all missing values are reported together
            return ""
        if not isinstance(value, _PLAIN):
            raise TemplateProblem(f"a {type(value).__name__} cannot be printed")
        text = value if isinstance(value, str) else str(self._small(value))
        self.budget.take(len(text))
        return text

    def _small(self, value: Any) -> Any:
        """Charge the size of a value, including its parts, before it is printed or combined."""
        self.budget.take(_size(value))
        return value

    def _seen(self, value: Any) -> Any:
        """Charge a value before it is compared or searched."""
        self.budget.take(1 + len(value) // _COMPARED if isinstance(value, str) else _size(value))
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
        """Charge the size of the result before an operator is evaluated."""
        if operator == "**" or (operator == "%" and isinstance(left, str)):
            raise TemplateProblem(f"{operator} is not allowed")
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
            if isinstance(value, _Missing) and name not in ("default", "d"):
                str(value)  # raises, since the value is missing
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
            elif name == "sum" and not all(isinstance(v, int | float | str | None) for v in given[1:]):
                raise TemplateProblem("sum: only numbers can be added")  # lists would be copied for each addition
            elif name == "indent":
                width = arguments[0] if arguments else more.get("width", 4)
                per_line = len(width) if isinstance(width, str) else int(width)
                self.budget.take(per_line * (str(value).count("\n") + 1))

        return self._guarded(function, bounded)

    def _compared(self, value: Any, arguments: tuple[Any, ...], more: dict[str, Any]) -> None:
        for item in (value, *arguments, *more.values()):
            self._seen(item)

    @staticmethod
    def _guarded(function: Callable[..., Any], bounded: Callable[..., None]) -> Callable[..., Any]:
        # Filters and tests that need the environment or the context get it as their first argument.
        start = 1 if getattr(function, "jinja_pass_arg", None) is not None else 0

        @functools.wraps(function)
        def guarded(*given: Any, **more: Any) -> Any:
            bounded(given[start], given[start + 1 :], more)
            return function(*given, **more)

        return guarded

    # --- what can be reached ----------------------------------------------------------------------

    def is_safe_callable(self, obj: Any) -> bool:
        """Only macros and the sandbox's own functions are callable; methods of values are not."""
        if isinstance(obj, _Missing):
            obj.note()
        owner = getattr(obj, "__self__", None)
        return (
            isinstance(obj, Macro)
            or owner is self
            or isinstance(owner, LoopContext)
            or obj is self.globals["namespace"]
        )

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Allow entries of given values and counters of loops; values have no other attributes."""
        if isinstance(obj, Mapping):
            return obj[attribute] if attribute in obj else self.undefined(obj=obj, name=attribute)
        if isinstance(obj, (LoopContext, Namespace, Undefined)):
            return super().getattr(obj, attribute)
        return self.undefined(obj=obj, name=attribute)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Refuse names that begin with an underscore."""
        return not attr.startswith("_") and super().is_safe_attribute(obj, attr, value)


def _size(value: Any) -> int:
    """Least number of characters of a value. Counting stops when it exceeds the budget."""
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
    """Names of a template's includes. Raises TemplateProblem if the template can never be rendered."""
    if len(source) > MAX_SOURCE:
        raise TemplateProblem(f"a template has at most {MAX_SOURCE} characters")
    with _TemplateErrors():
        environment = _Environment({})
        parsed = environment.parse(source)
        environment.from_string(source)  # a template that parses may still not compile
        named = [node.template for node in parsed.find_all(nodes.Include)]
        texts = {name.value for name in named if isinstance(name, nodes.Const)}
        return sorted(text.encode(errors="replace").decode() for text in texts)


def render(sources: Mapping[str, str], name: str, given: Mapping[str, Any], budget: Budget | None = None) -> str:
    """Render the template `name` of `sources`. Raises TemplateProblem, or MissingVariables with all missing values."""
    environment = _Environment(sources, budget)
    try:
        with _TemplateErrors():
            if wrong := sorted(key for key in given if key.startswith("_")):
                raise TemplateProblem(f'"{wrong[0]}": names must not begin with an underscore')
            text = environment.get_template(name).render(dict(given))
            text.encode()  # "\\ud800" in a template is an unpaired surrogate, which cannot be encoded
    except TemplateProblem:
        if not environment.missing:
            raise
    if environment.missing:
        raise MissingVariables(list(environment.missing))
    return text


class _TemplateErrors:
    """Context that converts all errors of a template to TemplateProblem."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is None or isinstance(error, TemplateProblem) or not isinstance(error, Exception):
            return
        if isinstance(error, RecursionError):
            raise TemplateProblem("it is nested too deeply") from None
        if isinstance(error, MemoryError):
            raise TemplateProblem("it is too large") from None
        line = getattr(error, "lineno", None)
        where = f"line {line}: " if line else ""
        what = (error.message if isinstance(error, TemplateError) else f"{type(error).__name__}: {error}") or "wrong"
        raise TemplateProblem(f"{where}{what}"[:500]) from None
