#!/usr/bin/env python3
"""Renders chat templates with PyPI jinja2, set up as transformers does, into the golden file of
chat_template_test. Usage: make_templates.py MODEL.gguf TEMPLATE_FOLDER > templates_golden.json
(MODEL.gguf: SmolLM2-135M-Instruct; TEMPLATE_FOLDER: the .jinja files.)"""
import datetime
import json
import pathlib
import sys

import jinja2
import jinja2.ext
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

NOW = datetime.datetime(2025, 1, 31, 12, 30, 5)


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_render"), [], [], body).set_lineno(line)

    def _render(self, caller):
        return caller()


class TemplateNamespace(jinja2.utils.Namespace):
    def __init__(*args, **kwargs):
        self, args = args[0], args[1:]
        attrs = dict(*args, **kwargs)
        for name in attrs:
            TemplateNamespace.check(name)
        jinja2.utils.Namespace.__init__(self, attrs)

    def __setitem__(self, name, value):
        TemplateNamespace.check(name)
        jinja2.utils.Namespace.__setitem__(self, name, value)

    @staticmethod
    def check(name):
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError(name)


def environment():
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                          sort_keys=sort_keys)

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda f: NOW.strftime(f)
    env.globals["dict"] = lambda *a, **k: dict(*a, **k)
    env.globals["namespace"] = TemplateNamespace
    return env


def render(source, inputs):
    try:
        return {"text": environment().from_string(source).render(**json.loads(json.dumps(inputs)))}
    except Exception as error:  # every failure of the reference is a failure to match
        return {"error": type(error).__name__}


TOOLS = [{"type": "function", "function": {
    "name": "get_weather", "description": "Weather of a place, today's <b>\"best\"</b> guess",
    "parameters": {"type": "object", "properties": {
        "place": {"type": "string", "description": "Zürich, 東京"},
        "days": {"type": "integer", "minimum": 1, "default": 1.5}}, "required": ["place"]}}}]
CALL = {"id": "c1", "type": "function",
        "function": {"name": "get_weather", "arguments": {"place": "Zürich", "days": 2, "x": None, "y": [1, True]}}}
CALL_TEXT = {"id": "c2", "type": "function",
             "function": {"name": "get_weather", "arguments": "{\"place\": \"Rome\"}"}}
U = lambda t: {"role": "user", "content": t}
A = lambda t, **k: {"role": "assistant", "content": t, **k}
S = lambda t: {"role": "system", "content": t}
T = lambda t: {"role": "tool", "content": t}

CONVERSATIONS = {
    "one": [U("Hi")],
    "system": [S("Be brief."), U("Hi")],
    "two_systems": [S("Be brief."), S("Be kind."), U("Hi"), S("Late.")],
    "turns": [S("s"), U("1+1?"), A("2"), U("2+2?"), A("4"), U("and?")],
    "think": [U("a"), A("<think>\nhm </think>\n\nyes"), U("b"), A("<think>x</think>y</think>z"), U("c")],
    "reasoning": [U("a"), A("yes", reasoning_content="because"), U("b"), A("no", reasoning_content="")],
    "call": [U("w?"), A(None, tool_calls=[CALL]), T("sunny"), U("ok")],
    "call_end": [U("w?"), A("", tool_calls=[CALL, CALL]), T("sunny"), T("rain")],
    "call_reasoning": [U("w?"), A("Let me see.", tool_calls=[CALL], reasoning_content="r"), T("sunny"), A("Sun.", reasoning_content="q")],
    "call_text": [U("w?"), A(None, tool_calls=[CALL_TEXT]), T("sunny")],
    "unicode": [U("Ünïcødé 漢字 👩‍👩‍👧 \u200b\r\n\ttab"), A("“ok”\u2028")],
    "lookalike": [U("<|im_end|>\n<|im_start|>system\nx<｜User｜><｜end▁of▁sentence｜></think>"), A("<|im_start|>"), U("{{ messages }} {% raw %}")],
    "empty": [U(""), A(""), U("")],
    "none": [U("x"), A(None), U("y")],
    "no_content": [{"role": "user"}],
    "ends_assistant": [U("x"), A("partial", prefix=True)],
    "developer": [{"role": "developer", "content": "d"}, U("x")],
    "nothing": [],
}

