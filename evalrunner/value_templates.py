"""Templates that are one expression, and have its value: a list, a number or a mapping, not only text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from evalrunner.limits import STANDARD, Limits
from evalrunner.templates import (
    MAX_CODE,
    MAX_TAGS,
    SELF,
    TEMPLATE_MARKS,
    PromptError,
    ValueRenderer,
    compile_template,
    counted_items,
    effort,
    environment_for,
    guard_tree,
    render_problem,
    single_name,
    unknown_name,
    value_text,
)

if TYPE_CHECKING:
    import jinja2

RESULT: Final = "template_result"


def compile_value(where: str, template: str, *, limits: Limits = STANDARD) -> ValueRenderer:
    """A function from a context to a value: that of a template that is one expression, of another one its text.

    Raises PromptError with the line of the mistake in `where`.
    """
    stripped = template.strip()
    if (name := single_name(stripped)) is not None:
        return _name_renderer(name)
    small = len(template) <= MAX_CODE and sum(map(template.count, TEMPLATE_MARKS)) <= MAX_TAGS
    if small and stripped.startswith("{{") and stripped.endswith("}}"):
        effort.begin(limits)  # constant parts are evaluated while compiling
        if (compiled := _compile_expression(stripped)) is not None:
            return _ValueRenderer(compiled, limits)
    return compile_template(where, template, limits=limits)


def _name_renderer(name: str) -> ValueRenderer:
    def render(context: dict[str, Any]) -> Any:
        if name not in context:
            raise PromptError(unknown_name(name, context))
        return context[name]

    return render


def _compile_expression(text: str) -> jinja2.Template | None:
    """The template that assigns the expression; None if it is not one, or not valid, which compiling it as text reports."""
    import jinja2
    from jinja2 import nodes

    environment = environment_for(value_text)
    try:
        tree = environment.parse(text)
        outputs = tree.body[0].nodes if len(tree.body) == 1 and isinstance(tree.body[0], nodes.Output) else []
        if len(outputs) != 1 or isinstance(outputs[0], nodes.TemplateData):
            return None
        assignment = nodes.Assign(nodes.Name(RESULT, "store"), outputs[0], lineno=1)
        assigned = nodes.Template([assignment], lineno=1)
        assigned.set_environment(environment)
        return environment.from_string(guard_tree(assigned, environment))
    except (jinja2.TemplateSyntaxError, OverflowError, ValueError, TypeError, RecursionError, MemoryError):
        return None


@dataclass(frozen=True, slots=True)
class _ValueRenderer:
    """Evaluates a compiled expression."""

    template: jinja2.Template
    limits: Limits

    def __call__(self, context: dict[str, Any]) -> Any:
        import jinja2

        if "self" in context:
            context = {**context, SELF: context["self"]}
        effort.begin(self.limits)
        try:
            value = getattr(self.template.make_module(context), RESULT)
            if isinstance(value, jinja2.Undefined):
                bool(value)  # raises the error that names it
            if isinstance(value, Iterator):
                return list(counted_items(value))
            if isinstance(value, tuple | set | frozenset):
                return list(value) if isinstance(value, tuple) else sorted(value, key=str)
            if callable(value):
                value_text(value)  # raises the error that names it
            return value
        except Exception as crash:  # a template may raise anything
            raise PromptError(render_problem(crash, context)) from crash
