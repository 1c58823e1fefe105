"""Who may come in: users, and the caller behind one request."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from drivefs.emulator.database import Database, new_root_id, now_ms

SERVICE_DOMAIN = "iam.gserviceaccount.com"
FULL_SCOPE = "https://www.googleapis.com/auth/drive"
FOLDER_MIME = "application/vnd.google-apps.folder"


@dataclass(frozen=True, slots=True)
class User:
    """An account; `root` is None for a service account, which has no storage of its own."""

    n: int
    email: str
    name: str
    permission_id: str
    root: int | None
    root_id: str | None


@dataclass(frozen=True, slots=True)
class Caller:
    """The user and the OAuth client on whose behalf a request comes; scopes by their last path segment."""

    user: User
    client: str
    scopes: frozenset[str]

    @property
    def only_own_files(self) -> bool:
        """True when the token opens only what this client made (scope drive.file)."""
        return not self.scopes & {"drive", "drive.readonly", "drive.metadata", "drive.metadata.readonly"}


class Accounts:
    """The users in the database, made on demand."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._by_n: dict[int, User] = {}

    def by_n(self, n: int) -> User:
        user = self._by_n.get(n)
        if user is None:
            row = self._db.row(
                "SELECT u.*, f.id AS root_id FROM users u LEFT JOIN files f ON f.n = u.root WHERE u.n = ?", (n,)
            )
            if row is None:
                raise KeyError(n)
            user = User(row["n"], row["email"], row["name"], row["permission_id"], row["root"], row["root_id"])
            self._by_n[n] = user
        return user

    def find(self, email: str) -> User | None:
        n = self._db.value("SELECT n FROM users WHERE email = ?", (email.lower(),))
        return None if n is None else self.by_n(n)

    def find_by_permission(self, permission_id: str) -> User | None:
        n = self._db.value("SELECT n FROM users WHERE permission_id = ?", (permission_id,))
        return None if n is None else self.by_n(n)

    def ensure(self, email: str) -> User:
        """The user of that address, with a My Drive unless it is a service account."""
        found = self.find(email)
        if found is not None:
            return found
        email = email.lower()
        db = self._db
        with db.transaction():
            n = db.insert(
                "users",
                email=email,
                name=email.partition("@")[0].replace(".", " ").title(),
                permission_id=f"{secrets.randbelow(9 * 10**19) + 10**19:020d}",
            )
            if not email.endswith(SERVICE_DOMAIN):
                now = now_ms()
                root = db.insert(
                    "files",
                    id=new_root_id(),
                    is_root=1,
                    owner=n,
                    name="My Drive",
                    name_fold="my drive",
                    mime=FOLDER_MIME,
                    created_ms=now,
                    modified_ms=now,
                    version=1,
                    seq=db.next_seq(),
                    changed_ms=now,
                )
                db.set("users", n, root=root)
        return self.by_n(n)
