"""The text that a model reads. Part of the scoring code: a change here makes stored runs stale."""

from collections.abc import Callable
from string import Formatter
from typing import Annotated, Any

from pydantic import Field, field_validator

from harness.suite.fields import Closed

TEMPLATE_PATTERN = r"\{content\}"

_NODES = (
    "Template", "Output", "TemplateData", "Name", "Const", "If", "CondExpr", "Compare", "Operand", "Not", "And", "Or",
    "Filter", "Concat",
)  # fmt: skip
_FILTERS = ("capitalize", "lower", "replace", "title", "trim", "upper")
_FIELDS = ("title", "content")


class Rendered(str):
    """The text that most models read for one example, and the parts of it for those that are asked in words."""

    fields: tuple[str, str]
    """Title and content."""


def compiled(template: str) -> Callable[[str, str], str]:
    """A prompt's Jinja template as a function of title and content.

    Only text, the two fields, conditions and a few filters are allowed: no loops, no calls, no attributes.

    Raises:
        ValueError: the template is no Jinja, uses anything else, or lacks the content.
    """
    from jinja2 import StrictUndefined, TemplateSyntaxError, nodes
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
    try:
        tree = environment.parse(template)
    except (TemplateSyntaxError, RecursionError) as problem:
        raise ValueError(f"is no Jinja template: {problem}") from None
    found: list[Any] = [tree, *tree.find_all(nodes.Node)]
    names = {node.name for node in found if isinstance(node, nodes.Name)}
    for node in found:
        kind = type(node).__name__
        if kind not in _NODES or (isinstance(node, nodes.Filter) and node.name not in _FILTERS):
            used = f"the filter {node.name!r}" if isinstance(node, nodes.Filter) else f"{kind.lower()!r}"
            raise ValueError(
                f"uses {used} in line {node.lineno}; allowed are title, content, conditions and the filters "
                f"{', '.join(_FILTERS)}"
            )
    if unknown := sorted(names - set(_FIELDS)):
        raise ValueError(f"has the field {unknown[0]!r}; only title and content are known")
    if "content" not in names:
        raise ValueError("must contain {{ content }}, which stands for the review")
    made = environment.from_string(template)
    return lambda title, content: made.render(title=title, content=content)


class Text(Closed):
    """The text that a model reads, and its limits."""

    template: Annotated[str, Field(pattern=TEMPLATE_PATTERN)]
    """Template with `{content}` and optionally `{title}`."""
    max_length: Annotated[int, Field(ge=8, le=8192)]
    """Limit in tokens, including special ones; longer texts are truncated, and counted."""
    store: bool = False
    """If true, the store and the site may hold the texts; otherwise only their digests."""

    @field_validator("template")
    @classmethod
    def _uses_known_fields(cls, template: str) -> str:
        try:
            parts = list(Formatter().parse(template))
        except ValueError:
            raise ValueError("has a single brace; write {{ or }} for a brace in the text") from None
        fields = [(name, conversion, form) for _, name, form, conversion in parts if name is not None]
        for name, conversion, form in fields:
            if name not in ("title", "content") or conversion or form:
                field = name + (f"!{conversion}" if conversion else "") + (f":{form}" if form else "")
                raise ValueError(f"has the field {{{field}}}; only {{title}} and {{content}} are allowed")
        if ("content", None, "") not in fields:
            raise ValueError("must contain {content}, which stands for the review")
        return template

    def render(self, title: str, content: str) -> Rendered:
        """The text that the model reads for one example."""
        text = Rendered(self.template.format(title=title, content=content).strip())
        text.fields = title, content
        return text
