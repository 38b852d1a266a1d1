"""Where the repository's own files lie, seen from the package."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
DATA = REPOSITORY / "data"  # small trained weights, figures, and what is downloaded
LESSONS = REPOSITORY / "lessons"
