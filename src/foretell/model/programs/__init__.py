"""Programs that torch.export wrote (.pt2), read without running anything of them. Knows no framework.

`torch.export.load` unpickles the sample inputs, evaluates the expressions of sizes as Python, and looks operators up
by any path of attributes. So it is never called: the graph is read here, operator by operator, and what is not
plainly a tensor operation is refused.
"""

from __future__ import annotations

from foretell.model.programs.archive import kind_of_torch_file
from foretell.model.programs.program import Program
from foretell.model.programs.reading import read_program
from foretell.model.programs.refusals import is_old_torch_pickle, refuse_torch

__all__ = ["Program", "is_old_torch_pickle", "kind_of_torch_file", "read_program", "refuse_torch"]
