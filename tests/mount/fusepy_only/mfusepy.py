"""Stands before the installed mfusepy on the path, as if it were not installed."""

raise ModuleNotFoundError("No module named 'mfusepy'", name="mfusepy")
