"""What the state machine and the kills have found, each shrunk to its steps."""

from __future__ import annotations

import pytest

from tests.model import steps
from tests.model.order import watched_order
from tests.model.steps import Bytes, Dispatch, Place, Step
from tests.model.world import world

NEW = 576  # O_CREAT | O_TRUNC
A, B = Place(0, 0), Place(0, 1)
SMALL, LARGE = Bytes(1, 90), Bytes(3, 700)

FOUND: dict[str, list[Step]] = {
    "attribute changed while a session waited for the next mount": [
        steps.Write(A, NEW, 0, LARGE),
        Dispatch(5.0, crash_at=6),
        steps.SetXattr(A, 2, b"text"),
    ],
    "name changed while a session waited for the next mount": [
        steps.Write(A, NEW, 0, LARGE),
        Dispatch(5.0, crash_at=6),
        steps.Rename(A, B),
    ],
    "unlinked between the effect of its create and the reply": [
        steps.Write(A, NEW, 0, SMALL),
        Dispatch(5.0, step_at=4, step=steps.Unlink(A)),
    ],
    "folder removed while its create was on its way": [
        steps.MakeFolder(B),
        Dispatch(700.0, step_at=3, step=steps.RemoveFolder(B)),
    ],
    "content changed in place while a session waited for the next mount": [
        steps.Write(B, NEW, 0, LARGE),
        Dispatch(5.0, crash_at=6),
        steps.Write(B, 1024, 0, SMALL),  # O_APPEND
    ],
    "renamed over a link after it was taken, before its upload": [
        steps.Write(B, NEW, 0, LARGE),
        steps.MakeSymlink(A, "x" * 130),
        Dispatch(70.0, step_at=1, step=steps.Rename(B, A)),
        Dispatch(0.3),
    ],
    "renamed to the old name again after a crash before the reply to its rename": [
        steps.MakeSymlink(A, "a"),
        Dispatch(0.3),
        steps.Rename(A, B),
        Dispatch(0.3, crash_at=2),
        steps.Rename(B, A),
    ],
    "renamed twice, each time with a crash before the reply, and back to its first name": [
        steps.MakeFolder(A),
        Dispatch(5.0),
        Dispatch(5.0),
        steps.Rename(A, B),
        Dispatch(5.0, crash_at=1),
        steps.Rename(B, Place(0, 2)),
        Dispatch(5.0, crash_at=4),
        steps.Rename(Place(0, 2), A),
    ],
    "open for writing, its attributes sent after a crash between the end of its session and the reply": [
        steps.Write(A, NEW, 0, LARGE),
        Dispatch(700.0),
        steps.Write(A, NEW, 0, Bytes(5, 500)),
        Dispatch(0.3, crash_at=6),
        steps.Open(A, 578),  # O_RDWR | O_CREAT | O_TRUNC
        Dispatch(0.3),
    ],
    "open and not here, replaced by a temporary file": [
        steps.Write(A, NEW, 0, SMALL),
        Dispatch(0.3),
        steps.Evict(),
        steps.Open(A, 2),  # O_RDWR
        steps.Write(B, NEW, 0, SMALL),
        steps.Rename(B, A),
        steps.WriteHandle(0, 3, SMALL),
    ],
    "what a begun point needs is changed where it is and cannot be copied": [
        steps.Write(B, NEW, 0, Bytes(1, 20)),
        Dispatch(1),
        Dispatch(1),
        steps.Fault("start_session", "unreachable", False, 0, 1),
        steps.Write(A, NEW, 0, Bytes(2, 500)),
        steps.Write(B, NEW, 0, SMALL),
        Dispatch(1),
        steps.Write(B, NEW, 0, Bytes(3, 30)),
        steps.Truncate(A, 7),
    ],
    "renamed over a link that has a frozen file's name": [
        steps.Overtake(B, Place(0, 3), Bytes(185, 201)),
        steps.MakeSymlink(Place(0, 2), "../b"),
        steps.Rename(Place(0, 2), B),
        steps.Rename(Place(0, 3), B),
    ],
    "what follows a frozen file is renamed over a link": [
        steps.Write(A, NEW, 0, SMALL),
        Dispatch(700.0),
        steps.MakeSymlink(B, "x" * 130),
        steps.Write(A, 1024, 3, Bytes(203, 1)),  # O_APPEND
        Dispatch(700.0, crash_at=3),
        steps.Rename(B, Place(0, 2)),
        steps.Write(A, 64, 0, Bytes(210, 63)),  # O_CREAT
        steps.Rename(A, Place(0, 2)),
    ],
    "renamed to and fro while older versions of it and of what it was renamed over are being finished": [
        steps.Overtake(A, A, Bytes(185, 201)),
        steps.Overtake(Place(0, 2), A, Bytes(185, 201)),
        steps.Rename(A, B),
        steps.Rename(Place(0, 2), Place(0, 3)),
        steps.Rename(Place(0, 3), B),
        steps.Rename(B, Place(0, 3)),
    ],
    "what follows a frozen file is renamed over what Drive never had": [
        steps.Write(B, NEW, 0, Bytes(1, 20)),
        Dispatch(1),
        Dispatch(1),
        steps.Fault("start_session", "unreachable", False, 0, 1),
        steps.Write(A, NEW, 0, Bytes(2, 500)),
        steps.Write(B, NEW, 0, SMALL),
        Dispatch(1),
        steps.Write(B, NEW, 0, Bytes(3, 30)),
        steps.Write(Place(0, 2), NEW, 0, SMALL),
        steps.Rename(B, Place(0, 2)),
    ],
}


@pytest.mark.parametrize("name", FOUND)
def test_mount_agrees_with_the_model_after_what_was_found(name: str) -> None:
    with world() as made, watched_order(made.whole) as watch:
        made.whole.drive.replaced = made.noting(watch.shows)
        for step in FOUND[name]:
            step.run(made)
            made.note()
            made.check()
        steps.Drain().run(made)
