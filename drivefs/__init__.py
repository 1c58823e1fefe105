"""Google Drive as a filesystem with a local write-back cache."""
