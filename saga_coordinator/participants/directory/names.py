"""What is said of a name that the directory does not know, or that does not stand for what was expected."""

from __future__ import annotations

from saga_coordinator.participants.directory.addresses import Directory
from saga_coordinator.saga.words.errors import NotFound, NotPossibleNow
from saga_coordinator.saga.words.nearest import did_you_mean
from saga_coordinator.saga.words.outcome import clip
from saga_coordinator.saga.words.reasons import Reason


def not_known(directory: Directory, name: str) -> str:
    """The error that the directory has no such participant, with the name that may have been meant."""
    return f"the directory has no participant `{name}`{did_you_mean(name, sorted(directory.names))}"


def how_to_add(directory: Directory, name: str) -> str:
    """The error that nobody knows the participant's address, with what to do about it."""
    path = directory.path
    how = (
        f"add it to the participants file {path}, which is read again when it changes"
        if path
        else "start the coordinator with --participants FILE"
    )
    return clip(f"nobody knows where `{name}` lives: {how}, or call DirectoryService.PutParticipant")


def check_known(directory: Directory, name: str) -> None:
    """Raises NotFound if the directory has no such participant."""
    if directory.get(name) is None:
        raise NotFound(Reason.NO_SUCH_PARTICIPANT, how_to_add(directory, name), participant=name)


def check_worker(directory: Directory, name: str) -> None:
    """Checks that participant `name` dials the coordinator, so that its tasks are handed out.

    Raises:
        NotFound: no such participant.
        NotPossibleNow: the coordinator calls the participant at its address.
    """
    check_known(directory, name)
    participant = directory.participants[name]
    if not participant.is_worker:
        raise NotPossibleNow(
            Reason.NOT_A_WORKER,
            f"`{name}` has the target {participant.target} in the directory, so it is no worker; if it is to be one, write "
            "`worker: true` instead of the target in the participants file, or put it as a worker",
            participant=name,
        )
