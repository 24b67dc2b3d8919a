"""How far a job is: its journal read, compared with what is asked, and checked against what lies on the disk."""

from __future__ import annotations

from foretell.bulk.identity import identity_of, what_changed
from foretell.bulk.journal import Journal, State
from foretell.bulk.parts import Parts
from foretell.bulk.plan import Plan
from foretell.errors import ConfigError

__all__ = ["resumed"]


def resumed(plan: Plan, journal: Journal, *, overwrite: bool) -> State:
    """Return how far a job like this one is, its parts checked; begin it if there is none.

    Args:
        plan: Of a job whose lock is held.
        journal: Its journal.
        overwrite: Begin it anew, whatever is there.

    Raises:
        ConfigError: The job that is there is another one.
    """
    state = State() if overwrite else journal.read()
    if state.facts is None:
        return _begun(plan, journal)
    if reason := what_changed(state.facts, plan.facts):
        if state.outputs and not plan.targets.is_folder:
            return _begun(plan, journal)  # it had written its one file, and was killed before it cleared up
        raise ConfigError(
            f'output "{plan.out}": a job was begun there, and {reason}; '
            "write to another place, or start it anew with --overwrite"
        )
    if state.facts != plan.facts:
        journal.begin(plan.facts, identity_of(plan.facts))
    owner = {file: at for at, target in enumerate(plan.targets.each) for file in target.files}
    for at, output in list(state.outputs.items()):
        if not plan.storage.exists(output.path) or plan.storage.size_bytes(output.path) != output.file_bytes:
            journal.lost(at)
            del state.outputs[at]
    parts = Parts(plan.storage, plan.parts_folder)
    for line in list(state.chunks.values()):
        is_kept = plan.quarantine is None or state.quarantine is not None or plan.quarantine.is_kept(line)
        if not is_kept or (owner[line.file] not in state.outputs and not parts.is_whole(line)):
            journal.void(line.chunk)
            del state.chunks[line.chunk]
    _check_quarantine(plan, state)
    return state


def _begun(plan: Plan, journal: Journal) -> State:
    """Begin a job where there is none, or one that nobody wants. The lock stays."""
    for left in (plan.journal_path, plan.parts_folder, plan.quarantine_folder):
        plan.storage.remove(left)
    journal.begin(plan.facts, identity_of(plan.facts))
    return State(plan.facts)


def _check_quarantine(plan: Plan, state: State) -> None:
    """Refuse to call a job complete whose bad rows are gone.

    Raises:
        ConfigError: They are.
    """
    if plan.quarantine is not None and state.quarantine is not None and not plan.quarantine.is_there(state.quarantine):
        raise ConfigError(
            f'quarantine "{plan.quarantine.path}": it was written by this job and is not there any more as it was; '
            "put it back, or start the job anew with --overwrite"
        )
