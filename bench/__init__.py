"""Side by side with other mounts and with the disk. Run by `bench/run`."""
