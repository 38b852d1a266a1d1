"""The page that a student gets: nbgrader's, with the exercises named and the figures inside.

The page is one file, so that it can be sent as it is; only formulas need a network (MathJax).
"""

from pathlib import Path

import nbgrader
from nbconvert.exporters import HTMLExporter
from nbformat import NotebookNode
from traitlets.config import Config

from autograder.lesson import LESSONS

TEMPLATES = Path(__file__).with_name("templates")
NBGRADERS = Path(nbgrader.__file__).parent / "server_extensions" / "formgrader" / "templates"


class FeedbackPage(HTMLExporter):
    """Writes a graded notebook as a page; see `templates/exercise_feedback`."""

    @property
    def default_config(self) -> Config:
        own = {
            "template_name": "exercise_feedback",
            "extra_template_basedirs": [str(TEMPLATES), str(NBGRADERS)],
            "embed_images": True,
        }
        config = Config({"FeedbackPage": own})
        config.merge(super().default_config)
        return config

    def from_notebook_node(self, nb: NotebookNode, resources: dict | None = None, **kwargs):
        resources = dict(resources or {})
        name = resources.get("nbgrader", {}).get("notebook")
        titles = {each.slug: f"Lesson {each.number} · {each.title}" for each in LESSONS}
        resources["lesson"] = titles.get(name, "")
        return super().from_notebook_node(nb, resources, **kwargs)
