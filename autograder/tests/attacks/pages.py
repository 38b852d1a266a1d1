"""What a browser would run, or open by itself, in a page."""

import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

from nbconvert.exporters import HTMLExporter
from nbgrader.server_extensions.formgrader.handlers import template_path

_EVENT = re.compile(r"^on|^srcdoc$|^formaction$", re.IGNORECASE)
_OPENS = ("script", "iframe", "object", "embed", "base", "form", "meta", "link")


class Active(HTMLParser):
    """Collects what a browser would run or open by itself in a page."""

    def __init__(self):
        super().__init__()
        self.found: set[str] = set()
        self._script = False

    @classmethod
    def of(cls, page: str) -> set[str]:
        parser = cls()
        parser.feed(page)
        return parser.found

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._script = tag == "script"
        if tag in _OPENS:
            self.found.add(f"<{tag} {attrs}>")
        for name, value in attrs:
            if _EVENT.match(name) or "javascript:" in (value or "").lower():
                self.found.add(f"<{tag} {name}={value}>")

    def handle_data(self, data: str) -> None:
        if self._script:
            self.found.add(hashlib.sha256(data.encode()).hexdigest())
        self._script = False


def formgrader_page(autograded: Path, student: str) -> str:
    """The page of an autograded notebook in the formgrader."""
    exporter = HTMLExporter(template_name="formgrade", extra_template_basedirs=[template_path])
    names = {"assignment_id": autograded.stem, "notebook_id": autograded.stem, "student": student}
    names |= {"submission_id": "1", "index": 0, "total": 1, "base_url": "", "notebook_path": ""}
    names |= {"last_name": None, "first_name": None}
    return exporter.from_filename(str(autograded), resources=names)[0]
