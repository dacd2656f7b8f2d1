# Sourced by tests/run: the core and every plugin as users get them. From wheels alone; and each plugin's tests beside
# nothing but the core.

# The core and every plugin installed into a new environment from their wheels, with no index, and used from an empty
# folder with an empty home, as somebody does who has no checkout; redis:// too, with nothing configured.
test_wheels() (
    bin=$root/.venv/tests/bin
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    dist=$scratch/dist
    check build_wheels "$bin/python" "$dist"
    ours=("$dist"/*.whl)
    names=("${ours[@]##*/}")
    names=("${names[@]%%-*}")
    check "$bin/python" -m pip wheel --quiet --wheel-dir "$dist" "${ours[@]}"
    check "$bin/python" -m venv "$scratch/venv"
    PIP_CONFIG_FILE=/dev/null check "$scratch/venv/bin/pip" --isolated install --quiet --no-index --find-links "$dist" "${names[@]}"

    mkdir "$scratch/home" "$scratch/empty" && cd "$scratch/empty"
    for words in --version 'plugins --json' 'quickstart --json'; do
        check env HOME="$scratch/home" "$scratch/venv/bin/lambdaml" $words
    done
    check env HOME="$scratch/home" "$bin/python" -c '
import subprocess, sys
from lambdaml_redis.testing import redis_server
with redis_server() as server:
    sys.exit(subprocess.run([*sys.argv[1:], server.url]).returncode)
    ' "$scratch/venv/bin/lambdaml" bench collectives --workers 2 --sizes 1KB --repeats 9 --storage
)

# What users of the core have, and what tests of plugins need; .venv/lowest with the lowest versions that are allowed.
install_core() {
    "$1" -m pip install --quiet 'hatchling>=1.27' "$root[testing]"
}
install_lowest() {
    "$root/.venv/tests/bin/python" "$root/.ci/lowest.py" "$root/pyproject.toml" >"$(dirname "$1")/lowest.txt" &&
        "$1" -m pip install --quiet --constraint "$(dirname "$1")/lowest.txt" 'hatchling>=1.27' "$root[testing]"
}
make_core_environments() {
    make_environment core install_core lambdaml_core pyproject.toml README.md LICENSE
    make_environment lowest install_lowest lambdaml_core pyproject.toml README.md LICENSE .ci/lowest.py
}

# test_alone BASE FOLDER PROJECT: installs a copy of a project into an environment of its own, on top of .venv/BASE, so
# that a dependency which it does not declare is missing, and runs its tests.
test_alone() {
    local base=$root/.venv/$1 folder=$2 project=$3 extra= constraints=()
    local python=$folder/venv/bin/python copy=$folder/project
    mkdir -p "$folder" && cp -r "$project" "$copy" && "$base/bin/python" -m venv --without-pip "$folder/venv" || return
    "$base/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
        >"$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/core.pth" || return
    if [[ -d $copy/tests ]]; then
        extra='[testing]'
    fi
    if [[ $1 == lowest ]]; then
        "$root/.venv/tests/bin/python" "$root/.ci/lowest.py" "$copy/pyproject.toml" >"$folder/lowest.txt" || return
        constraints=(--constraint "$folder/lowest.txt")
    fi
    "$base/bin/python" -m pip --python "$python" install --quiet --no-build-isolation "${constraints[@]}" "$copy$extra" || return
    cd "$copy" || return
    if [[ -n $extra ]]; then
        "$python" -m pytest -q -W error -p no:cacheprovider tests
    fi
}

# Three at a time, since they wait for servers and processes, and what takes long first; what they print is shown when
# they are done. That new ones are typed and clean is tested in tests/cli.
test_plugins_alone() (
    works=()
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    mkdir "$scratch/new"
    make_core_environments
    for project in "${plugins[@]}"; do
        works+=("core $scratch/core-${project##*/} $project" "lowest $scratch/lowest-${project##*/} $project")
    done
    for project in "${examples[@]}"; do
        works+=("core $scratch/core-${project##*/} $project")
    done
    for kind in storage optimizer pattern model provider data-format; do
        (cd "$scratch" && "$root/.venv/core/bin/lambdaml" plugins new "$kind" "our-$kind" --into "$scratch/new" >/dev/null)
        works+=("core $scratch/core-our-$kind $scratch/new/lambdaml-our-$kind")
    done
    printf '%s\n' "${works[@]}" | xargs -P 3 -L 1 bash -c '
        source "$0/environment.sh" && source "$0/plugins.sh"
        log=$(test_alone "$@" 2>&1) && status=passed || status=FAILED
        printf "\n== %s, beside .venv/%s: %s\n%s\n" "${3##*/}" "$1" "$status" "$log"
        [[ $status == passed ]]
    ' "$root/.ci" || fail 'a plugin fails where it is installed alone (see above)'
)
