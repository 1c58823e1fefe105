"""Drive without a mount: where something is there, and copies to, from and within it."""
