"""A listing that comes page by page ends, whatever the server says: a caller is not kept asking for ever."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

from drivefs.errors import BadReply

EMPTY_PAGES = 100
"""Drive gives pages without an entry while it searches; so many in a row are no search any more."""


class Course:
    """How far one listing has come. For one thread."""

    def __init__(self) -> None:
        self._tokens: set[str] = set()
        self._empty_pages = 0

    def follow(self, token: str | None, entries: int) -> str | None:
        """The token of the page after one that had so many entries; None at the end. Raises BadReply when the listing
        turns in a circle, or brings nothing page after page."""
        self._empty_pages = 0 if entries else self._empty_pages + 1
        if token is not None:
            if token in self._tokens or self._empty_pages > EMPTY_PAGES:
                raise BadReply("Drive's listing does not come to an end.")
            self._tokens.add(token)
        return token


class Paged(Protocol):
    """A page of anything."""

    @property
    def next_token(self) -> str | None: ...

    @property
    def entries(self) -> int: ...


Page = TypeVar("Page", bound=Paged)


def pages(ask: Callable[[str | None], Page]) -> Iterator[Page]:
    """The pages of a listing, one after another. Raises BadReply when it does not come to an end."""
    course = Course()
    token: str | None = None
    while True:
        page = ask(token)
        yield page
        token = course.follow(page.next_token, page.entries)
        if token is None:
            return
