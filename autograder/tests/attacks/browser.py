"""The browser: scripts in what instructors and students look at."""

from pathlib import Path

from autograder.tests.attacks import Attack, snr
from autograder.tests.attacks.notebooks import code

SCRIPT = "<script>alert('t2i')</script>"
IMAGE = "<img src=x onerror=alert('t2i')>"
BREAKS_OUT = f"]]></pre></code></div>{SCRIPT}{IMAGE}<pre>"
HTML = {
    "text/html": BREAKS_OUT,
    "image/svg+xml": f"<svg onload=alert(1)>{SCRIPT}</svg>",
    "application/javascript": "alert('t2i')",
    "text/markdown": BREAKS_OUT,
    "text/latex": r"$\href{javascript:alert(1)}{x}$",
}
WRONG = snr("return None")


def outputs(notebook: dict) -> None:
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            shown = {"output_type": "display_data", "data": HTML, "metadata": {}}
            error = {
                "output_type": "error",
                "ename": SCRIPT,
                "evalue": IMAGE,
                "traceback": [SCRIPT],
            }
            cell["outputs"] = [shown, error]


def text_cells(notebook: dict) -> None:
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = (
                BREAKS_OUT + "\n\n[x](javascript:alert(1))\n\n$\\href{javascript:alert(1)}{x}$"
            )
            cell["attachments"] = {"a.svg": {"image/svg+xml": "PHN2Zz4="}}
    notebook["cells"].append(
        {"cell_type": "raw", "metadata": {"raw_mimetype": "text/html"}, "source": BREAKS_OUT}
    )


def metadata(notebook: dict) -> None:
    notebook["metadata"] |= {
        "title": BREAKS_OUT,
        "authors": [{"name": SCRIPT}],
        "kernelspec": {"name": SCRIPT, "display_name": SCRIPT, "language": SCRIPT},
        "language_info": {"name": SCRIPT, "pygments_lexer": "html", "version": SCRIPT},
        "widgets": {"application/vnd.jupyter.widget-state+json": {"state": {SCRIPT: SCRIPT}}},
    }
    for cell in notebook["cells"]:
        cell["id"] = "x\"><script>alert('t2i')"
        cell["metadata"] |= {"tags": [SCRIPT], "name": SCRIPT, "magics_language": "html"}
        if "nbgrader" in cell["metadata"]:
            cell["metadata"]["nbgrader"]["comment"] = SCRIPT


def added_cells(notebook: dict) -> None:
    for source in (
        "%%html\n" + BREAKS_OUT,
        "%%javascript\nalert('t2i')",
        "%%svg\n<svg onload=alert(1)>",
    ):
        notebook["cells"].insert(0, code(source))


def pages_beside(folder: Path, places: dict[str, Path]) -> None:
    (folder / "index.html").write_text(SCRIPT)
    (folder / "picture.svg").write_text(f"<svg xmlns='http://www.w3.org/2000/svg'>{SCRIPT}</svg>")
    (folder / "noise_schedules.html").write_text(SCRIPT)
    (folder / "<img src=x onerror=alert(1)>.txt").write_text("a name")
    (folder / "noise_schedules_files").mkdir()
    (folder / "noise_schedules_files" / "a.html").write_text(SCRIPT)


CLASS = f"""
class X:
    pass
X.__name__ = X.__qualname__ = "{SCRIPT}"
return X()
"""
ERROR = f"""
raise type("{IMAGE}", (Exception,), {{}})("{BREAKS_OUT}")
"""
SOURCE = f'''
text = "{BREAKS_OUT}"  # {SCRIPT}
"""{SCRIPT}"""
raise ValueError("wrong")
'''
FORMULA = r"""
link = "$\\href{javascript:alert(1)}{x}$ \\(\\require{html}\\)"
raise ValueError(link + " <b>bold</b> {{7*7}} {% raw %}")
"""
LINE = f"raise ValueError(1)  # {BREAKS_OUT}"
BROKEN = {"snr": f"def snr(a):\n    return {BREAKS_OUT}\n"}


def shows(name: str, tries: str, answers: dict[str, str], **more) -> Attack:
    return Attack(name, tries, answers, **more)


ATTACKS = [
    shows("script-in-an-error", "a script in an error's type and message", snr(ERROR), quick=True),
    shows("script-in-a-class", "a script in the name of what is returned", snr(CLASS)),
    shows("script-in-the-source", "a script in strings and comments", snr(SOURCE)),
    shows("script-in-a-line", "a script in the line that an error shows", snr(LINE)),
    shows("script-in-a-broken-cell", "a script in a cell that Python cannot read", BROKEN),
    shows("script-in-formulas", "a link in a formula, a template in a message", snr(FORMULA)),
    shows("script-in-outputs", "scripts in every kind of output", WRONG, change=outputs),
    shows("script-in-text", "scripts in text cells and attachments", WRONG, change=text_cells),
    shows(
        "script-in-metadata",
        "scripts in titles, kernels, widgets, tags and ids",
        WRONG,
        change=metadata,
    ),
    shows("script-in-magics", "cells that show pages", WRONG, change=added_cells),
    shows("pages-beside", "pages and pictures beside the notebook", WRONG, beside=pages_beside),
]
