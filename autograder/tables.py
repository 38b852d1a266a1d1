"""Tables of measured figures, written into the notebooks as text when they are built.

    #| table: show_vae.study_table kl_weight
    #| fold: The table, when the course was made

becomes what `t2i.drawing.show_vae.study_table("kl_weight")` says, so that it can be read without a
kernel, and cannot fall behind the figures: a build whose figures have changed is another build.
`fold` is optional, and folds the table under that line.
"""

import importlib

from IPython.display import Markdown

from autograder.lesson import Directive


class TableError(ValueError):
    """There is no such table; the message says what is missing."""


def table(directive: Directive) -> str:
    """The markdown of a table directive.

    Raises:
        TableError: no such function in the package, one that needs something else, or one that
            returns no table.
    """
    target, *arguments = directive.argument.split()
    module, _, name = target.partition(".")
    try:
        made = getattr(importlib.import_module(f"t2i.drawing.{module}"), name)(*arguments)
    except (ImportError, AttributeError, TypeError) as error:
        raise TableError(f"{directive.argument} gives no table: {error}") from None
    if not isinstance(made, Markdown):
        raise TableError(f"{target} gives a {type(made).__name__}, not a table")
    title = dict(directive.options).get("fold")
    if title is None:
        return made.data.strip("\n")
    return f"<details><summary>{title}</summary>\n\n{made.data.strip()}\n\n</details>"
