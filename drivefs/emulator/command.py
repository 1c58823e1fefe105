"""The command line, without a name of its own: `python -m drivefs.emulator` and `drivefs emulator` share it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from drivefs.emulator.options import DEFAULT_ACCOUNT, DEFAULT_STORAGE_BYTES, UNITS_PER_MINUTE, Options

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30, "ti": 1 << 40}
_NUMBER = r"(\d+(?:\.\d+)?)"


class Size(click.ParamType[float | None]):
    """`40MB` is 40,000,000 bytes, `40MiB` is 41,943,040; `off` is no limit."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | None:
        if not isinstance(value, str):
            return None if value is None else float(value)
        if value.lower() in ("off", "none", "unlimited"):
            return None
        match = re.fullmatch(_NUMBER + r"\s*([kmgt]i?)?(?:b(?:/s)?)?", value.strip().lower())
        if match is None:
            self.fail(f"{value!r} is not a size such as 40MB", param, ctx)
        return float(match.group(1)) * {**_UNITS, **_BINARY}[match.group(2) or ""]


class Duration(click.ParamType[float]):
    """`80ms`, `2s`, `1m`, `1h`; a bare number is seconds. Gives seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if not isinstance(value, str):
            return float(value)
        match = re.fullmatch(_NUMBER + r"\s*(ms|s|m|h)?", value.strip().lower())
        if match is None:
            self.fail(f"{value!r} is not a duration such as 80ms", param, ctx)
        return float(match.group(1)) * {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}[match.group(2) or "s"]


_OPTIONS = (
    click.option("--dir", "directory", type=click.Path(path_type=Path, file_okay=False), help="Keep the state here."),
    click.option("--port", type=int, default=0, help="Port of the API (0: any free one)."),
    click.option("--proxy-port", type=int, default=None, help="Serve unmodified clients as an HTTPS proxy here."),
    click.option("--account", "accounts", multiple=True, help=f"An account's address ({DEFAULT_ACCOUNT})."),
    click.option("--latency", type=Duration(), default=0.0, help="Of each request, such as 80ms."),
    click.option("--bandwidth", type=Size(), default=None, help="Of each connection a second, such as 40MB."),
    click.option("--shared-bandwidth", type=Size(), default=None, help="Of all connections together."),
    click.option("--quota", type=int, default=UNITS_PER_MINUTE, show_default=True, help="Units a minute a user."),
    click.option("--creates-per-second", type=float, default=None, help="Sustained creates and updates a user."),
    click.option("--storage", type=Size(), default=float(DEFAULT_STORAGE_BYTES), help="Of each user, or `off`."),
    click.option("--token-lifetime", type=Duration(), default=3599.0, help="Of an access token."),
    click.option(
        "--refresh-token-lifetime", type=Duration(), default=None, help="As of an app in Testing; none: ever."
    ),
    click.option(
        "--simple-upload-limit", type=Size(), default=float(5 << 40), help="Largest media or multipart body."
    ),
    click.option("--revisions", type=int, default=100, show_default=True, help="Contents kept of one file."),
)


def add_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a click command with the emulator's options; it is called with the keywords of `options_of`."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def options_of(
    *,
    directory: Path | None,
    port: int,
    proxy_port: int | None,
    accounts: tuple[str, ...],
    latency: float,
    bandwidth: float | None,
    shared_bandwidth: float | None,
    quota: int,
    creates_per_second: float | None,
    storage: float | None,
    token_lifetime: float,
    refresh_token_lifetime: float | None,
    simple_upload_limit: float | None,
    revisions: int,
) -> Options:
    """The options as the command line gave them."""
    return Options(
        directory=directory,
        port=port,
        proxy_port=proxy_port,
        accounts=accounts or (DEFAULT_ACCOUNT,),
        latency_s=latency,
        bandwidth_bytes_s=bandwidth,
        shared_bandwidth_bytes_s=shared_bandwidth,
        quota_units_per_minute=quota,
        creates_per_s=creates_per_second,
        storage_bytes=None if storage is None else int(storage),
        token_lifetime_s=token_lifetime,
        refresh_token_lifetime_s=refresh_token_lifetime,
        simple_upload_limit_bytes=5 << 40 if simple_upload_limit is None else int(simple_upload_limit),
        revisions_kept=revisions,
    )


def arguments_of(options: Options) -> list[str]:
    """The command line that gives these options."""
    values: dict[str, Any] = {
        "--dir": options.directory,
        "--port": options.port,
        "--proxy-port": options.proxy_port,
        "--latency": options.latency_s,
        "--bandwidth": options.bandwidth_bytes_s,
        "--shared-bandwidth": options.shared_bandwidth_bytes_s,
        "--quota": options.quota_units_per_minute,
        "--creates-per-second": options.creates_per_s,
        "--storage": "off" if options.storage_bytes is None else options.storage_bytes,
        "--token-lifetime": options.token_lifetime_s,
        "--refresh-token-lifetime": options.refresh_token_lifetime_s,
        "--simple-upload-limit": options.simple_upload_limit_bytes,
        "--revisions": options.revisions_kept,
    }
    result = [part for name, value in values.items() if value is not None for part in (name, str(value))]
    for account in options.accounts:
        result += ["--account", account]
    return result


@click.command(help="A Google Drive on this machine.")
@add_options
def main(**keywords: Any) -> None:
    from drivefs.emulator.server import PortTaken, run  # noqa: PLC0415 - the client side need not load the server

    try:
        run(options_of(**keywords))
    except PortTaken as error:
        raise click.ClickException(str(error)) from error