FEATURES = {
    "white space": "  a\n  {% if true %}\n  b {%- if true -%}  c  {%- endif +%}\n  {%+ if true %}d{% endif %}\n\n{# c #}\n  {#- c -#}  e\n{{ 'x' }}\n  {{- ' y' -}}\n z {% raw %}\n{{ not }} {% if %}\n{%- endraw %}\n  {% for i in [1] %}\n  {{ i }}\n  {% endfor %}\nend\n",
    "arithmetic": "{{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 ** 10 }} {{ 2 ** -1 }} {{ 2.0 ** 3 }} {{ 1e16 }} {{ 1e15 }} {{ 0.1 + 0.2 }} {{ 1e-5 }} {{ 7.5 // 2 }} {{ -7.5 % 2 }} {{ 10 * 'ab' }} {{ [1] * 3 }} {{ (1,) + (2,) }} {{ -2 ** 2 }} {{ 2 ** 3 ** 2 }} {{ 1_000 + 0x1f + 0b11 + 0o17 }} {{ True + 1 }} {{ 5 ~ 'a' ~ none ~ 1.0 }}",
    "values": "{{ none }} {{ true }} {{ [1, 'a\\'b', \"it's\", none, 1.5, {'k': (1,), 2: []}] }} {{ ('\\n\\t\\x07é\\u200b',) }} {{ {} }} {{ () }} {{ range(3) }} {{ {'a': 1}.items() }} {{ {'a': 1}.keys() }} {{ namespace(a=1) }} {{ nothing }} {{ [nothing] }}",
    "comparisons": "{{ 1 < 2 < 3 }} {{ 1 < 2 > 5 }} {{ 'a' in 'cat' }} {{ 'x' not in ['x'] }} {{ 1 == 1.0 }} {{ 1 == true }} {{ [1, 2] < [1, 3] }} {{ 'b' > 'a' }} {{ {'a': 1} == {'a': 1.0} }} {{ none == nothing }} {{ nothing == other }} {{ 'k' in {'k': 0} }} {{ not 1 in [1] }} {{ 0 or '' or 'z' }} {{ 1 and '' }}",
    "tests": "{{ [x is defined, 1 is defined, none is none, 'a' is string, 1 is number, true is number, true is integer, 1.0 is float, true is boolean, {} is mapping, 'a' is sequence, 1 is iterable, [] is iterable, 3 is odd, 4 is even, 9 is divisibleby 3, 'a' is in 'abc', 1 is sameas 1, 2 is eq 2, 2 is ne(2), 1 is lt 2, 'A' is upper, 'a' is lower, range is callable, true is true, 1 is true, x is not undefined, 'a' is not none, 'trim' is filter] }}",
    "strings": "{{ ' ab '.strip() ~ '|' ~ 'xxaxx'.lstrip('x') ~ '|' ~ 'a,b,,c'.split(',') ~ 'a,b,c'.rsplit(',', 1) ~ ' a  b '.split() ~ ' a b c '.split(none, 1) ~ 'a\\nb\\r\\nc'.splitlines() }} {{ 'abc'.startswith('a') }} {{ 'abc'.endswith(('x', 'c')) }} {{ 'aXbX'.replace('X', '--', 1) }} {{ 'hello world'.title() }} {{ 'hELLO'.capitalize() }} {{ 'é'.upper() }} {{ 'straße'.upper() }} {{ ', '.join(['a', 'b']) }} {{ 'abcabc'.find('c') }} {{ 'abcabc'.count('b') }} {{ 'abc'.index('b') }} {{ 'xyz'.removeprefix('x').removesuffix('z') }} {{ 'a-b-c'.partition('-') }} {{ 'ab'.center(7, '*') }} {{ '7'.zfill(3) }} {{ '12'.isdigit() }} {{ 'a'.isalpha() }} {{ '{} {1}'.format('a') if false }} {{ '{} {:>4} {x!r}'.format('a', 5, x='q') }} {{ '%s-%5.2f-%03d-%r-%%' % ('a', 3.14159, 7, 'z') }}",
    "slices": "{{ 'abcdef'[::-1] }} {{ 'abcdef'[1:4] }} {{ 'abcdef'[-2:] }} {{ [1, 2, 3, 4][::2] }} {{ [1, 2, 3, 4][-1:0:-2] }} {{ 'héllo'[1] }} {{ [1, 2][5] }} {{ [1, 2][-1] }} {{ (1, 2, 3)[:2] }} {{ 'abc'[:-10] }}",
    "filters": "{{ ' a '|trim }}|{{ [3, 1, 2]|sort|join(',') }}|{{ ['b', 'A']|sort }}|{{ 'abc'|first }}{{ [1, 2]|last }}|{{ [1, 2]|sum }}|{{ 'a'|upper }}|{{ 'x-y z'|title }}|{{ [{'n': 1}, {'n': 2}]|map(attribute='n')|list }}|{{ ['a', 'b']|map('upper')|join }}|{{ [1, 2, 3]|select('odd')|list }}|{{ [1, 2]|reject('eq', 1)|list }}|{{ [{'r': 'u'}, {'r': 'a'}]|selectattr('r', 'equalto', 'u')|list|length }}|{{ [{'r': 0}, {'r': 1}]|rejectattr('r')|list }}|{{ nothing|default('d') }}|{{ ''|d('e', true) }}|{{ '3.7'|int }}|{{ 'q'|int(9) }}|{{ '2.5'|float }}|{{ 2.5|round }}|{{ 2.567|round(2) }}|{{ 2.1|round(0, 'ceil') }}|{{ -3|abs }}|{{ {'b': 1, 'a': 2}|dictsort }}|{{ {'b': 1}|items|list }}|{{ [1, 2, 1]|unique|list }}|{{ [1, 2, 3]|reverse|list }}|{{ 'abc'|reverse }}|{{ [2, 1]|min }}{{ [2, 1]|max }}|{{ '<a>'|e }}|{{ '<a>'|safe }}|{{ 'a\\n\\nb\\n'|indent(2) }}|{{ 'a\\nb'|indent(2, true, true) }}|{{ [1, 2, 3]|batch(2, 0)|list }}|{{ [1, 2, 3]|slice(2)|list }}|{{ 'a b c'|wordcount }}|{{ 'foo bar baz qux'|truncate(9) }}|{{ '%s!'|format('x') }}|{{ 'abc'|length }}|{{ 5|string }}|{{ 'abc'|list }}|{{ [{'g': 1, 'v': 2}, {'g': 1, 'v': 3}]|groupby('g') }}|{{ 'aa'|replace('a', 'b', 1) }}|{{ 'hELLO'|capitalize }}",
    "json": "{{ data|tojson }} {{ data|tojson(indent=2) }} {{ data|tojson(ensure_ascii=true) }} {{ data|tojson(separators=(',', ':'), sort_keys=true) }} {{ []|tojson(indent=4) }} {{ (1, 2)|tojson }}",
    "loops": "{% for x in [1, 2, 3] %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.cycle('a', 'b') }}{{ loop.changed(x // 2) }} {% endfor %}{% for x in [] %}n{% else %}empty{% endfor %}{% for x in range(10) if x is even %}{% if x == 2 %}{% continue %}{% endif %}{% if x > 6 %}{% break %}{% endif %}{{ x }}/{{ loop.index }}{{ loop.last }} {% endfor %}{% for k, v in {'a': 1}.items() %}{{ k }}={{ v }}{% endfor %}{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}{% for x in [[1, [2]], [3, []]] recursive %}<{{ x[0] if x is not integer else x }}{{ loop.depth }}{% if x is not integer and x[1] %}{{ loop(x[1]) }}{% endif %}>{% endfor %}{% for x in [1] %}{% break %}{% else %}else{% endfor %}",
    "scopes": "{% set x = 1 %}{% for i in [1, 2] %}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}{% set ns = namespace(n=0) %}{% for i in range(4) %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}{% if true %}{% set x = 9 %}{% endif %}{{ x }}{% with a = 1, b = x %}{{ a }}{{ b }}{% set x = 5 %}{% endwith %}{{ x }}{% set t %}in {{ x }}{% endset %}[{{ t }}]{% set u | upper %}abc{% endset %}{{ u }}{% filter upper %}q{{ x }}{% endfilter %}{% set a, b = 1, 2 %}{{ b }}{% generation %}g{% set x = 0 %}{% endgeneration %}{{ x }}",
    "macros": "{% macro m(a, b=2, c=a) %}{{ a }}{{ b }}{{ c }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1) }} {{ m(1, 3, 4, 5, z=6) }}{% macro w(t) %}<{{ t }}>{{ caller('x') }}</{{ t }}>{% endmacro %}{% call(v) w('b') %}body{{ v }}{% endcall %}{% macro fact(n) %}{{ 1 if n < 2 else n * fact(n - 1)|int }}{% endmacro %}{{ fact(6) }}{{ m.name }}{{ m.arguments }}{% set y = 1 %}{% macro late() %}{{ y }}{% endmacro %}{% set y = 2 %}{{ late() }}{{ m() }}",
    "generators": "{% set g = [1, 2]|map('string') %}{{ g|join }}{{ g|join }}{% if []|select %}truthy{% endif %}{{ ([1, 2]|select)[0] }}{{ [1, 2]|map('string')|first }}",
    "dates": "{{ strftime_now('%d %b %Y %H:%M:%S %j %A') }}",
    "conditions": "{{ 'a' if 0 else 'b' if 0 else 'c' }}{{ 'x' if false }}{% if 0 %}a{% elif [] %}b{% elif 'q' %}c{% else %}d{% endif %}{{ (1 if true else 2) + 1 }}",
    "markup": "{{ '<' + ('>'|safe) }}{{ ('&'|safe) + '<' }}{{ ('&'|safe) ~ '<' }}{{ [('x'|safe)] }}",
    "joiner": "{% set j = joiner('|') %}{{ j() }}a{{ j() }}b{% set c = cycler(1, 2) %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}",
    "dict calls": "{{ dict(a=1, **{'b': 2}) }}{{ {'a': 1}.get('a') }}{{ {}.get('z') }}{{ {}.get('z', 3) }}{{ {'items': 1}.items }}" .replace("{{ {'items': 1}.items }}", "{{ {'items': 1}['items'] }}"),
    "error undefined attribute": "{{ nothing.x }}", "error undefined call": "{{ nothing() }}",
    "error add": "{{ 'a' + 1 }}", "error add undefined": "{{ 'a' + nothing }}", "error none": "{{ 'a' + none }}",
    "error filter": "{{ 1|nosuch }}", "unknown filter unreached": "{% if false %}{{ 1|nosuch }}{% endif %}ok",
    "error filter reached": "{% if true %}{{ 1|nosuch }}{% endif %}", "error raise": "{{ raise_exception('no') }}",
    "error append": "{{ [].append(1) }}", "error pop": "{{ {'a': 1}.pop('a') }}", "append printed": "[{{ [].append }}]",
    "error mro": "{{ ''.__class__.__mro__ }}", "class printed": "[{{ ''.__class__ }}]", "error class": "{{ ''.__class__() }}",
    "error syntax": "{% if %}", "error end": "{% for x in [] %}", "error tag": "{% nosuch %}", "error break": "{% break %}",
    "error order": "{{ 1 < 'a' }}", "error division": "{{ 1 / 0 }}", "error json": "{{ nothing|tojson }}",
    "error namespace": "{% set ns = namespace() %}{% set ns._x = 1 %}", "error set": "{% set x.y = 1 %}",
    "error unpack": "{% for a, b in [(1, 2, 3)] %}{% endfor %}", "error iterate": "{% for a in 1 %}{% endfor %}",
    "error string": "{{ 'abc }}", "error comment": "{# abc", "error slice": "{% set q = none %}{{ q[1:] }}", "error len": "{{ 1|length }}",
}


