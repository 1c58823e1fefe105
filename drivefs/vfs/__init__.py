"""The filesystem itself, by inode, without FUSE."""
