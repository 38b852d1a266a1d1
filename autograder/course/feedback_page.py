"""The page that a student gets: nbgrader's, with the exercises named and the figures inside.

The page is one file, so that it can be sent as it is; only formulas need a network (MathJax).
"""

import base64
import copy
import html
import mimetypes
import re
from pathlib import Path

import nbgrader
from nbconvert.exporters import HTMLExporter
from nbformat import NotebookNode
from traitlets.config import Config

from autograder.lesson import LESSONS, Lesson

TEMPLATES = Path(__file__).with_name("templates")
NBGRADERS = Path(nbgrader.__file__).parent / "server_extensions" / "formgrader" / "templates"
_FIGURE = re.compile(r"\]\((figures/[\w.-]+)\)")


class FeedbackPage(HTMLExporter):
    """Writes a graded notebook as a page; see `templates/exercise_feedback`."""

    @property
    def default_config(self) -> Config:
        own = {
            "template_name": "exercise_feedback",
            "template_file": "page.html.j2",
            "extra_template_basedirs": [str(TEMPLATES), str(NBGRADERS)],
        }
        config = Config({"FeedbackPage": own})
        config.merge(super().default_config)
        return config

    def from_notebook_node(self, nb: NotebookNode, resources: dict | None = None, **kwargs):
        resources = dict(resources or {})
        name = resources.get("nbgrader", {}).get("notebook")
        for lesson in LESSONS:
            if lesson.slug == name:
                resources["lesson"] = f"Lesson {lesson.number} · {lesson.title}"
                nb = with_figures(nb, lesson)
        return super().from_notebook_node(nb, resources, **kwargs)

    def _preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        nb, resources = super()._preprocess(nb, resources)  # among them nbgrader's GetGrades
        for cell in nb.cells:
            tag = cell.metadata.get("nbgrader", {})
            if tag.get("comment"):  # what a person wrote is text, and no part of the page
                tag["comment"] = html.escape(html.unescape(tag["comment"]))
        return nb, resources


def with_figures(nb: NotebookNode, lesson: Lesson) -> NotebookNode:
    """The notebook with the lesson's own figures as attachments, which become part of the page.

    (nbconvert's embed_images would do it, but it closes the folded hints before their text.)
    """
    nb = copy.deepcopy(nb)
    for cell in nb.cells:
        if cell.cell_type != "markdown":
            continue
        for name in _FIGURE.findall(cell.source):
            path = lesson.folder / name
            if path.is_file():
                kind = mimetypes.guess_type(name)[0] or "image/png"
                content = {kind: base64.b64encode(path.read_bytes()).decode()}
                cell.setdefault("attachments", NotebookNode())[path.name] = content
                cell.source = cell.source.replace(f"]({name})", f"](attachment:{path.name})")
    return nb
