"""The local half: tree, content and journal."""
