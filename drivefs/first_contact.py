"""A mount's cache and its Drive: which folder keeps whose, and the first contact of the two.

Entered by the thread that begins a mount, before all others.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import google.auth.credentials
import platformdirs

from drivefs.config import Settings
from drivefs.drive.google import GoogleDrive
from drivefs.errors import DriveError, Refused, UserError
from drivefs.model import Place
from drivefs.signin.check import not_enabled
from drivefs.store.store import Store
from drivefs.sync.exports import parse_formats
from drivefs.sync.layout import COLAB, FLAT, root_of
from drivefs.sync.mirror import Mirror
from drivefs.sync.root import resolve_root

FIRST_CONTACT_S = 10.0
"""An endpoint that does not answer the first call in this time is taken for dead; once it is asked again."""


def default_cache_folder(settings: Settings, who: str) -> Path:
    """A folder of its own for each Drive, endpoint, root and layout."""
    name = re.sub(r"[^\w.@:+-]", "_", who.rpartition("/")[2].removesuffix(".json")).lstrip(".")[:80]
    apart = [settings.endpoint, settings.root, *([settings.layout] if settings.layout != FLAT else [])]
    if any(apart) or name != who or not name:
        digest = hashlib.sha256(json.dumps([who, *apart]).encode())
        name = f"{name}-{digest.hexdigest()[:12]}"
    return Path(platformdirs.user_cache_dir("drivefs")) / name


def meet_drive(store: Store, settings: Settings, who: str, credentials: google.auth.credentials.Credentials) -> None:
    """First contact, or nothing at all where the cache knows this Drive from before. Raises UserError,
    SignInNeeded."""
    db = store.db
    known = root_of(store.nodes).drive_id
    layout = COLAB if store.nodes.find_place(Place.TOP) is not None else FLAT
    if known is not None and layout != settings.layout:
        raise UserError(
            f"The cache folder {store.folder} is of a mount with --layout {layout}: give another one with "
            "--cache-dir."
        )
    if known is not None and (db.setting("identity"), db.setting("root") or None) == (who, settings.root):
        return
    # With its own short patience, so that nobody stares at a mount that cannot come.
    first = GoogleDrive(
        credentials,
        endpoint=settings.endpoint,
        connect_timeout_s=FIRST_CONTACT_S,
        stall_timeout_s=FIRST_CONTACT_S,
        patience_s=FIRST_CONTACT_S / 2,
    )
    try:
        root = resolve_root(first, settings.root) if settings.root is not None else None
        if known is not None and (root or first.root_id()) != known:
            raise UserError(
                f"The cache folder {store.folder} belongs to another account or folder of Drive: give another one "
                "with --cache-dir."
            )
        mirror = Mirror(store, first, formats=parse_formats(settings.export_formats))
        mirror.start(root, layout=settings.layout)
    except DriveError as error:
        raise _first_contact_failed(error, settings.endpoint) from error
    finally:
        first.close()
    db.set_setting("identity", who)
    db.set_setting("root", settings.root or "")


def _first_contact_failed(error: DriveError, endpoint: str | None) -> UserError:
    if (text := not_enabled(error)) is not None:
        return UserError(text)
    if isinstance(error, Refused):
        return UserError(f"Drive does not give the mount's root folder: {str(error).rstrip('.')}.")
    where = endpoint or "Google Drive"
    return UserError(
        f"{where} does not answer as Drive does ({str(error).rstrip('.')}): check the network and --endpoint; the "
        "first mount of an account needs them, later ones do not."
    )
