"""`python -m drivefs.emulator`."""

from drivefs.emulator.command import main

main()
