"""The one way in which a request is refused, in Google's exact form (drive-api: Errors)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ApiError(Exception):
    """Ends a request with `status` and Google's error body."""

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        *,
        domain: str = "global",
        location: str | None = None,
        location_type: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.domain = domain
        self.location = location
        self.location_type = location_type
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """What the reply says, ready for JSON."""
        entry = {"message": self.message, "domain": self.domain, "reason": self.reason}
        if self.location is not None:
            entry["location"] = self.location
            entry["locationType"] = self.location_type or "parameter"
        return {"error": {"code": self.status, "message": self.message, "errors": [entry]}}


class Malformed(Exception):
    """The bytes of a request are not HTTP as it was announced (short body, no boundary)."""


def not_found(file_id: str) -> ApiError:
    return ApiError(404, "notFound", f"File not found: {file_id}.", location="fileId")


def invalid(message: str = "Invalid Value", location: str | None = None) -> ApiError:
    return ApiError(400, "invalid", message, location=location)


def invalid_parameter(name: str, message: str) -> ApiError:
    return ApiError(400, "invalidParameter", message, location=name)


def required(name: str) -> ApiError:
    return ApiError(400, "required", f"Required parameter: {name}", location=name)


def bad_request(message: str = "Bad Request") -> ApiError:
    return ApiError(400, "badRequest", message)


def not_writable(message: str = "The resource body includes fields which are not directly writable.") -> ApiError:
    return ApiError(403, "fieldNotWritable", message)


def no_permission(what: str = "The user does not have sufficient permissions for this file.") -> ApiError:
    return ApiError(403, "insufficientFilePermissions", what)


def auth_error() -> ApiError:
    return ApiError(
        401,
        "authError",
        "Invalid Credentials",
        location="Authorization",
        location_type="header",
        headers={"WWW-Authenticate": 'Bearer realm="https://accounts.google.com/", error="invalid_token"'},
    )


def login_required() -> ApiError:
    return ApiError(
        401,
        "authError",
        "Login Required.",
        location="Authorization",
        location_type="header",
        headers={"WWW-Authenticate": 'Bearer realm="https://accounts.google.com/"'},
    )


def rate_limited(reason: str = "userRateLimitExceeded", retry_after_s: int | None = None) -> ApiError:
    headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
    return ApiError(403, reason, "User Rate Limit Exceeded", domain="usageLimits", headers=headers)


def storage_full() -> ApiError:
    return ApiError(
        403,
        "storageQuotaExceeded",
        "The user's Drive storage quota has been exceeded.",
        domain="usageLimits",
    )
