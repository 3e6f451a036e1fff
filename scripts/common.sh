# Sourced by the programs of this folder, before anything else.
# shellcheck shell=sh
set -eu
cd "$(dirname "$0")/.."
PATH="$PATH:/usr/sbin:/sbin"

# asks_for_help ARGUMENT...
asks_for_help() {
    case " $* " in
    *" --help "* | *" -h "*) return 0 ;;
    esac
    return 1
}

# Print the comment that a program begins with.
print_help() {
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "scripts/${0##*/}"
}

# run_module MODULE ARGUMENT...: in .venv, made if it is missing, with the Debian $packages and pip's $requirements.
# With PYTHON set, by that interpreter, and nothing is installed.
run_module() {
    # shellcheck disable=SC2086,SC2154 # the list, which the program may set, is meant to be split
    [ -n "${PYTHON-}" ] || asks_for_help "$@" || scripts/install-debian-packages ${packages-}
    run_without_packages "$@"
}

# run_without_packages MODULE ARGUMENT...: likewise, but without Debian packages, and so without root.
run_without_packages() {
    # shellcheck disable=SC2086 # as above
    if [ -z "${PYTHON-}" ]; then
        [ -x .venv/bin/python ] || python3 -m venv .venv
        .venv/bin/pip install --quiet --editable ${requirements:-.}
        PYTHON=.venv/bin/python
    fi
    exec "$PYTHON" -m "$@"
}
