"""The table from errors to errno."""

from __future__ import annotations

import errno

import pytest

from drivefs import errors
from drivefs.fuse.errno_map import ERRNO, errno_of


def all_classes(root: type[errors.DrivefsError]) -> list[type[errors.DrivefsError]]:
    return [root] + [found for child in root.__subclasses__() for found in all_classes(child)]


def test_errno_map_has_a_row_for_every_error() -> None:
    ours = {found for found in all_classes(errors.DrivefsError) if found.__module__ == errors.__name__}
    assert ours == set(ERRNO)


def test_errno_map_lets_the_most_specific_class_win() -> None:
    class Closer(errors.NoEntry):
        pass

    assert errno_of(Closer("x")) == errno.ENOENT
    assert errno_of(errors.FsError("x")) == errno.EIO


@pytest.mark.parametrize("error", [errors.CacheDamaged("x"), errors.RemoteNotFound("x")])
def test_errno_map_does_not_deny_a_name_whose_content_is_lost(error: errors.DrivefsError) -> None:
    assert errno_of(error) == errno.EIO


def test_errno_map_knows_only_numbers_of_the_system() -> None:
    assert set(ERRNO.values()) <= set(errno.errorcode)
