# Sourced by the other scripts: makes .venv with everything in it, once.
#
# `prepare` installs the package, `prepare dev` the test tools too. A stamp in .venv remembers the
# content of pyproject.toml and constraints.txt, so that the next call is done at once.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# step "what it does" command...   runs quietly, shows that it is alive, shows the log if it fails.
step() {
    local title=$1 log started pid
    shift
    log=$venv/install.log
    started=$SECONDS
    printf '%s ' "$title" >&2
    "$@" >"$log" 2>&1 &
    pid=$!
    while kill -0 "$pid" 2>/dev/null; do
        sleep 1
        if (((SECONDS - started) % 10 == 9)); then printf '.' >&2; fi
    done
    if ! wait "$pid"; then
        say "failed; the end of $log:"
        tail -n 25 "$log" >&2
        exit 1
    fi
    say "done ($((SECONDS - started)) s)"
}

supported() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2])' 2>/dev/null; }

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.10 python}; do
        if supported "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    die "Python 3.10 or newer is needed; install it, or name one: PYTHON=/path/to/python3 $0"
}

stamp_of() {
    "$1" - "$root" <<'PY'
import hashlib, pathlib, sys

root = pathlib.Path(sys.argv[1])
content = [(root / name).read_bytes() for name in ("pyproject.toml", "constraints.txt")]
print(hashlib.sha256(b"\0".join([*content, str(root).encode()])).hexdigest())
PY
}

fresh() { [[ -x $venv/bin/python && -f $1 && $(cat "$1") == "$(stamp_of "$venv/bin/python")" ]]; }

prepare() {
    local extra=${1:-} target=$root python pip stamp
    stamp=$venv/stamp${extra:+-$extra}
    if fresh "$stamp" || fresh "$venv/stamp-dev"; then return; fi
    if ! supported "$venv/bin/python"; then
        python=$(find_python)
        rm -rf "$venv"
        say "making $venv with $("$python" --version)"
        "$python" -m venv "$venv" || die "cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv"
    fi
    if [[ $(uname) == Linux && -z ${PIP_EXTRA_INDEX_URL:-} ]] && ! command -v nvidia-smi >/dev/null; then
        say "no NVIDIA driver found; torch may still bring CUDA libraries of several GB. To save that, stop, set"
        say "PIP_EXTRA_INDEX_URL to PyTorch's index of CPU builds (see its installation page) and start again"
    fi
    pip=("$venv/bin/python" -m pip install --disable-pip-version-check -c "$root/constraints.txt")
    # torch alone first: whatever else asks for it then takes the build that is there.
    step "installing torch" "${pip[@]}" torch
    step "installing superlink and what it needs" "${pip[@]}" -e "$target${extra:+[$extra]}"
    stamp_of "$venv/bin/python" >"$stamp"
}
