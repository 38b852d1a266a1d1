"""nbgrader's ClearSolutions, with a stub that names the exercise.

nbgrader's own option `code_stub` is one text for all cells. Here each solution cell gets
`raise NotImplementedError("cosine_betas is not written yet")`.
"""

from nbgrader.converters import GenerateAssignment
from nbgrader.preprocessors import ClearSolutions
from nbgrader.utils import is_solution

from autograder import splice


class ClearSolutionsByName(ClearSolutions):
    """Clears solutions as nbgrader does; the stub names the exercise.

    A solution region at the left margin is not a body but a helper of the reference, and goes
    without a trace.
    """

    def preprocess_cell(self, cell, resources, cell_index):
        if cell.cell_type == "code" and is_solution(cell):
            name = cell.metadata["nbgrader"]["grade_id"].replace("-", ".")
            self.code_stub = {"python": splice.not_written(name)}
            cell.source = without_helpers(cell.source)
        return super().preprocess_cell(cell, resources, cell_index)


def without_helpers(source: str) -> str:
    """A solution cell's source without the solution regions at its left margin."""
    kept, inside = [], False
    for line in source.split("\n"):
        if line == splice.BEGIN:
            inside = True
        elif line == splice.END:
            inside = False
        elif not inside:
            kept.append(line)
    return "\n".join(kept)


def release_preprocessors() -> list[type]:
    """nbgrader's own list for the release step, ClearSolutions exchanged for the one here."""
    own = GenerateAssignment.preprocessors.default_args[0]
    return [ClearSolutionsByName if each is ClearSolutions else each for each in own]
