"""What a model reads of an example. Part of the scoring code: a change here makes stored runs stale."""

from string import Formatter
from typing import Annotated

from pydantic import Field, field_validator

from harness.suite.fields import Closed

TEMPLATE_PATTERN = r"\{content\}"


class Text(Closed):
    """What the model reads."""

    template: Annotated[str, Field(pattern=TEMPLATE_PATTERN)]
    """Text with `{title}` and `{content}`."""
    max_length: Annotated[int, Field(ge=8, le=8192)]
    """Tokens, special ones included; longer texts are cut, and counted."""
    store: bool = False
    """Whether the store and the site may hold the texts; otherwise digests alone."""

    @field_validator("template")
    @classmethod
    def _uses_known_fields(cls, template: str) -> str:
        try:
            parts = list(Formatter().parse(template))
        except ValueError:
            raise ValueError("has a brace that stands alone; write {{ or }} for a brace in the text") from None
        fields = [(name, conversion, form) for _, name, form, conversion in parts if name is not None]
        for name, conversion, form in fields:
            if name not in ("title", "content") or conversion or form:
                field = name + (f"!{conversion}" if conversion else "") + (f":{form}" if form else "")
                raise ValueError(f"has the field {{{field}}}; only {{title}} and {{content}} exist, written just so")
        if ("content", None, "") not in fields:
            raise ValueError("must hold {content}, where the review goes")
        return template

    def render(self, title: str, content: str) -> str:
        """The text of one example."""
        return self.template.format(title=title, content=content).strip()
