"""What people ask of Drive beside what a mount does: searches, links, revisions to keep.

Made by `GoogleDrive.explorer`, and safe for as many threads; errors and repeats are as in `drivefs.drive.api`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from drivefs.drive.calls import Caller, Reply, Way
from drivefs.drive.pacing import Effort, Lane
from drivefs.drive.replies import read_details, read_details_page, read_json
from drivefs.drive.service import Call, Service
from drivefs.model import Details, DetailsPage, DriveId, Priority, RevisionId


class Explorer:
    """One account's Drive, as a person looks at it."""

    def __init__(self, service: Service, caller: Caller) -> None:
        self._service, self._caller = service, caller

    def search(self, query: str, page_token: str | None = None) -> DetailsPage:
        """What fits `query` (drive-api: files.list), up to 1,000 a page. `Refused` where it is not understood."""
        return read_details_page(read_json(self._ask(self._service.search(query, page_token)).body))

    def details(self, file_id: DriveId) -> Details:
        return read_details(read_json(self._ask(self._service.details(file_id)).body))

    def server_time(self) -> datetime | None:
        """What the server's clock says, by the `Date` of a reply; None where it does not say."""
        date = self._ask(self._service.about()).headers.get("Date")
        try:
            found = parsedate_to_datetime(date) if date else None
        except ValueError:
            return None
        return found if found is None or found.tzinfo else found.replace(tzinfo=UTC)

    def restore(self, file_id: DriveId) -> None:
        """Out of the trash; a file that is not in it stays as it is."""
        self._tell(self._service.restore(file_id))

    def share(self, file_id: DriveId, role: str, email: str | None) -> None:
        """Let `email`, or anyone with the link, in as reader or writer. Repeated, it changes nothing."""
        self._tell(self._service.share(file_id, role, email))

    def keep_revision(self, file_id: DriveId, revision: RevisionId, *, keep: bool) -> None:
        """Have Drive keep one content of a file for ever (200 at most), or for its 30 days again."""
        self._tell(self._service.keep_revision(file_id, revision, keep))

    def _ask(self, call: Call) -> Reply:
        return self._caller.exchange(call, Way(Lane.CALL, Effort.READ, Priority.READER, reading=True))

    def _tell(self, call: Call) -> Reply:
        return self._caller.exchange(call, Way(Lane.CALL, Effort.EDIT, Priority.READER, reading=False))
