"""Templates cannot escape their sandbox, and cannot exceed their budget."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prompt import sandbox
from prompt.sandbox import TemplateProblem

GIVEN: dict[str, Any] = {"x": "text", "xs": [1, 2], "d": {"a": 1, "keys": "mine"}, "n": 3}
LARGE: dict[str, Any] = {"hay": "hay" * 130_000, "many": list(range(50_000)), "many2": list(range(50_000))}
ESCAPES = """
{{ ''.__class__ }}
{{ ''['__class__'] }}
{{ x.__class__.__mro__[1].__subclasses__() }}
{{ ''|attr('__class__') }}
{{ xs.append(1) }}
{{ d.update({'a': 2}) }}
{{ x.upper() }}
{{ x.format }}
{{ '{0.__class__}'.format(x) }}
{{ '%s'|format(x) }}
{{ range.__globals__ }}
{{ range.__self__ }}
{{ dict.__base__ }}
{{ namespace.__init__.__globals__ }}
{{ namespace().__class__ }}
{{ lipsum.__globals__ }}
{{ cycler.__init__ }}
{{ joiner() }}
{{ self._TemplateReference__context }}
{{ self.__init__ }}
{{ _tick.__self__ }}
{{ _join('a') }}
{% set _tick = 1 %}
{% for _made in xs %}{% endfor %}
{% macro m(_join) %}{% endmacro %}
{% macro m() %}{{ caller.__globals__ }}{% endmacro %}{% call m() %}{% endcall %}
{% macro m() %}{% endmacro %}{{ m.__init__.__globals__ }}
{% macro m() %}{% endmacro %}{{ m._func }}
{% for i in xs %}{{ loop.__class__ }}{% endfor %}
{% for i in xs %}{{ loop._iterator }}{% endfor %}
{{ xs|map('attr', '__class__')|list }}
{{ xs|sort(attribute='__class__.__mro__') }}
{{ [x]|map('upper')|map(attribute='__class__.__name__')|list }}
{{ request }}
{{ config }}
{{ get_flashed_messages }}
{{ environment }}
{% include x %}
{% include '/etc/passwd' %}
{% import 'a' as b %}
{% from 'a' import b %}
{% extends 'a' %}
{% block a %}{% endblock %}
{{ (1).real }}
{{ x.encode }}
{{ range }}
{{ dict }}
{{ namespace }}
{{ m.__call__ }}
{{ True.__class__ }}
{{ None.__class__ }}
""".strip().splitlines()
HEAVY = [
    "{% for i in range(1000000000) %}x{% endfor %}",
    "{% for i in range(900) %}{% for j in range(900) %}{% for k in range(900) %}{% endfor %}{% endfor %}{% endfor %}",
    "{{ 'x' * 1000000000 }}",
    "{{ [1] * 1000000000 }}",
    "{{ 10 ** 10 ** 10 }}",
    "{% set x = 'abc' %}" + "{% set x = x ~ x %}" * 100,
    "{% set x = 'abc' %}" + "{% set x %}{{ x }}{{ x }}{% endset %}" * 100,
    "{% set x = 'abc' %}" + "{% set x = x + x %}" * 100,
    "{% set x = [1] %}" + "{% set x = x + x %}" * 100,
    "{% set x = [1] %}" + "{% set x = [x, x] %}" * 100,
    "{% set x = {'a': 1} %}" + "{% set x = {'a': x, 'b': x} %}" * 100,
    "{% set x = 'aa' %}" + "{% set x = x|replace('a', 'aaaaaaaa') %}" * 100,
    "{% set x = 'aa' %}" + "{% set x = x|list|join(x) %}" * 100,
    "{% set x = 'a\n' * 1000 %}" + "{% set x = x|indent(200) %}" * 100,
    "{{ x|indent(1000000000) }}",
    "{{ xs|batch(1000000000, 'x')|list }}",
    "{{ 1.5|round(1000000000) }}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
    "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
    "{% if 1 %}" * 200 + "{% endif %}" * 200,
    "{{ '%1000000000d' % 1 }}",
    "{% for i in range(20000) %}{% if 'needle' in hay %}{% endif %}{% endfor %}",
    "{% for i in range(20000) %}{{ 'y' if hay == hay ~ 'x' }}{% endfor %}",
    "{% for i in range(20000) %}{{ 'y' if 'needle' is in hay }}{% endfor %}",
    "{% for i in range(20000) %}{{ 'y' if hay is lower }}{% endfor %}",
    "{% for i in range(20000) %}{{ 'y' if many == many2 }}{% endfor %}",
    "{% for i in range(20000) %}{{ 'y' if many is eq many2 }}{% endfor %}",
    "{% for i in range(20000) %}{{ [hay] | select('in', hay) | list | length }}{% endfor %}",
    "{% for i in range(20000) %}{% set x = hay[1:] %}{% endfor %}",
    "{{ many | map('list') | sum(start=[]) | length }}",
    "{{ [[1]] * 100000 | sum(start=[]) }}",
    "{{ a" + "[hay]" * 9000 + " }}",
]


@pytest.mark.parametrize("template", ESCAPES)
def test_a_template_reaches_its_variables_only(template: str) -> None:
    with pytest.raises(TemplateProblem):
        sandbox.render({"t": template}, "t", GIVEN)


@pytest.mark.parametrize("template", HEAVY, ids=range(len(HEAVY)))
def test_templates_beyond_their_budget_are_stopped(template: str) -> None:
    began = time.process_time()
    with pytest.raises(TemplateProblem):
        sandbox.render({"t": template}, "t", GIVEN | LARGE)
    assert time.process_time() - began < 10, "the budget ends it, not the patience of the test"


def test_the_texts_of_a_prompt_have_one_budget() -> None:
    budget = sandbox.Budget()
    sandbox.render({"t": "{{ x }}"}, "t", {"x": "x" * 900_000}, sandbox.Budget())
    with pytest.raises(TemplateProblem):
        for _ in range(3):
            sandbox.render({"t": "{{ x }}"}, "t", {"x": "x" * 400_000}, budget)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ x|upper }} {% for i in xs %}{{ loop.index }}{% if not loop.last %}, {% endif %}{% endfor %}", "TEXT 1, 2"),
        ("{{ d.a }}{{ d['a'] }}{{ d.keys }}", "11mine"),
        ("{% macro m(y) %}<{{ y }}>{% endmacro %}{{ m(x) ~ m(n) }}", "<text><3>"),
        ("{% set ns = namespace(a=1) %}{% for i in xs %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }}", "4"),
        ("{{ missing|default('none') }}{{ xs|join('-') }}{{ dict(a=2).a }}", "none1-22"),
        ("{% include 'other@production' %}!", "text!"),
        ("{{ 7 % 4 }}{{ 'b' in 'abc' }}{{ xs|map('string')|join }}", "3True12"),
    ],
)
def test_typical_templates_render(template: str, text: str) -> None:
    assert sandbox.render({"t": template, "other@production": "{{ x }}"}, "t", GIVEN) == text


def test_a_value_is_never_a_template() -> None:
    assert sandbox.render({"t": "{{ x }}"}, "t", {"x": "{{ n }}"}) == "{{ n }}"


PIECES = st.sampled_from(
    [
        "{{",
        "}}",
        "{%",
        "%}",
        "{#",
        "#}",
        "for",
        "in",
        "if",
        "else",
        "endif",
        "endfor",
        "set",
        "endset",
        "macro",
        "endmacro",
        "include",
        "x",
        "xs",
        "d",
        "n",
        ".",
        "_",
        "__class__",
        "|",
        "(",
        ")",
        "[",
        "]",
        "~",
        "+",
        "-",
        "*",
        "**",
        "%",
        "==",
        "'a'",
        '"',
        "1",
        "1000000000",
        "range",
        "dict",
        "namespace",
        "loop",
        "upper",
        "join",
        "replace",
        "map",
        "attr",
        "indent",
        ",",
        "=",
        ":",
        "\\",
        "\n",
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=30))
def test_any_template_yields_a_text_or_a_problem(pieces: list[str]) -> None:
    template = " ".join(pieces)
    began = time.process_time()
    try:
        assert isinstance(sandbox.render({"t": template}, "t", GIVEN), str)
    except TemplateProblem as problem:
        assert str(problem)
    assert time.process_time() - began < 10, "it must end"
