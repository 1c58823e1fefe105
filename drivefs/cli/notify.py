"""What systemd is told of a mount (sd_notify(3)): that it answers, and which process is to be watched."""

from __future__ import annotations

import os
import socket

VARIABLE = "NOTIFY_SOCKET"


def notify(**facts: str | int) -> None:
    """Tell the service manager, where there is one: READY=1, MAINPID, STATUS. Raises OSError when it is gone."""
    address = os.environ.get(VARIABLE)
    if not address:
        return
    text = "\n".join(f"{name}={value}" for name, value in facts.items())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        # An abstract address begins with a NUL, which is written as @.
        sender.connect("\0" + address[1:] if address.startswith("@") else address)
        sender.sendall(text.encode())
