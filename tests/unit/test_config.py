"""Settings: flags over environment over file, and one sentence for what cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivefs.config import Settings, load_settings, parse_size
from drivefs.errors import UsageError

MOUNTPOINT = Path("/mnt/drive")


def load(tmp_path: Path, flags: dict[str, object], environ: dict[str, str], file: str = "") -> Settings:
    path = tmp_path / "config.toml"
    path.write_text(file)
    return load_settings(MOUNTPOINT, flags, environ, path)


def test_settings_without_any_source_are_the_defaults(tmp_path: Path) -> None:
    assert load_settings(MOUNTPOINT, {}, {}, tmp_path / "missing.toml") == Settings(mountpoint=MOUNTPOINT)


@pytest.mark.parametrize(
    ("flags", "environ", "expected"),
    [
        ({"cache_size": "3G"}, {"DRIVEFS_CACHE_SIZE": "2G"}, 3 << 30),
        ({"cache_size": None}, {"DRIVEFS_CACHE_SIZE": "2G"}, 2 << 30),
        ({"cache_size": None}, {"DRIVEFS_CACHE_SIZE": ""}, 1 << 30),
        ({}, {}, 1 << 30),
    ],
)
def test_settings_take_flags_over_environment_over_file(
    tmp_path: Path, flags: dict[str, object], environ: dict[str, str], expected: int
) -> None:
    assert load(tmp_path, flags, environ, 'cache_size = "1G"').cache_size == expected


def test_settings_read_every_kind_of_value(tmp_path: Path) -> None:
    file = (
        'read_only = true\ncache_size = 4096\noptions = ["noatime", "uid=5"]\nstop_timeout = 5\naccount = "me@x.org"'
    )
    settings = load(tmp_path, {}, {"DRIVEFS_ALLOW_OTHER": "yes", "DRIVEFS_CACHE_DIR": "~/c"}, file)
    assert settings.read_only and settings.allow_other
    assert settings.cache_size == 4096
    assert (settings.options, settings.uid) == (("noatime",), 5)
    assert settings.stop_timeout == 5.0
    assert settings.account == "me@x.org"
    assert settings.cache_dir == Path("~/c").expanduser()


def test_mount_options_that_are_settings_become_them(tmp_path: Path) -> None:
    settings = load(tmp_path, {"options": ("ro,noatime", "allow_other,nopassthrough")}, {})
    assert settings.read_only and settings.allow_other and not settings.passthrough
    assert settings.options == ("noatime",)


@pytest.mark.parametrize(
    ("flags", "environ", "file", "named"),
    [
        ({"cache_size": "much"}, {}, "", "--cache-size"),
        ({}, {"DRIVEFS_CACHE_SIZE": "-1"}, "", "DRIVEFS_CACHE_SIZE"),
        ({}, {}, "cache_size = true", "cache_size in"),
        ({}, {}, "cach_size = 1", "cach_size"),
        ({}, {}, "not toml", "not TOML"),
        ({"account": "../../etc"}, {}, "", "--account"),
        ({"endpoint": "localhost:80"}, {}, "", "--endpoint"),
        ({"transport": "pigeon"}, {}, "", "auto, kernel, libfuse"),
        ({}, {"DRIVEFS_READ_ONLY": "perhaps"}, "", "DRIVEFS_READ_ONLY"),
        ({}, {"DRIVEFS_STOP_TIMEOUT": "nan"}, "", "DRIVEFS_STOP_TIMEOUT"),
        ({}, {}, "root = 5", "root in"),
    ],
)
def test_settings_name_the_source_of_what_cannot_be_read(
    tmp_path: Path, flags: dict[str, object], environ: dict[str, str], file: str, named: str
) -> None:
    with pytest.raises(UsageError, match=named):
        load(tmp_path, flags, environ, file)


def test_settings_survive_the_way_to_another_process(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        {
            "cache_dir": "/var/cache/x",
            "credentials": "/etc/key",
            "options": ("a,b",),
            "root": "Ordner/Ü",
            "cache_size": "5M",
        },
        {},
    )
    assert Settings.from_json(settings.to_json()) == settings
    assert Settings.from_json(Settings(mountpoint=MOUNTPOINT).to_json()) == Settings(mountpoint=MOUNTPOINT)


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("0", 0), ("17", 17), ("1k", 1024), ("1.5G", 3 << 29), ("2TiB", 2 << 40), ("3 MB", 3 << 20), ("7b", 7)],
)
def test_size_is_in_powers_of_1024(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("flags", [{"fsync": "drive"}, {"options": ("fsync=drive",)}])
def test_config_fsync_is_a_flag_and_a_mount_option(tmp_path: Path, flags: dict[str, object]) -> None:
    settings = load_settings(Path("/mnt"), flags, {}, tmp_path / "none")
    assert (settings.fsync, settings.options) == ("drive", ())


def test_config_fsync_waits_for_the_disk_unless_told(tmp_path: Path) -> None:
    assert load_settings(Path("/mnt"), {}, {}, tmp_path / "none").fsync == "local"
    with pytest.raises(UsageError, match="local, drive"):
        load_settings(Path("/mnt"), {"fsync": "tape"}, {}, tmp_path / "none")


@pytest.mark.parametrize("name", ["upload_limit", "download_limit"])
def test_settings_take_a_limit_as_bytes_a_second(tmp_path: Path, name: str) -> None:
    assert getattr(load(tmp_path, {}, {}), name) is None
    settings = load(tmp_path, {name: "2M"}, {})
    assert getattr(settings, name) == 2 << 20
    assert Settings.from_json(settings.to_json()) == settings
    assert getattr(load(tmp_path, {}, {}, f'{name} = "500K"'), name) == 500 << 10
    for wrong in ("0", "fast", "-1"):
        with pytest.raises(UsageError, match="bytes a second, such as 2M"):
            load(tmp_path, {}, {f"DRIVEFS_{name.upper()}": wrong})


@pytest.mark.parametrize("option", ["uid=root", "gid=-1", "umask=8", "umask=1777", "umask="])
def test_settings_refuse_mount_options_that_make_no_sense(tmp_path: Path, option: str) -> None:
    with pytest.raises(UsageError, match=option.partition("=")[0]):
        load(tmp_path, {"options": option}, {}, "")
