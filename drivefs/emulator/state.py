"""All parts of one running emulator, put together; and the call that the handlers answer."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drivefs.emulator.accounts import Accounts, Caller
from drivefs.emulator.content import Contents
from drivefs.emulator.database import Database, Row
from drivefs.emulator.faults import Fault, Faults
from drivefs.emulator.fields import ALL, Mask, apply_mask, compile_mask
from drivefs.emulator.items import Items
from drivefs.emulator.listing import register_functions
from drivefs.emulator.network import Network
from drivefs.emulator.options import Options
from drivefs.emulator.quota import Quota
from drivefs.emulator.render import View
from drivefs.emulator.requestlog import RequestLog
from drivefs.emulator.schema import Api, Method
from drivefs.emulator.tree import Tree


class Emulator:
    """The state behind the server. Used by the event loop's thread alone, content files apart."""

    def __init__(self, directory: Path, options: Options) -> None:
        self.directory = directory
        self.options = options
        self.db = Database(directory / "drive.db")
        self.contents = Contents(directory)
        self.accounts = Accounts(self.db)
        self.tree = Tree(self.db, self.contents, self.accounts, options.storage_bytes)
        self.items = Items(self.tree, options.revisions_kept)
        self.network = Network(options.latency_s, options.bandwidth_bytes_s, options.shared_bandwidth_bytes_s)
        self.quota = Quota(options.quota_units_per_minute, options.creates_per_s)
        self.faults = Faults()
        self.log = RequestLog()
        self.endpoint = ""
        register_functions(self.tree)
        for email in options.accounts:
            self.accounts.ensure(email)

    def close(self) -> None:
        self.contents.close()
        self.db.close()


# What Google gives when no fields are asked for; a schema that is not here is given whole.
_DEFAULTS = {
    "File": "kind,id,name,mimeType,driveId,teamDriveId,resourceKey",
    "FileList": "kind,incompleteSearch,nextPageToken,files(kind,id,name,mimeType,driveId,teamDriveId,resourceKey)",
    "ChangeList": "kind,nextPageToken,newStartPageToken,changes(kind,type,changeType,time,removed,fileId,driveId,"
    "teamDriveId,file(kind,id,name,mimeType,driveId,teamDriveId),drive(kind,id,name))",
    "Permission": "id,type,kind,role",
    "PermissionList": "kind,nextPageToken,permissions(id,type,kind,role)",
    "Revision": "id,mimeType,kind,modifiedTime",
    "RevisionList": "kind,nextPageToken,revisions(id,mimeType,kind,modifiedTime)",
    "Drive": "id,kind,name",
    "DriveList": "kind,nextPageToken,drives(id,kind,name)",
    "TeamDrive": "id,kind,name",
    "TeamDriveList": "kind,nextPageToken,teamDrives(id,kind,name)",
}


@dataclass(slots=True)
class Call:
    """One call of one method, checked against the discovery document."""

    emulator: Emulator
    api: Api
    method: Method
    path: dict[str, str]
    query: dict[str, Any]
    body: dict[str, Any]
    caller: Caller
    link_base: str
    headers: Any = field(default_factory=dict)
    fault: Fault | None = None

    @property
    def all_drives(self) -> bool:
        """Whether the caller says that it copes with shared drives."""
        return bool(self.query.get("supportsAllDrives") or self.query.get("supportsTeamDrives"))

    @property
    def mask(self) -> Mask:
        """The fields of the reply."""
        schema = self.method.response
        if schema is None:
            return ALL
        # An empty one counts as none: rclone sends such.
        text = self.query.get("fields") or None
        if text is None:
            text = _DEFAULTS.get(schema) if self.api.version == "v3" else None
            if text is None:
                return ALL
        return compile_mask(self.api, schema, text)

    def view(self) -> View:
        return View(self.emulator.tree, self.caller, self.link_base)

    def file(self, row: Row) -> dict[str, Any]:
        """The reply that is one File."""
        return self.view().file(row, self.mask)

    def masked(self, resource: dict[str, Any]) -> Any:
        """The reply that is any other resource."""
        return apply_mask(resource, self.mask)

    def answer(self, value: Any) -> bytes:
        """The reply's JSON as it goes out."""
        if self.fault is not None and self.fault.action == "wrong_md5":
            value = _spoil_md5(value)
        return dump(value, pretty=self.query.get("prettyPrint") is True)


def _spoil_md5(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: "0" * 32 if name == "md5Checksum" else _spoil_md5(item) for name, item in value.items()}
    return [_spoil_md5(item) for item in value] if isinstance(value, list) else value


def dump(value: Any, *, pretty: bool = False) -> bytes:
    """JSON as it goes out; compact unless asked for, because indenting costs more than the rest of a call."""
    if pretty:
        return json.dumps(value, indent=1, ensure_ascii=False).encode()
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
