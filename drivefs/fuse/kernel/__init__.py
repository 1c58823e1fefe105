"""The mount through the kernel's own protocol, without any libfuse."""

from drivefs.fuse.kernel.serve import serve

__all__ = ["serve"]
