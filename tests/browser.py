"""The browser's part of a sign-in at the emulator: follows redirects, and presses a button of the consent page.

Also a command, `python browser.py LINK`, for BROWSER in the environment; SIGN_IN_AS says as whom.
"""

from __future__ import annotations

import os
import sys
from html.parser import HTMLParser
from urllib.parse import urlencode, urljoin

import urllib3


class _Page(HTMLParser):
    """The fields and buttons of the consent page's form."""

    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}
        self.buttons: set[tuple[str, str]] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "input":
            self.fields[found["name"]] = found["value"]
        elif tag == "button":
            self.buttons.add((found["name"], found["value"]))


def come_back(link: str, account: str | None, **changes: str) -> str:
    """The address that the sign-in page at `link` leads back to, for the account, or declined; `changes` replace
    what the page's form says, such as scopes that are not ticked."""
    button = ("decision", "deny") if account is None else ("account", account)
    with urllib3.PoolManager(retries=False) as http:
        url, body, headers = link, None, {}
        while True:
            reply = http.request("GET" if body is None else "POST", url, body=body, headers=headers, redirect=False)
            if reply.status in (302, 303, 307):
                target = urljoin(url, reply.headers["Location"])
                if "code=" in target or "error=" in target:
                    return target
                url, body = target, None
                continue
            assert reply.status == 200, reply.data
            page = _Page()
            page.feed(reply.data.decode())
            assert button in page.buttons, page.buttons
            headers = {"content-type": "application/x-www-form-urlencoded"}
            body = urlencode({**page.fields, **changes, button[0]: button[1]}).encode()


def main() -> None:
    target = come_back(sys.argv[1], os.environ["SIGN_IN_AS"])
    reply = urllib3.request("GET", target, redirect=False)
    assert reply.status == 200, reply.status


if __name__ == "__main__":
    main()
