#!/usr/bin/env bash
# Puts the variables into launch/gke_jobset.yaml and applies it. `launch/gke_jobset.sh --help` says how.
# Written for bash 3.2 and later.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=launch/commands.sh
. "$HERE/commands.sh"

usage() {
  cat <<'END'
launch/gke_jobset.sh [--dry-run] COMMAND [-- ARGUMENT ...]

  apply    starts the run in the cluster that kubectl is set to
  status   the JobSet and its pods
  logs     the log of process 0, as it grows
  delete   lets the run save, and deletes the JobSet (not the cluster, nor its machines)

--dry-run prints the commands, and for apply the YAML as well. ARGUMENTs go to bertjax.train.

Variables, NAME for all commands, the others for apply:
  NAME             of the JobSet: small letters, digits, hyphens
  IMAGE            a container image with bertjax and configs/ in its working folder
  SERVICE_ACCOUNT  a Kubernetes service account that may write to the bucket
  BUCKET           a bucket with a hierarchical namespace
  CORPUS           folder in the bucket that bertjax.prepare made
  CONFIG           a config of the image, such as large or configs/large.py
  WORKDIR          the run's folder in the bucket; default runs/$NAME
END
}

check() {
  local name
  case $command in
    apply) require apply NAME IMAGE SERVICE_ACCOUNT BUCKET CORPUS CONFIG ;;
    status | logs | delete) require "$command" NAME ;;
    *) fail "there is no command '$command'; there are apply, status, logs, delete" ;;
  esac
  WORKDIR=${WORKDIR:-runs/$NAME}
  # shellcheck disable=SC2153  # NAME is no misspelt name
  case $NAME in
    *[!a-z0-9-]* | -*) fail "NAME=$NAME: a JobSet's name is small letters, digits and hyphens" ;;
  esac
  for name in IMAGE SERVICE_ACCOUNT BUCKET CORPUS CONFIG WORKDIR; do
    case ${!name:-} in
      *[!A-Za-z0-9_./:@-]*) fail "$name=${!name}: letters, digits and _ . / : @ - alone" ;;
    esac
  done
  for name in BUCKET CORPUS WORKDIR; do
    case ${!name:-} in
      /* | gs:*) fail "$name=${!name}: written without gs:// and without a slash before it" ;;
    esac
  done
  for name in ${extra[@]+"${extra[@]}"}; do
    case $name in
      *[[:cntrl:]]*) fail "an argument holds a line break or another control character" ;;
    esac
  done
  [ -n "$dry" ] || type kubectl >/dev/null 2>&1 || fail "kubectl is not installed"
}

# The arguments as JSON strings, which YAML reads as well. In Kubernetes $$( is a plain $(.
arguments_as_json() {
  local argument separator=''
  for argument in "$@"; do
    # shellcheck disable=SC2016  # Kubernetes' own variables
    printf '%s"%s"' "$separator" "$(printf '%s' "$argument" | sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/\$(/$$(/g')"
    separator=', '
  done
}

# The template with its variables put in, without its comment lines.
filled_in() {
  local name script='' arguments line placeholder="\"\${ARGUMENTS}\""
  arguments=$(arguments_as_json ${extra[@]+"${extra[@]}"})
  for name in NAME IMAGE SERVICE_ACCOUNT BUCKET CORPUS CONFIG WORKDIR; do
    script="$script;s|\${$name}|${!name}|g"
  done
  sed -e "${script#;}" -e '/^ *#/d' "$HERE/gke_jobset.yaml" | while IFS= read -r line; do
    case $line in
      *"$placeholder"*) printf '%s%s%s\n' "${line%%"$placeholder"*}" "$arguments" "${line##*"$placeholder"}" ;;
      *) printf '%s\n' "$line" ;;
    esac
  done
}

read_command_line "$@"
check

case $command in
  apply)
    yaml=$(filled_in)
    echo 'kubectl apply --filename=-'
    if [ -n "$dry" ]; then
      printf '%s\n' "$yaml"
    else
      printf '%s\n' "$yaml" | kubectl apply --filename=-
    fi
    ;;
  status)
    act kubectl get jobset "$NAME"
    act kubectl get pods "--selector=jobset.sigs.k8s.io/jobset-name=$NAME" --output=wide
    ;;
  logs) act kubectl logs --follow --container=train \
    "--selector=jobset.sigs.k8s.io/jobset-name=$NAME,batch.kubernetes.io/job-completion-index=0" ;;
  delete) act kubectl delete jobset "$NAME" --cascade=foreground ;;
esac
