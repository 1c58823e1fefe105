"""The drivefs command."""
