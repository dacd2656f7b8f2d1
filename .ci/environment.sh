# Sourced by examples/quickstart, tests/run and .ci/run: each works in a virtual environment of its own, made here.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
unset PYTHONPATH PYTHONHOME  # another project's packages must not leak in
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

fail() {
    printf '%s: %s\n' "$(basename "$0")" "$1" >&2
    exit 1
}

# The first Python of at least 3.11 that can make virtual environments; PYTHON=... leaves no choice.
find_python() {
    local candidate candidates=(python3 python3.13 python3.12 python3.11 python3.14 /usr/bin/python3)
    if [[ -n ${PYTHON:-} ]]; then
        candidates=("$PYTHON")
    fi
    for candidate in "${candidates[@]}"; do
        if "$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    return 1
}

# apt_install PACKAGE: as root or by sudo; fails where there is neither, or no apt-get.
apt_install() {
    command -v apt-get >/dev/null || return 1
    local as_root=()
    if [[ $(id -u) != 0 ]]; then
        command -v sudo >/dev/null || return 1
        as_root=(sudo)
    fi
    echo "installing $1 with apt-get" >&2
    "${as_root[@]}" apt-get update -qq >&2 &&
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$1" >&2
}

# Debian ships Python without the means to make virtual environments; the package python3-venv brings both.
install_python() {
    [[ -z ${PYTHON:-} ]] && apt_install python3-venv
}

# Reports of runs are looked at in a real browser.
need_chromium() {
    command -v chromium >/dev/null || apt_install chromium ||
        fail "needs the browser chromium to look at reports; install it (Debian: apt-get install chromium)"
}

# make_environment NAME INSTALL FILE...: .venv/NAME in which the function INSTALL has run, given its Python. It is
# reused as long as the FILEs (folders: everything in them), the interpreter and the checkout's place are the same.
make_environment() {
    local name=$1 install=$2 python stamp environment
    shift 2
    python=$(find_python) || { install_python && python=$(find_python); } ||
        fail "needs Python 3.11 or newer with the venv module; install it (Debian: apt-get install python3-venv) or set PYTHON"
    environment=$root/.venv/$name
    stamp=$(
        cd "$root" || exit
        pwd
        "$python" -c 'import sys; print(sys.executable, sys.version)'
        find "$@" .ci/environment.sh -type f ! -name '*.pyc' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
    )
    [[ -f $environment/stamp && $(<"$environment/stamp") == "$stamp" ]] && return
    echo "making the environment .venv/$name (once; takes a minute or two)" >&2
    "$python" -m venv --clear "$environment" || fail "cannot make the virtual environment $environment"
    "$install" "$environment/bin/python" >&2 || fail "cannot install what is needed into $environment (see above)"
    printf '%s\n' "$stamp" >"$environment/stamp"
}

# The core and every plugin.
projects=("$root")
for project in "$root"/plugins/*; do
    if [[ -f $project/pyproject.toml ]]; then
        projects+=("$project")
    fi
done

# .venv/tests has the checkout in place of installed packages, what tests and checks need, and the references that
# results are compared with. torch goes first and alone, so that nothing that depends on it chooses another build.
install_tests() {
    local editable=("${projects[@]/#/--editable=}")
    editable[0]+="[dev]"
    "$1" -m pip install --quiet torch==2.13.0 && "$1" -m pip install --quiet "${editable[@]}"
}

make_tests_environment() {
    make_environment tests install_tests lambdaml_core/__init__.py "${projects[@]/%//pyproject.toml}"
}

# build_wheels PYTHON FOLDER: source archive and wheel of the core and every plugin, each wheel made from the archive.
build_wheels() {
    local project
    for project in "${projects[@]}"; do
        "$1" -m build --no-isolation --outdir "$2" "$project" || return
    done
}
