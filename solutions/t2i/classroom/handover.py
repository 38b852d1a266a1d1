"""What a student's copy of the package lacks, it takes from the notebook.

A class gets the package without the solutions of the lesson at hand (`python -m autograder.course
bundle`). There these definitions stand with their bodies taken out, and a file `bundle.json` in
the package lists them. After each cell the notebook's own definitions go into their places, so
what comes later in the lesson runs on what the student wrote. Where there is no such file, as in
the repository itself, nothing happens.
"""

import importlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[1] / "bundle.json"


def read(file: Path | None = None) -> dict[str, Any]:
    """What a bundle says about itself; empty where this is none.

    Args:
        file: by default the package's own.

    Returns:
        "lesson": its number; "title"; "unwritten": module -> names of definitions.
    """
    file = file or FILE
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


class Handover:
    """Puts a notebook's definitions in the places of the unwritten ones, in every loaded module.

    Args:
        unwritten: module of the package -> names whose bodies are taken out there.
        namespace: the notebook's names.
    """

    def __init__(self, unwritten: Mapping[str, list[str]], namespace: dict[str, Any]):
        self.unwritten, self.namespace = unwritten, namespace
        self.placed: dict[str, list[Any]] = {}  # name -> the package's stub, and what replaced it

    def __call__(self, *_: Any) -> None:
        """Look what the notebook has by now; IPython calls this after each cell."""
        for module, names in self.unwritten.items():
            for name in names:
                own = self.namespace.get(name)
                if getattr(own, "__module__", None) == "__main__":
                    self._place(f"t2i.{module}", name, own)

    def _place(self, home: str, name: str, own: Any) -> None:
        stub = getattr(importlib.import_module(home), name)
        old = self.placed.setdefault(name, [stub])
        for loaded, module in list(sys.modules.items()):
            if loaded.startswith("t2i.") and any(vars(module).get(name) is each for each in old):
                setattr(module, name, own)
        if not any(own is each for each in old):
            old.append(own)


def begin(shell: Any) -> None:
    """Hand over after each cell of a notebook from now on, in a student's copy of the package.

    Args:
        shell: IPython's, with `events` and `user_ns`.
    """
    unwritten = read().get("unwritten", {})
    if not unwritten:
        return
    for callback in list(shell.events.callbacks["post_run_cell"]):
        if isinstance(callback, Handover):
            shell.events.unregister("post_run_cell", callback)
    shell.events.register("post_run_cell", Handover(unwritten, shell.user_ns))
