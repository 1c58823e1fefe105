"""Random steps on a mount and on a plain model of it: they agree after each step, and in the end Drive does too.

`HYPOTHESIS_PROFILE=long` makes it 250,000 steps with a new seed.
"""

from __future__ import annotations

import os
from contextlib import ExitStack

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.model import steps
from tests.model.order import watched_order
from tests.model.steps import Bytes, Place, Step
from tests.model.world import world

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
STEPS_EACH = 50

names = st.integers(0, len(steps.NAMES) - 1)
places = st.builds(Place, st.integers(0, 3), names)
lengths = st.sampled_from((0, 1, 7, 63, 130, 201, 500))
data = st.builds(Bytes, st.integers(0, 250), lengths)
offsets = st.sampled_from((0, 3, 64, 150, 400))
handles = st.integers(0, steps.HANDLE_LIMIT - 1)
new_flags = st.sampled_from(
    (os.O_CREAT | os.O_TRUNC, os.O_CREAT, os.O_CREAT | os.O_EXCL, os.O_APPEND, os.O_CREAT | os.O_APPEND, 0)
)
open_flags = st.sampled_from(
    (
        os.O_RDWR | os.O_CREAT,
        os.O_RDWR,
        os.O_RDONLY,
        os.O_RDWR | os.O_CREAT | os.O_TRUNC,
        os.O_WRONLY | os.O_CREAT | os.O_APPEND,
    )
)
times_ns = st.sampled_from((1_577_840_523_123_456_789, 1_000_000_000_000_000_000, 1_234_567_890_000_000))

writes = st.builds(steps.Write, places, new_flags, offsets, data)
renames = st.builds(steps.Rename, places, places)
local: st.SearchStrategy[Step] = st.one_of(
    st.builds(steps.Copy, places, places),
    st.builds(steps.Truncate, places, lengths),
    st.builds(steps.MakeFolder, places),
    st.builds(steps.MakeSymlink, places, st.sampled_from(("a", "../b", "x" * 130))),
    st.builds(steps.Unlink, places),
    st.builds(steps.RemoveFolder, places),
    st.builds(steps.ChangeMode, places, st.sampled_from((0o600, 0o644, 0o755))),
    st.builds(steps.SetTime, places, times_ns),
    st.builds(steps.SetXattr, places, names, st.sampled_from((b"text", b"\0\xff", b"", None))),
)
opens = st.builds(steps.Open, places, open_flags)
handle_writes = st.builds(steps.WriteHandle, handles, offsets, data)
growths = st.builds(steps.GrowHandle, handles, data)
begins = st.builds(steps.Begin, places, st.builds(Bytes, st.integers(0, 250), st.sampled_from((270, 700))))
on_handles: st.SearchStrategy[Step] = st.one_of(
    st.builds(steps.TruncateHandle, handles, lengths),
    st.builds(steps.SyncHandle, handles),
    st.builds(steps.CloseHandle, handles),
    st.builds(steps.CloseCopy, handles),
)
others: st.SearchStrategy[Step] = st.one_of(
    st.builds(steps.TheirWrite, names, data),
    st.builds(steps.TheirRename, names, names),
    st.builds(steps.TheirTrash, names),
)
house: st.SearchStrategy[Step] = st.sampled_from(
    (steps.Snapshot(), steps.Evict(), steps.ReadAll(), steps.Poll(), steps.Crash(), steps.Drain())
)
faults: st.SearchStrategy[Step] = st.one_of(
    st.builds(
        steps.Fault,
        st.sampled_from(steps.FAULTY),
        st.sampled_from(sorted(steps.FAULTS)),
        st.booleans(),
        st.integers(0, 2),
        st.integers(1, 8),
    ),
    st.builds(steps.KeepBytes, st.sampled_from((None, 10, 100, 128))),
    st.just(steps.NoFaults()),
    st.just(steps.ExpireSessions()),
)
overtakes = st.builds(steps.Overtake, places, places, data)
passes_s = st.sampled_from((0.0, 0.3, 5.0, 70.0, 700.0))
dispatches = st.builds(steps.Dispatch, passes_s)
eventful = st.one_of(
    st.builds(steps.Dispatch, passes_s, crash_at=st.integers(1, 8)),
    st.builds(
        steps.Dispatch,
        passes_s,
        step_at=st.integers(1, 8),
        step=st.one_of(
            writes,
            renames,
            local,
            handle_writes,
            growths,
            begins,
            on_handles,
            st.sampled_from((steps.Snapshot(), steps.Evict())),
        ),
    ),
)


class Mount(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.resources = ExitStack()
        self.world = self.resources.enter_context(world())
        watch = self.resources.enter_context(watched_order(self.world.whole))
        self.world.whole.drive.replaced = self.world.noting(watch.shows)

    def teardown(self) -> None:
        with self.resources:
            if not self.world.problems:
                steps.Drain().run(self.world)

    def do(self, step: Step) -> None:
        step.run(self.world)
        self.world.note()

    @rule(step=writes)
    def write(self, step: Step) -> None:
        self.do(step)

    @rule(step=writes)
    def write_more(self, step: Step) -> None:
        self.do(step)

    @rule(step=writes)
    def write_yet_more(self, step: Step) -> None:
        self.do(step)

    @rule(step=renames)
    def rename(self, step: Step) -> None:
        self.do(step)

    @rule(step=renames)
    def rename_more(self, step: Step) -> None:
        self.do(step)

    @rule(step=local)
    def change(self, step: Step) -> None:
        self.do(step)

    @rule(step=local)
    def change_more(self, step: Step) -> None:
        self.do(step)

    @rule(step=opens)
    def open(self, step: Step) -> None:
        self.do(step)

    @rule(step=handle_writes)
    def write_handle(self, step: Step) -> None:
        self.do(step)

    @rule(step=begins)
    def begin_large(self, step: Step) -> None:
        self.do(step)

    @rule(step=growths)
    def grow_handle(self, step: Step) -> None:
        self.do(step)

    @rule(step=on_handles)
    def use_handle(self, step: Step) -> None:
        self.do(step)

    @rule(step=dispatches)
    def dispatch(self, step: Step) -> None:
        self.do(step)

    @rule(step=dispatches)
    def dispatch_more(self, step: Step) -> None:
        self.do(step)

    @rule(step=eventful)
    def dispatch_with_event(self, step: Step) -> None:
        self.do(step)

    @rule(step=eventful)
    def dispatch_with_another_event(self, step: Step) -> None:
        self.do(step)

    @rule(step=overtakes)
    def overtake(self, step: Step) -> None:
        self.do(step)

    @rule(step=house)
    def keep_house(self, step: Step) -> None:
        self.do(step)

    @rule(step=faults)
    def break_drive(self, step: Step) -> None:
        self.do(step)

    @rule(step=others)
    def let_others(self, step: Step) -> None:
        self.do(step)

    @invariant()
    def mount_equals_the_model(self) -> None:
        self.world.check()


Mount.TestCase.settings = settings(
    max_examples=5_000 if LONG else 150,
    stateful_step_count=STEPS_EACH,
    derandomize=not LONG,
    database=None,
    deadline=None,
    print_blob=False,
    suppress_health_check=list(HealthCheck),
)
TestMountAgreesWithTheModel = Mount.TestCase
