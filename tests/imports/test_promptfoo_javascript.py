"""JavaScript of assertions has the same verdict as an expression; Node says what the code itself gives."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from evalrunner.domain import Completion, Sample, Score
from evalrunner.imports.promptfoo.javascript import Scope, translate
from evalrunner.imports.promptfoo.javascript_syntax import Unreadable
from evalrunner.scorers.expression import expr

CODES = [
    "output.includes('08:15')",
    "!output.includes('sorry') && output.length < 60",
    "output.toLowerCase().includes('refund') || output.includes('Paris')",
    "output.length > 10 && output.length <= 200",
    "output.trim().length > 0",
    "output.trim() !== ''",
    "output === 'Paris'",
    "output.trim().toLowerCase() == 'paris'",
    r"/\d{2}:\d{2}/.test(output)",
    r"!/^\s*$/.test(output)",
    r"/paris$/i.test(output)",
    r"/^[A-Z]/.test(output.trim())",
    r"(output.match(/\w+/g) || []).length >= 3",
    r"output.match(/\d+/) !== null",
    r"!!output.match(/refund/i)",
    r"output.match(/\d+/g).length > 1",
    r"output.split(' ').length < 6",
    r"output.split(/\s+/).length <= 3",
    r"output.trim().split(/\s+/).length <= 3",
    r"output.split(/\s+/).filter(Boolean).length === 2",
    r"output.split('\n').length >= 2",
    "output.startsWith('Y') ? 1 : 0",
    "output.endsWith('.') ? 0.8 : 0.2",
    "['refund', 'Paris'].some(w => output.includes(w))",
    "['a', 'e', 'i'].every((w) => output.toLowerCase().includes(w))",
    "['a', 'e', 'i'].filter((w) => output.includes(w)).length / 3",
    "['a', 'e', 'i'].filter(w => output.includes(w)).length >= 2",
    "output.indexOf('a') !== -1",
    "output.indexOf('a') === -1",
    "output.indexOf('Paris') >= 0",
    "JSON.parse(output).ok === true",
    "JSON.parse(output).ok",
    "!JSON.parse(output).ok",
    "JSON.parse(output).name === 'tray' || JSON.parse(output).n === 1",
    "JSON.parse(output).name !== 'tray'",
    "JSON.parse(output).items.length === 2",
    "JSON.parse(output).items.some(i => i.name === 'tray')",
    "JSON.parse(output).items.every(i => i.qty > 0)",
    "JSON.parse(output).n > 0",
    "JSON.parse(output).missing === undefined",
    "typeof JSON.parse(output).n === 'number'",
    "Array.isArray(JSON.parse(output).items)",
    "'name' in JSON.parse(output)",
    "Object.keys(JSON.parse(output)).length === 2",
    "Object.keys(JSON.parse(output)).sort().join(',') === 'items,name'",
    "const d = JSON.parse(output); d.name === 'tray' && d.n === 1",
    "const d = JSON.parse(output);\nif (!d.name) { return false; }\nreturn d.name.length > 2;",
    "const words = output.trim().split(/\\s+/);\nreturn words.length > 2 ? 1 : 0.5;",
    "const n = output.length;\nif (n > 20) {\n  return { pass: false, score: 0, reason: 'long ' + n };\n}\nreturn { pass: true, score: 1 };",
    "parseInt(output) > 5",
    "parseFloat(output) <= 2.5",
    "!isNaN(parseFloat(output))",
    "Math.abs(output.length - 10) < 5",
    "Math.min(1, output.length / 20)",
    "`${output}!`.length > 5",
    "output.includes(context.vars.city)",
    "output.includes(`in ${context.vars.city}`)",
    "output.includes('{{city}}.')",
    "context.vars.city === 'Paris' ? output.includes('Paris') : false",
    "output.trim()",
    "undefined",
    "return output.length > 1",
    "output.length > 1\n&& true",
    "(() => { const t = output.trim(); return t.length > 4; })()",
    "const bad = ['sorry', 'cannot'];\nreturn !bad.some(b => output.toLowerCase().includes(b));",
]  # fmt: skip
OUTPUTS = [
    "", " ", "Paris", " paris ", "Paris.", "It is in Paris.", "Line 14 leaves at 08:15", "I am sorry, I cannot.", "Yes", "No refund",
    "REFUND 12 34", "12", "2.5 euros", "-3", "abc 12", "a\nb\n", "one  two", "é ä", "null", "[]", "{}", "3", '"text"', '{"ok": true}',
    '{"ok": false}', '{"ok": 1}', '{"ok": ""}', '{"ok": []}', '{"name": "tray", "n": 1}', '{"name": "tray", "n": true}',
    '{"name": "", "n": 0}', '{"n": -1}', '{"name": "x", "items": []}', '{"items": [{"name": "tray", "qty": 1}, {"name": "b", "qty": 2}]}',
    '{"items": [{"name": "a", "qty": 0}]}', '{"name": null, "items": [1, 2]}', '```json\n{"ok": true}\n```', "NaN", "Paris\n",
]  # fmt: skip
KEYS_OF_NULL = {
    ("!JSON.parse(output).ok", "null"), ("JSON.parse(output).name !== 'tray'", "null"),
    ("JSON.parse(output).missing === undefined", "null"),
}  # fmt: skip
"""Where JavaScript throws and an expression finds nothing; the translation says so."""
SCOPE = Scope({"city": "city"}, {"city": "text"})
JUDGE = """
const cases = JSON.parse(require('fs').readFileSync(0, 'utf8'));
const context = {vars: {city: 'Paris'}};
const verdict = (code, output) => {
  code = code.replace(/\\{\\{city\\}\\}/g, 'Paris');
  let last = code.lastIndexOf(';');
  let body = code.includes('\\n') ? code
    : code.startsWith('const ') ? code.slice(0, last + 1) + ' return ' + code.slice(last + 1) : 'return ' + code;
  try {
    const r = new Function('output', 'context', body)(output, context);
    if (typeof r === 'boolean') return r;
    if (typeof r === 'number') return r > 0;
    return r !== null && typeof r === 'object' && r.pass === true;
  } catch (e) { return false; }
};
console.log(JSON.stringify(cases.map(([code, output]) => verdict(code, output))));
"""


def verdict(code: str, output: str) -> bool:
    scorer = expr(value=translate(code, SCOPE).expression)
    result = scorer.function(output, Sample("1", "", metadata={"city": "Paris"}), Completion(output))
    value = result.value if isinstance(result, Score) else result
    return isinstance(value, bool | int | float) and value > 0


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_expressions_have_the_verdicts_of_the_javascript_they_come_from():
    cases = [(code, output) for code in CODES for output in OUTPUTS if (code, output) not in KEYS_OF_NULL]
    ran = subprocess.run(["node", "-e", JUDGE], input=json.dumps(cases), capture_output=True, text=True, check=True)
    assert [(*case, verdict(*case)) for case in cases] == [
        (*case, wanted) for case, wanted in zip(cases, json.loads(ran.stdout), strict=True)
    ]


@pytest.mark.parametrize(
    "code",
    [
        "await check(output)", "require('fs')", "output.replace(/a/g, '')", "process.env.X", "context.prompt.includes('x')",
        "output.match(/a/g).length < 3", "for (const x of output) {}", "output.length < {{city}}", "x = 1", "output[", "'",
        "JSON.parse(output).a == '5'", "/(?<=a+)b/.test(output)", "output.split('').reverse().join('') === output", "(" * 300,
        "function f() { return true }", "new Date()", "`${`a`}`", "/\\p{L}/u.test(output)",
    ],
)  # fmt: skip
def test_code_without_an_equal_is_refused_with_a_reason(code: str):
    with pytest.raises(Unreadable, match="."):
        translate(code, SCOPE)


def test_code_that_never_gives_a_verdict_fails_as_it_is_and_negated():
    assert [translate(code, SCOPE).always_fails for code in ("output.trim()", "undefined", "return true", "true")] == [
        True, True, True, False,
    ]  # fmt: skip


def test_a_key_of_null_is_noted_where_it_matters():
    assert all("a key of null counts as missing" in translate(code, SCOPE).notes for code, _ in KEYS_OF_NULL)
