#!/usr/bin/env bash
# Pretraining on a Cloud TPU slice, from creating it to deleting it. `launch/tpu_pod.sh --help` says how.
# What the workers do is in launch/tpu_worker.sh. Written for bash 3.2 and later.
set -euo pipefail

MOUNT=/mnt/bertjax      # where every worker sees the bucket
LOCAL=/var/lib/bertjax  # on every worker's own disk: program, corpus, log
WORKER=$LOCAL/source/launch/tpu_worker.sh
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=launch/commands.sh
. "$ROOT/launch/commands.sh"

usage() {
  cat <<'END'
launch/tpu_pod.sh [--dry-run] COMMAND [-- ARGUMENT ...]

  up       create, setup, run; after a preemption everything again, until the run is done or fails
  create   creates the slice and waits until it is ready
  setup    puts this checkout and the corpus on all workers, and mounts the bucket there
  run      starts the training on all workers (or finds it running), and waits for its end
  resume   after a preemption, or when `up` was left: creates again what is gone, and goes on like `up`
  status   the state of the slice and of the run on every worker
  logs     the log of worker 0, as it grows
  delete   asks a run to save and stop, then deletes the slice

--dry-run prints every command and runs none. ARGUMENTs go to bertjax.train, such as --config.parallel.fsdp=16.
Ctrl-C leaves the run alone: `resume` finds it again. Nothing is deleted at the end: that is what `delete` is for.

Variables, by the commands that need them:
  all                    PROJECT  the Google Cloud project
                         ZONE     such as us-west4-a
                         NAME     of the slice: small letters, digits, hyphens
  create up resume       TYPE     accelerator type, such as v5litepod-256, v6e-64, v5p-128
  setup run up resume    BUCKET   a bucket with a hierarchical namespace, in the zone's region
                         CORPUS   folder in the bucket that bertjax.prepare made, such as corpora/wiki-books
  run up resume          CONFIG   a config of this checkout, such as large or configs/large.py
and if wanted:
  VERSION       runtime version; known by itself for v4, v5e, v5p and v6e (TPU7x is to be had on GKE alone)
  WORKDIR       the run's folder in the bucket; default runs/$NAME
  SPOT=1        cheaper machines that can be taken away
  QUEUED=1      a queued resource: waits in Google's queue until there is capacity
  POLL_SECONDS  between two looks at the run; default 60
  RESTARTS      at most so many; default 100

The exit code of run, resume and up is the run's: 0 done, 2 mistake in the config, 3 in the data, 4 diverged. 75 (stopped
and saved) and 71 (another process was lost) lead to a restart.
END
}

# ---------------------------------------------------------------- what is to be checked first

needs_of() {
  case $1 in
    create) echo PROJECT ZONE NAME TYPE ;;
    setup) echo PROJECT ZONE NAME BUCKET CORPUS ;;
    run) echo PROJECT ZONE NAME BUCKET CORPUS CONFIG ;;
    up | resume) echo PROJECT ZONE NAME TYPE BUCKET CORPUS CONFIG ;;
    status | logs | delete) echo PROJECT ZONE NAME ;;
    *) fail "there is no command '$1'; there are up, create, setup, run, resume, status, logs, delete" ;;
  esac
}

version_of() {
  case $1 in
    v4-*) echo tpu-ubuntu2204-base ;;
    v5litepod-*) echo v2-alpha-tpuv5-lite ;;
    v5p-*) echo v2-alpha-tpuv5 ;;
    v6e-*) echo v2-alpha-tpuv6e ;;
    tpu7x-* | v7x-*)
      fail "TYPE=$1: Google offers TPU7x on GKE alone (see launch/gke_jobset.sh); known here are v4, v5litepod, v5p and v6e"
      ;;
    *) fail "no runtime version is known for TYPE=$1; known are v4, v5litepod, v5p and v6e; give VERSION for another" ;;
  esac
}

