"""The text that a model reads. Part of the scoring code: a change here makes stored runs stale."""

from string import Formatter
from typing import Annotated

from pydantic import Field, field_validator

from harness.suite.fields import Closed

TEMPLATE_PATTERN = r"\{content\}"


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

    def render(self, title: str, content: str) -> str:
        """The text that the model reads for one example."""
        return self.template.format(title=title, content=content).strip()
