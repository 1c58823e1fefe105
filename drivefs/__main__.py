"""`python -m drivefs`."""

from drivefs.cli import main

main()
