"""Which open files go past the kernel's page cache."""

from __future__ import annotations

import os
import re


def _kernel() -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2])


DROPS_CACHED_PAGES = _kernel() >= (6, 6)
"""Since Linux 6.6 a write past the page cache drops the pages that readers of the same file have in it."""


def past_the_page_cache(flags: int) -> bool:
    """Whether a handle opened with these flags writes straight to us: it never reads, so pages kept of it would only
    be a second copy of what the cache's own file keeps. Half the memory to fill, and large writes take half the time.
    """
    return DROPS_CACHED_PAGES and flags & os.O_ACCMODE == os.O_WRONLY
