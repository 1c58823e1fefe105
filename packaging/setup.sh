# Sourced by packaging/demo and packaging/test, in the top folder of the checkout: installs what is missing.

fail() {
    echo "packaging/${0##*/}: $*" >&2
    exit 1
}

# Install packages of Debian or Ubuntu, as root or by sudo.
apt() {
    wanted=$*
    command -v apt-get >/dev/null || fail "this is no Debian or Ubuntu: install $* by hand, then run it again."
    if [ "$(id -u)" = 0 ]; then
        set -- env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install "$@"
    elif command -v sudo >/dev/null; then
        set -- sudo env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install "$@"
    else
        fail "$* must be installed, and there is no sudo: as root run 'apt-get install $*', then run it again."
    fi
    # Without package lists, or with old ones, the first try fails.
    "$@" >&2 && return
    case $1 in
        sudo) sudo apt-get -q update >&2 ;;
        *) apt-get -q update >&2 ;;
    esac || fail "apt-get could not fetch its package lists to install $wanted: its message is above."
    "$@" >&2 || fail "apt-get could not install $wanted, which drivefs needs: its message is above."
}

# A Python that is new enough, whether its venv is there or not.
find_python() {
    for python in python3 python3.14 python3.13 python3.12 python3.11; do
        if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$python"
            return
        fi
    done
}

# Whether the linker finds a library, such as libfuse3.so.
has_library() {
    PATH="$PATH:/usr/sbin:/sbin" ldconfig -p | grep -qF "$1."
}

has_fuse() {
    command -v fusermount3 >/dev/null && has_library libfuse3.so
}

# Have the checkout installed in .venv, with extras such as [test] or none, anew when pyproject.toml has changed.
install_drivefs() {
    stamp=.venv/installed$1
    current=$(cksum <pyproject.toml)
    [ "$(cat "$stamp" 2>/dev/null)" != "$current" ] || ! .venv/bin/drivefs --version >/dev/null 2>&1 || return 0
    if ! .venv/bin/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$(find_python)
        if [ -z "$python" ]; then
            apt python3
            python=$(find_python)
        fi
        if [ -z "$python" ]; then
            apt python3.11
            python=$(find_python)
        fi
        [ -n "$python" ] || fail "Python 3.11 or newer is needed, and this system has none: install one as python3.11."
        "$python" -c 'import ensurepip, venv' 2>/dev/null ||
            apt "python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
        "$python" -m venv .venv || fail "the virtual environment .venv could not be made: remove it, then run it again."
    fi
    echo "Installing drivefs$1 into .venv" >&2
    .venv/bin/python -m pip install -q --disable-pip-version-check -e ".$1" ||
        fail "pip could not install drivefs and what it needs: its message is above."
    echo "$current" >"$stamp"
}
