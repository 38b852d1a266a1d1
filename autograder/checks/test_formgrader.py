"""nbgrader's formgrader on a course, driven in a real browser as an instructor would."""

import contextlib
import html
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from autograder import sandbox
from autograder.checks.browser import CHROMIUM, Browser
from autograder.course import cycle, formgrader
from autograder.course.folder import CourseError, make_course
from autograder.course.samples import write_submissions
from autograder.lesson import get_lesson

LESSON = get_lesson(1)
SLUG = LESSON.slug
COMMENT = "Well begun: 2 < 3 & see √ᾱ."
SEED = 987_654_321
TEXT = "(document.body?.innerText ?? '')"
needs_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="needs Chromium (Debian: apt install chromium)"
)


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A course with three submissions, and a home of its own that Jupyter must not touch."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.delenv(name, raising=False)
    trust = not sandbox.detect().is_sandbox
    with cycle.isolated(tmp_path / "making"):
        write_submissions(LESSON, tmp_path / "downloads")
        made = make_course(tmp_path / "course", [1], trust_submissions=trust, seed=SEED)
        made.release(1)
        made.collect(1, tmp_path / "downloads")
    return made


def row(student: str) -> str:
    """JavaScript for a student's row of the list of submissions."""
    return f"[...document.querySelectorAll('tr')].find(r => r.innerText.includes('{student}'))"


def press(browser: Browser, student: str, button: str) -> str:
    """Press a button of a student's row; what the window that opens then says."""
    browser.until(f"!!{row(student)}?.querySelector('.{button} a')")
    browser.run(f"{row(student)}.querySelector('.{button} a').click()")
    shown = "document.querySelector('.modal.in .modal-body')?.innerText"
    browser.until(f"{shown}?.includes('uccess') || {shown}?.includes('rror')")
    said = browser.run(shown)
    browser.run("document.querySelector('.modal.in .close, .modal.in button').click()")
    browser.until("document.querySelector('.modal.in') === null")
    return said


@pytest.mark.thorough
@needs_browser
def test_an_instructor_grades_comments_and_makes_feedback(course, tmp_path):
    (tmp_path / "profile").mkdir()
    with (
        formgrader.serving(course) as (address, _),
        contextlib.closing(Browser(tmp_path / "profile")) as browser,
    ):
        site = address.partition("/formgrader/")[0]

        browser.tell("Page.navigate", url=address)  # the list of assignments
        browser.until(f"{TEXT}.includes('{SLUG}')")
        browser.until("document.querySelector('.num-submissions a')?.innerText.trim() === '3'")
        assert str(SEED) not in browser.run("document.documentElement.innerHTML")
        browser.run("document.querySelector('.num-submissions a').click()")

        browser.until(f"{TEXT}.includes('needs autograding') && !!{row('half')}")
        assert "Successfully autograded" in press(browser, "half", "autograde")
        browser.until(f"{row('half')}?.innerText.includes('graded')")
        scores = course.scores(1)["half"]
        assert 0 < sum(scores.values()) < 100 and list(course.scores(1)) == ["half"]

        browser.tell("Page.navigate", url=f"{site}/formgrader/gradebook/{SLUG}/{SLUG}")
        browser.until("!!document.querySelector('a[href*=\"/submissions/\"]')")
        browser.run("document.querySelector('a[href*=\"/submissions/\"]').click()")

        field = f"#{LESSON.exercises[0].grade_id}-comment"
        browser.until(f"!!document.querySelector('{field}')?.offsetParent")
        assert browser.run("document.querySelectorAll('input.score').length") == len(scores)
        browser.until(
            f"document.querySelector('#{'check-' + LESSON.exercises[0].grade_id}')?.placeholder"
        )
        drawn = "image/png" in browser.run("document.documentElement.innerHTML")
        assert drawn, "samples.py takes the catalogue's first wrong answer, which must not raise"
        browser.type(field, COMMENT)
        changed = "new Event('change', {bubbles: true})"
        browser.run(f"document.querySelector('{field}').dispatchEvent({changed})")
        browser.run(f"document.querySelector('{field}').blur()")
        browser.until("[...document.querySelectorAll('.comment-saved')].some(e => e.offsetParent)")
        with course.gradebook() as gradebook:
            comments = gradebook.find_submission_notebook(SLUG, SLUG, "half").comments
            assert COMMENT in [comment.comment for comment in comments]

        browser.tell("Page.navigate", url=f"{site}/formgrader/manage_submissions/{SLUG}")
        assert "Successfully generated" in press(browser, "half", "generate-feedback")
        errors = [each for each in browser.errors if "MathJax" not in str(each)]  # no network
        assert errors == []
        asked = {url for url in browser.asked if not url.startswith(("data:", "blob:", "about:"))}
        assert {url for url in asked if not url.startswith((site, site.replace("http", "ws")))} <= {
            url
            for url in asked
            if "mathjax" in url.lower()  # nbgrader's pages ask for formulas
        }
    page = (course.folder / "feedback" / "half" / SLUG / f"{SLUG}.html").read_text()
    assert html.escape(COMMENT, quote=False) in page
    written = {path.name for path in (tmp_path / "home").rglob("*")}  # Chromium writes there
    assert not {name for name in written if "jupyter" in name or "ipython" in name}


@pytest.mark.thorough
def test_the_command_says_where_the_page_is_and_lets_nobody_else_in(course):
    command = [sys.executable, "-m", "autograder.course", "formgrader", str(course.folder)]
    with subprocess.Popen([*command, "--no-browser"], stdout=subprocess.PIPE, text=True) as process:
        try:
            lines = [process.stdout.readline() for _ in range(5)]
            address = lines[2].strip()
            assert address.startswith("http://127.0.0.1:") and "Ctrl+C" in lines[4]
            direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            page = direct.open(address, timeout=60).read().decode()
            assert "formgrader" in page
            with pytest.raises(urllib.error.HTTPError, match="403"):
                direct.open(address.partition("formgrader/")[0] + "api/contents", timeout=60)
        finally:
            process.terminate()
    assert process.returncode == 0
    with pytest.raises(urllib.error.URLError, match="refused"):
        direct.open(address, timeout=60)


@pytest.mark.thorough
def test_a_server_that_does_not_start_says_why(course, monkeypatch):
    monkeypatch.setattr(formgrader, "_configuration", lambda *_: {"ServerApp": {"port": "none"}})
    with pytest.raises(CourseError, match="the Jupyter server did not start: .+"):
        with formgrader.serving(course):
            pass
