#!/usr/bin/env bash
# Make .venv with the pinned dependencies, and check that MuJoCo can render without a screen.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

find_python() {
    local name
    for name in "${PYTHON:-}" python3 python3.13 python3.12 python3.11; do
        [ -n "$name" ] && command -v "$name" >/dev/null || continue
        "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$name" && return
    done
    return 1
}

make_venv() {
    local python
    python=$(find_python) || fail "no Python 3.11 or newer found. Install one (Debian, Ubuntu: python3) or set PYTHON."
    "$python" -c 'import venv, ensurepip' 2>/dev/null ||
        fail "$python has no venv module. Install it (Debian, Ubuntu: apt-get install python3-venv)."
    [ -x .venv/bin/python ] && .venv/bin/python -c 'import pip' 2>/dev/null || "$python" -m venv --clear .venv
}

install_packages() {
    echo "setup: installing the pinned dependencies into .venv (minutes on the first run)"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]' ||
        fail "pip could not install the dependencies (see above). Check the network, then run make setup again."
}

can_render() {
    MUJOCO_GL=egl .venv/bin/python -m rlco.engines.rendering_check >.venv/rendering_check.log 2>&1
}

install_egl() {
    local packages="libegl1 libgl1-mesa-dri libopengl0" sudo=""
    local manual="MuJoCo cannot render with EGL here. Install the packages $packages (Debian, Ubuntu: apt-get install $packages), then run make setup again."
    command -v apt-get >/dev/null || fail "$manual"
    if [ "$(id -u)" -ne 0 ]; then
        sudo="sudo -n"
        $sudo true 2>/dev/null || fail "$manual"
    fi
    echo "setup: installing $packages for rendering without a screen"
    # shellcheck disable=SC2086
    { $sudo apt-get update && $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y $packages; } \
        >.venv/apt.log 2>&1 || fail "$(tail -n 1 .venv/apt.log). $manual"
}

make_venv
install_packages
if [ "$(uname)" = Linux ] && ! can_render; then
    install_egl
    can_render || fail "MuJoCo still cannot render with EGL: $(tail -n 1 .venv/rendering_check.log)"
fi
echo "setup: done"
