"""t2i: the parts of a text-to-image model, one module a lesson.

Importing the package imports nothing else, so a lesson only loads what it uses.
"""

__version__ = "0.1.0"
