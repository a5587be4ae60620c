#!/usr/bin/env bash
# Makes .venv with hwloop in it, and installs ngspice and a browser for the tests where that is allowed. Called by `make setup`.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*" >&2; }

# Installs Debian packages as root, with sudo when not root; fails where neither is possible.
apt_install() {
    local root=()
    command -v apt-get >/dev/null || return 1
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || return 1
        root=(sudo)
    fi
    "${root[@]}" apt-get update -qq || say "apt-get update failed; trying with the lists at hand"
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@" >/dev/null
}

have_libngspice() { PATH="$PATH:/sbin:/usr/sbin" ldconfig -p 2>/dev/null | grep -q 'libngspice\.so'; }

if ! command -v ngspice >/dev/null || ! have_libngspice; then
    say "installing ngspice and libngspice0"
    apt_install ngspice libngspice0 ||
        say "could not install them; hwloop works without, but its SPICE check does not run." \
            "To have it: apt-get install ngspice libngspice0"
fi

if ! command -v chromium >/dev/null && ! command -v chromium-browser >/dev/null && ! command -v google-chrome >/dev/null; then
    say "installing chromium, in which the tests look at reports"
    apt_install chromium || say "could not install it; those tests are skipped. To have them: apt-get install chromium"
fi

python=""
for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    say "no Python 3.11 or newer found; install one, or name it: make setup PYTHON=/path/to/python3"
    exit 1
fi

if [ ! -x .venv/bin/python ] || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        package=$("$python" -c 'import sys; print(f"python{sys.version_info[0]}.{sys.version_info[1]}-venv")')
        say "installing $package"
        apt_install "$package" || { say "install $package and try again"; exit 1; }
    fi
    say "making .venv with $("$python" --version)"
    "$python" -m venv .venv
fi
pip=(.venv/bin/python -m pip --disable-pip-version-check)

# torch first: on a machine without an NVIDIA GPU its CPU build is a tenth of the size of the default one.
torch=$(sed -n 's/^torch==//p' constraints.txt)
if ! "${pip[@]}" show torch 2>/dev/null | grep -q "^Version: $torch\(+.*\)\?$"; then
    say "installing torch $torch"
    if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then
        "${pip[@]}" install -q "torch==$torch"
    else
        "${pip[@]}" install -q "torch==$torch+cpu" 2>/dev/null || "${pip[@]}" install -q "torch==$torch"
    fi
fi

say "installing hwloop and its tools"
"${pip[@]}" install -q -c constraints.txt -e '.[dev]'
say "done"