check() {
  local needs name
  needs=$(needs_of "$command")
  # shellcheck disable=SC2086  # words
  require "$command" $needs
  # shellcheck disable=SC2153  # NAME is no misspelt name
  case $NAME in
    *[!a-z0-9-]* | -*) fail "NAME=$NAME: a slice's name is small letters, digits and hyphens" ;;
  esac
  BUCKET=${BUCKET:-} CORPUS=${CORPUS:-} CONFIG=${CONFIG:-} WORKDIR=${WORKDIR:-runs/$NAME}
  BUCKET=${BUCKET#gs://} BUCKET=${BUCKET%/}
  case $BUCKET in
    */*) fail "BUCKET=$BUCKET: the bucket's name alone; folders in it go into CORPUS and WORKDIR" ;;
  esac
  for name in CORPUS WORKDIR; do
    case ${!name} in
      /* | *:*) fail "$name=${!name}: a folder in the bucket, written without the bucket, such as runs/large" ;;
    esac
  done
  case $CONFIG in
    /* | ../*) fail "CONFIG=$CONFIG: a path inside of this checkout, such as configs/large.py" ;;
  esac
  [ -z "$CONFIG" ] || [ -f "$ROOT/$CONFIG" ] || [ -f "$ROOT/configs/$CONFIG.py" ] ||
    fail "CONFIG=$CONFIG: there is no such config in $ROOT"
  SPOT=${SPOT:-} QUEUED=${QUEUED:-} POLL_SECONDS=${POLL_SECONDS:-60} RESTARTS=${RESTARTS:-100}
  for name in SPOT QUEUED; do
    case ${!name} in
      '' | 1) ;;
      *) fail "$name=${!name}: 1 or nothing" ;;
    esac
  done
  for name in POLL_SECONDS RESTARTS; do
    case ${!name} in
      '' | *[!0-9]*) fail "$name=${!name}: a whole number" ;;
    esac
  done
  case " $needs " in
    *" TYPE "*) VERSION=${VERSION:-$(version_of "$TYPE")} ;;
  esac
  [ -n "$dry" ] || type gcloud >/dev/null 2>&1 || fail "gcloud is not installed: https://cloud.google.com/sdk"
  place=("--project=$PROJECT" "--zone=$ZONE" --quiet)
}

# ---------------------------------------------------------------- the slice

tpu=(gcloud compute tpus tpu-vm)
queue=(gcloud compute tpus queued-resources)

# What Google says of $NAME in a list: its state, nothing where it is not listed, UNKNOWN where there is no answer.
# A dry run takes the first argument for granted.
listed() {
  local assumed=$1 field=$2 answer
  shift 2
  answer=$(ask "$NAME $assumed" "$@" list "${place[@]}" "--format=value(name.basename(),$field)") || answer="$NAME UNKNOWN"
  printf '%s\n' "$answer" | awk -v name="$NAME" '$1 == name {print $2}'
}

# READY, ABSENT, GONE (it is listed, but will not come back), COMING, or UNKNOWN.
slice_state() {
  local state
  if [ -n "$QUEUED" ]; then
    state=$(listed "$1" state.state "${queue[@]}")
    case $state in
      ACTIVE | READY) ;;
      SUSPENDED | FAILED) echo GONE && return ;;
      '' | ABSENT) echo ABSENT && return ;;
      UNKNOWN) echo UNKNOWN && return ;;
      *) echo COMING && return ;;
    esac
  fi
  state=$(listed "$1" state "${tpu[@]}")
  case $state in
    READY | UNKNOWN) echo "$state" ;;
    PREEMPTED | TERMINATED | STOPPED) echo GONE ;;
    # A queued resource that has lost its node is over.
    '' | ABSENT) if [ -n "$QUEUED" ]; then echo GONE; else echo ABSENT; fi ;;
    *) echo COMING ;;
  esac
}

request_slice() {
  if [ -n "$QUEUED" ]; then
    act "${queue[@]}" create "$NAME" "${place[@]}" "--node-id=$NAME" "--accelerator-type=$TYPE" \
      "--runtime-version=$VERSION" --scopes=https://www.googleapis.com/auth/cloud-platform ${SPOT:+--spot}
  else
    act "${tpu[@]}" create "$NAME" "${place[@]}" "--accelerator-type=$TYPE" "--version=$VERSION" \
      --scopes=https://www.googleapis.com/auth/cloud-platform ${SPOT:+--spot}
  fi
}

remove_slice() {
  if [ -n "$QUEUED" ]; then
    act "${queue[@]}" delete "$NAME" "${place[@]}" --force
  else
    act "${tpu[@]}" delete "$NAME" "${place[@]}"
  fi
}

pause() {
  [ -n "$dry" ] || sleep "$POLL_SECONDS"
}

# Waits for the slice. What is absent is requested, what is gone is deleted and requested again; a request that is
# refused is made again after a while, except for the very first one.
bring_up() {
  local state tries=0
  state=$(slice_state ABSENT)
  while [ "$state" != READY ]; do
    case $state in
      GONE)
        say "the slice is gone"
        remove_slice || true
        ;;
      ABSENT)
        tries=$((tries + 1))
        if ! request_slice; then
          [ "$1" = again ] && [ "$tries" -le "$RESTARTS" ] || fail "the slice $NAME could not be created" 1
        fi
        say "waiting until $NAME is ready"
        ;;
    esac
    pause
    state=$(slice_state READY)
  done
}

on_workers() {
  local which=$1 script=$2
  shift 2
  "$@" "${tpu[@]}" ssh "$NAME" "${place[@]}" "--worker=$which" "--command=$script"
}

# ---------------------------------------------------------------- the run

# Puts this checkout into the bucket: after a preemption, the workers get the very same.
upload() {
  local archive=${TMPDIR:-/tmp}/bertjax-$NAME.tar.gz
  # The caller's && switches set -e off in here.
  if ! act tar -czf "$archive" --exclude=__pycache__ -C "$ROOT" bertjax configs launch pyproject.toml requirements.lock README.md LICENSE ||
    ! act gcloud storage cp "$archive" "gs://$BUCKET/sources/$NAME.tar.gz" "--project=$PROJECT"; then
    fail "the program could not be put into the bucket" 1
  fi
  act rm -f "$archive"
}

install_all() {
  local source=$LOCAL/source
  on_workers all "set -e; sudo rm -rf $source; sudo install -d -o \$(id -u) $LOCAL $source;\
 gcloud storage cat $(quote "gs://$BUCKET/sources/$NAME.tar.gz") | tar -xz -C $source;\
 $WORKER install $(quoted "$BUCKET" "$CORPUS")" act
}

start_all() {
  on_workers all "$WORKER start $(quoted "--config=$CONFIG" "--workdir=$MOUNT/$WORKDIR" \
    "--config.data.corpus=$LOCAL/corpus" ${extra[@]+"${extra[@]}"})" act
}

# What the run is at one worker or at all: running, exit N, none; nothing where there is no answer.
run_state() {
  local answer
  answer=$(on_workers "$1" "$WORKER state || echo 'bertjax: none'" ask "bertjax: $2" 2>/dev/null) || true
  printf '%s\n' "$answer" | sed -n 's/^bertjax: //p'
}

is_running() {
  say "is there a run already?"
  [ "$(run_state 0 none)" = running ]
}

# The exit code of the whole run: one that is no reason for a restart weighs more than 71 and 75.
worst_of() {
  local code worst=0
  for code in "$@"; do
    case $code in
      0) ;;
      71 | 75) [ "$worst" != 0 ] || worst=$code ;;
      *) worst=$code && break ;;
    esac
  done
  echo "$worst"
}

# Waits for the end of the run and sets exit_code: 71 where its machines are gone, or have started anew.
await_end() {
  local first codes tries=10
  say "every $POLL_SECONDS s until it has ended:"
  while :; do
    first=$(run_state 0 'exit 0')
    case $first in
      exit*) break ;;
      none) exit_code=71 && return ;;
      '') case $(slice_state READY) in
        GONE | ABSENT) exit_code=71 && return ;;
      esac ;;
    esac
    pause
  done
  say "then the exit codes of all:"
  codes=$(run_state all 'exit 0')
  while printf '%s' "$codes" | grep -q running && [ $((tries -= 1)) -gt 0 ]; do
    pause
    codes=$(run_state all 'exit 0')
  done
  # shellcheck disable=SC2046  # one word for each worker
  exit_code=$(worst_of $(printf '%s\n' "$first" "$codes" | sed -e 's/^exit //' -e 's/^running$/71/' -e 's/^none$/71/'))
}

run_until_done() {
  local restarts=0
  is_running || start_all || say "it could not be started on all workers"
  await_end
  if [ -n "$dry" ]; then
    say "on 71 or 75, at most $RESTARTS times: a slice that is gone is deleted and created again, then set up and started"
    remove_slice
    request_slice
    install_all
    start_all
  fi
  while [ "$exit_code" = 71 ] || [ "$exit_code" = 75 ]; do
    restarts=$((restarts + 1))
    [ "$restarts" -le "$RESTARTS" ] || fail "the run has been restarted $RESTARTS times" "$exit_code"
    say "exit code $exit_code: restart $restarts"
    pause
    bring_up again
    install_all || say "not all workers could be set up"
    start_all || say "it could not be started on all workers"
    await_end
  done
}

finish() {
  say "exit code $exit_code; the slice costs money until \`launch/tpu_pod.sh delete\`"
  exit "$exit_code"
}

# ---------------------------------------------------------------- commands

exit_code=0
read_command_line "$@"
check

case $command in
  create) bring_up first ;;
  setup)
    ! is_running || fail "a run is going on; setup would take its program away"
    upload && install_all
    ;;
  run)
    is_running || start_all
    await_end
    finish
    ;;
  up | resume)
    if [ "$command" = up ]; then bring_up first; else bring_up again; fi
    is_running || { { [ "$command" = resume ] || upload; } && install_all; }
    run_until_done
    finish
    ;;
  status)
    act "${tpu[@]}" list "${place[@]}"
    on_workers all "$WORKER state" act
    ;;
  logs) on_workers 0 "tail -n 100 -F $LOCAL/run.log" act ;;
  delete)
    if [ "$(slice_state READY)" = READY ]; then
      on_workers all "$WORKER stop" act || say "the run could not be stopped on all workers"
    fi
    remove_slice
    ;;
esac
