"""What a File in a request may set, checked and turned into columns."""

from __future__ import annotations

import json
from typing import Any

from drivefs.emulator.database import Row
from drivefs.emulator.errors import ApiError, invalid, not_writable
from drivefs.emulator.render import more
from drivefs.emulator.times import parse_ms

_ALWAYS = {
    "appProperties",
    "contentHints",
    "contentRestrictions",
    "copyRequiresWriterPermission",
    "description",
    "downloadRestrictions",
    "folderColorRgb",
    "inheritedPermissionsDisabled",
    "linkShareMetadata",
    "mimeType",
    "modifiedTime",
    "name",
    "originalFilename",
    "properties",
    "starred",
    "trashed",
    "viewedByMeTime",
    "viewersCanCopyContent",
    "writersCanShare",
    "kind",
}
_AT_CREATE = {"id", "parents", "createdTime", "shortcutDetails"}
_MORE = (
    "description",
    "contentRestrictions",
    "copyRequiresWriterPermission",
    "downloadRestrictions",
    "folderColorRgb",
    "inheritedPermissionsDisabled",
    "originalFilename",
    "writersCanShare",
)
PROPERTY_BYTES = 124
PROPERTIES_PER_APP = 30
PROPERTIES_IN_ALL = 100


def check_writable(body: dict[str, Any], *, create: bool) -> None:
    """403 `fieldNotWritable` for what cannot be set."""
    refused = set(body) - _ALWAYS - (_AT_CREATE if create else set())
    if "parents" in refused:
        raise not_writable(
            "The parents field is not directly writable in update requests. "
            "Use the addParents and removeParents parameters instead."
        )
    if refused:
        raise not_writable()


def moment(body: dict[str, Any], name: str) -> int | None:
    """The body's time in milliseconds, None when it says nothing."""
    if body.get(name) is None:
        return None
    try:
        return parse_ms(body[name])
    except ValueError:
        raise ApiError(
            400, "invalid", f'Invalid value for: Invalid format: "{body[name]}"', location=name, location_type="other"
        ) from None


def more_columns(row: Row | None, body: dict[str, Any]) -> str | None:
    """The column `more` after the change."""
    values = more(row) if row is not None else {}
    for name in _MORE:
        if name in body:
            if body[name] is None:
                values.pop(name, None)
            else:
                values[name] = body[name]
    if "viewersCanCopyContent" in body and "copyRequiresWriterPermission" not in body:
        values["copyRequiresWriterPermission"] = not body["viewersCanCopyContent"]
    hints = body.get("contentHints") or {}
    if "indexableText" in hints:
        values["indexableText"] = hints["indexableText"]
    return json.dumps(values) if values else None


def property_columns(row: Row | None, body: dict[str, Any], client: str) -> dict[str, str | None]:
    """The columns `properties` and `app_properties` after the change; 403 beyond the limits (drive-api: Fields)."""
    result: dict[str, str | None] = {}
    public = json.loads(row["properties"]) if row is not None and row["properties"] else {}
    apps = json.loads(row["app_properties"]) if row is not None and row["app_properties"] else {}
    if "properties" in body:
        public = _merged(public, body["properties"])
        result["properties"] = json.dumps(public) if public else None
    if "appProperties" in body:
        mine = _merged(apps.get(client, {}), body["appProperties"])
        apps = {**apps, client: mine} if mine else {key: value for key, value in apps.items() if key != client}
        result["app_properties"] = json.dumps(apps) if apps else None
    if not result:
        return result
    if len(public) > PROPERTIES_PER_APP or len(apps.get(client, ())) > PROPERTIES_PER_APP:
        raise ApiError(403, "limitExceeded", "The limit of 30 properties for this file and application is exceeded.")
    if len(public) + sum(len(each) for each in apps.values()) > PROPERTIES_IN_ALL:
        raise ApiError(403, "limitExceeded", "The limit of 100 properties for this file is exceeded.")
    return result


def _merged(old: dict[str, str], new: dict[str, str | None] | None) -> dict[str, str]:
    result = dict(old)
    for key, value in (new or {}).items():
        if not key:
            raise invalid("Property keys must not be empty.")
        if value is None:
            result.pop(key, None)
            continue
        if len(key.encode()) + len(value.encode()) > PROPERTY_BYTES:
            raise ApiError(
                400,
                "invalid",
                f"The length of the key and value of a property must not exceed {PROPERTY_BYTES} bytes.",
                location="property",
                location_type="other",
            )
        result[key] = value
    return result
