"""What a reader clicks on is there, and what is drawn for readers is shown to them."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from autograder.lesson import REPOSITORY

LINK = re.compile(r"\]\(([^)\s]+)\)|<img src=\"([^\"]+)\"")
IN_EVERY_BUNDLE = {"NOTATION.md", "README.md", "LICENSE"}  # beside a class's lesson


def committed(*patterns: str) -> list[Path]:
    command = ["git", "ls-files", "--", *patterns]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return [REPOSITORY / name for name in done.stdout.splitlines()]


def words_of(page: Path) -> str:
    text = page.read_text(encoding="utf-8")
    if page.suffix != ".ipynb":
        return text
    cells = json.loads(text)["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def links(page: Path) -> list[Path]:
    """The files that a page points to, as they would be opened."""
    found = (one or other for one, other in LINK.findall(words_of(page)))
    inside = (link.partition("#")[0] for link in found if not re.match(r"\w+:", link))
    return [(page.parent / link).resolve() for link in inside if link]


if not (REPOSITORY / ".git").exists():
    pytest.skip("needs git's list of files", allow_module_level=True)
PAGES = committed("*.md", "*.ipynb")
LONGEST = {"text_to_image": 4800}  # words; it trains, judges and scales a whole system


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_every_link_leads_somewhere(page):
    gone = [str(target) for target in links(page) if not target.exists()]
    assert not gone
    lessons = REPOSITORY / "lessons"
    if page.is_relative_to(lessons):  # a class gets the lesson's folder alone, and a few pages
        outside = {target for target in links(page) if not target.is_relative_to(page.parent)}
        assert {str(target.relative_to(REPOSITORY)) for target in outside} <= IN_EVERY_BUNDLE


def test_every_figure_is_shown():
    shown = {target for page in PAGES for target in links(page)}
    figures = [path for path in committed("lessons/*/figures/*") if path.suffix != ".json"]
    assert len(figures) > 50
    assert not [str(figure) for figure in figures if figure not in shown]


def read_words(page: Path) -> int:
    """Words that tell the lesson: no folded hints, alt texts, formulas, tables, quiz and papers."""
    parts = re.split(r"^(?=##)", words_of(page), flags=re.M)
    text = "".join(p for p in parts if not re.match(r"#+ .*(questions|The papers)", p))
    text = re.sub(r"<details>.*?</details>|\$\$.*?\$\$|```.*?```", "", text, flags=re.S)
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)|<[^>]*>|\]\([^)]*\)", "", text)
    text = re.sub(r"\$[^$\n]*\$", "x", text)
    lines = (line for line in text.splitlines() if not line.startswith("|"))
    return sum(len(re.findall(r"[A-Za-z][\w'’-]*", line)) for line in lines)


@pytest.mark.parametrize("page", committed("lessons/[01]*/*.ipynb"), ids=lambda page: page.stem)
def test_a_lesson_is_no_longer_than_promised(page):
    assert 2000 < read_words(page) <= LONGEST.get(page.stem, 3500), (
        "say it shorter, or move a side road to more.md"
    )
