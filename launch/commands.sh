# shellcheck shell=bash
# What tpu_pod.sh and gke_jobset.sh share, for bash 3.2 and later: variables that are checked first, commands that are
# printed before they are run. With $dry set they are printed only. Commands go to file descriptor 3, which is standard
# output, so that they do not get into the answers of commands.
exec 3>&1
dry=''

fail() {
  echo "error: $1" >&2
  exit "${2:-2}"
}

# Names the variables that are not set, all at once: require COMMAND NAME ...
require() {
  local name command=$1 missing=''
  shift
  for name in "$@"; do
    [ -n "${!name:-}" ] || missing="$missing $name"
  done
  [ -z "$missing" ] || fail "$command needs these variables, which are not set:$missing (see --help)"
}

# Splits the command line of a script into $command, $dry and, after --, the array $extra. Needs a function usage.
read_command_line() {
  command=''
  extra=()
  while [ $# -gt 0 ]; do
    case $1 in
      --dry-run) dry=1 ;;
      --help | -h) usage && exit 0 ;;
      --)
        shift
        # shellcheck disable=SC2034  # for the script that sources this
        extra=("$@")
        break
        ;;
      -*) fail "there is no option $1; arguments for bertjax.train come after --" ;;
      *) [ -z "$command" ] || fail "one command only, not '$command' and '$1'" && command=$1 ;;
    esac
    shift
  done
  [ -n "$command" ] || { usage >&2 && exit 2; }
}

# A word as one would type it: in single quotes where it needs any, after the = of an option.
quote() {
  case $1 in
    --[a-z]*=*[!A-Za-z0-9_./:=,@%+-]*) printf '%s=' "${1%%=*}" && quote "${1#*=}" ;;
    '' | *[!A-Za-z0-9_./:=,@%+-]*) printf "'%s'" "$(printf '%s' "$1" | sed "s/'/'\\\\''/g")" ;;
    *) printf '%s' "$1" ;;
  esac
}

quoted() {
  local word separator=''
  for word in "$@"; do
    printf '%s' "$separator"
    quote "$word"
    separator=' '
  done
}

say() { echo "# $*" >&3; }

# Runs a command that changes something, or that people read; prints it first.
act() {
  quoted "$@" >&3
  echo >&3
  [ -n "$dry" ] || "$@" </dev/null
}

# Prints the answer of a command: ask ASSUMED COMMAND ... A dry run takes ASSUMED for the answer.
ask() {
  local assumed=$1
  shift
  if [ -z "$dry" ]; then
    "$@" </dev/null
  else
    quoted "$@" >&3
    echo >&3
    echo "$assumed"
  fi
}
