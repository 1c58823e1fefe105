"""A Google Drive on this machine: API v3 and v2 over HTTP, with faults on demand. Imports nothing of the rest.

`running(Options(...))` starts one for the length of a block, in a process of its own.
"""

from drivefs.emulator.client import Admin, Running, running, start
from drivefs.emulator.options import Options

__all__ = ["Admin", "Options", "Running", "running", "start"]
