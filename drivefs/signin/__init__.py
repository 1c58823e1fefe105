"""Signing in: how the person does it, where it is kept, and which sign-in a command uses. Knows no mount."""
