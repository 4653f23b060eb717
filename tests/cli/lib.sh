# shellcheck shell=bash disable=SC2034
# lib.sh - what the tests of the program share: run it, look at its status, its output, its one line of complaint.
# Sourced by tests/cli/*.test, which run in the repository's root with LARDER_BIN set.
set -u
larder=$LARDER_BIN
model=models/teller-18m-q8_0.gguf
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
export XDG_CACHE_HOME="$dir/cache" XDG_DATA_HOME="$dir/data" XDG_STATE_HOME="$dir/state"

fail() {
    echo "$(caller 1 2>/dev/null || caller): $*" >&2
    [ -s "$dir/err" ] && sed 's/^/    stderr: /' "$dir/err" >&2
    exit 1
}
skip() {
    echo "$*"
    exit 77
}
need_python() { command -v python3 >/dev/null || skip "python3 is not there"; }
# gives STATUS ARG...: the program ends with that status. Its output is in $dir/out and $dir/err.
gives() {
    local want=$1 got
    shift
    timeout -k 5 60 "$larder" "$@" >"$dir/out" 2>"$dir/err" </dev/null
    got=$?
    [ "$got" = "$want" ] || fail "larder $*: status $got, not $want"
}
# complains STATUS PATTERN ARG...: and says why in one line on standard error that matches, with nothing on the other
complains() {
    local status=$1 pattern=$2
    shift 2
    gives "$status" "$@"
    [ "$(wc -l <"$dir/err")" = 1 ] || fail "larder $*: not one line"
    grep -Eqi -- "$pattern" "$dir/err" || fail "larder $*: nothing like '$pattern'"
    [ -s "$dir/out" ] && fail "larder $*: wrote on standard output"
    return 0
}
# json EXPRESSION: Python's view of $dir/out as JSON, `o`, must be true
json() {
    python3 -c 'import json, sys
o = json.load(open(sys.argv[1]))
assert eval(sys.argv[2]), (sys.argv[2], o)' "$dir/out" "$1" || fail "$1"
}