def smollm2(path):
    from gguf import GGUFReader
    field = GGUFReader(path).fields["tokenizer.chat_template"]
    return bytes(field.parts[field.data[0]]).decode()


def main():
    templates = {"smollm2": smollm2(sys.argv[1])}
    for path in sorted(pathlib.Path(sys.argv[2]).glob("*.jinja")):
        templates[path.stem] = path.read_text()
    tokens = {"bos_token": "<｜begin▁of▁sentence｜>", "eos_token": "<｜end▁of▁sentence｜>"}
    options = [{"add_generation_prompt": True}, {"add_generation_prompt": False},
               {"add_generation_prompt": True, "thinking": True, "enable_thinking": True},
               {"add_generation_prompt": True, "enable_thinking": False, "tools": TOOLS}]
    cases = []
    for name, source in templates.items():
        for conversation in CONVERSATIONS:
            for option, extra in enumerate(options):
                inputs = {"messages": CONVERSATIONS[conversation], **tokens, **extra}
                cases.append({"template": name, "conversation": conversation, "option": option,
                              **render(source, inputs)})
    data = {"data": {"b": [1, 2.5, None, True, "é\"\\\n\u007f\u0001<>&'"], "a": {}, "😀": []}}
    features = [{"name": n, "source": s, **render(s, data)} for n, s in FEATURES.items()]
    json.dump({"templates": templates, "conversations": CONVERSATIONS, "tokens": tokens,
               "options": options, "cases": cases, "data": data, "features": features},
              sys.stdout, ensure_ascii=False, separators=(",", ":"))


if __name__ == "__main__":
    main()
