"""Moments as Google writes them: RFC 3339, UTC, milliseconds. Inside they are integers of milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=4096)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def format_ms(moment_ms: int) -> str:
    """`2026-11-20T12:00:00.123Z`."""
    return f"{_second(moment_ms // 1000)}.{moment_ms % 1000:03d}Z"


def parse_ms(text: str) -> int:
    """Milliseconds since the epoch, finer parts cut off; ValueError when it is no RFC 3339 date.

    Without a time zone it is UTC, as in q (drive-api: files.list).
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    span = moment - _EPOCH
    return (span.days * 86_400 + span.seconds) * 1000 + span.microseconds // 1000
