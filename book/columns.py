"""For mkdocstrings: docstrings as they are written, columns as columns, the rest as text."""

import re

import griffe


class Columns(griffe.Extension):
    """Fence what is set in columns; keep Markdown from taking * _ [ ] for its own."""

    def on_instance(self, *, obj, **kwargs):
        if obj.docstring:
            blocks = obj.docstring.value.split("\n\n")
            obj.docstring.value = "\n\n".join(map(shown, blocks))


def shown(block):
    if "   " in block or ">>>" in block:
        return f"```text\n{block}\n```"
    parts = re.split(r"(`[^`]*`)", block)
    return "".join(p if p[:1] == "`" else re.sub(r"([*_\[\]<])", r"\\\1", p) for p in parts)
