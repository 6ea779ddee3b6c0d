#!/usr/bin/env bash
# What launch/tpu_pod.sh has each worker of a TPU slice do:
#
#   tpu_worker.sh install BUCKET CORPUS   mounts the bucket, installs bertjax, copies the corpus; can be repeated
#   tpu_worker.sh start ARGUMENT ...      starts bertjax.train with these arguments
#   tpu_worker.sh state                   prints "bertjax: running", "bertjax: exit N", or "bertjax: none"
#   tpu_worker.sh stop                    asks the run to save and stop, and waits for it
#
# The run is a systemd unit, so it outlives the connection, and is asked to save when its machine shuts down. The mounted
# bucket is a unit that the run depends on, so that it is still there while the run saves.
set -euo pipefail

MOUNT=${BERTJAX_MOUNT:-/mnt/bertjax}
LOCAL=${BERTJAX_LOCAL:-/var/lib/bertjax}
SOURCE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

mount_bucket() {
  if ! command -v gcsfuse >/dev/null; then
    local key=/usr/share/keyrings/gcsfuse.asc packages=https://packages.cloud.google.com/apt
    curl -fsSL $packages/doc/apt-key.gpg | sudo tee $key >/dev/null
    echo "deb [signed-by=$key] $packages gcsfuse-$(lsb_release -cs) main" |
      sudo tee /etc/apt/sources.list.d/gcsfuse.list >/dev/null
    # Machines that have just booted install updates: wait for them.
    sudo apt-get -qq -o DPkg::Lock::Timeout=600 update
    sudo apt-get -qq -o DPkg::Lock::Timeout=600 install -y gcsfuse
  fi
  sudo mkdir -p "$MOUNT"
  if ! mountpoint -q "$MOUNT"; then
    sudo systemctl reset-failed bertjax-bucket 2>/dev/null || true
    # Names are not cached, for other workers write there too. Files go to the bucket at each fsync, not only when they
    # are closed. They are private, as the processes' shared secret has to be.
    sudo systemd-run --quiet --unit=bertjax-bucket gcsfuse --foreground \
      -o allow_other --uid="$(id -u)" --gid="$(id -g)" --file-mode=600 --dir-mode=700 --implicit-dirs \
      --metadata-cache-ttl-secs=0 --metadata-cache-negative-ttl-secs=0 --enable-streaming-writes=false "$1" "$MOUNT"
    for _ in $(seq 60); do
      mountpoint -q "$MOUNT" && break
      sleep 1
    done
    mountpoint -q "$MOUNT" || fail "the bucket $1 could not be mounted; see: journalctl -u bertjax-bucket"
  fi
}

# Checkpoints get their names by renaming their folders, which a bucket without a hierarchical namespace cannot do.
check_renaming() {
  local probe
  probe=$MOUNT/.probe-$(hostname)
  rm -rf "$probe" "$probe.renamed"
  { mkdir "$probe" && touch "$probe/file" && mv -T "$probe" "$probe.renamed" && rm -r "$probe.renamed"; } ||
    fail "folders cannot be made and renamed in the bucket $1: it needs a hierarchical namespace, and to be writable"
}

install_bertjax() {
  PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --quiet --user uv
  python3 -m uv venv --quiet --allow-existing --python 3.12 "$LOCAL/venv"
  cd "$SOURCE"
  python3 -m uv pip install --quiet --python "$LOCAL/venv/bin/python" --constraint requirements.lock '.[tpu]'
}

copy_corpus() {
  mkdir -p "$LOCAL/corpus"
  gcloud storage rsync --recursive --delete-unmatched-destination-objects "gs://$1/$2" "$LOCAL/corpus"
}

start() {
  # systemd replaces $NAME in a command; $$ is a plain dollar sign to it.
  local arguments=("${@//\$/\$\$}")
  stop
  sudo systemctl reset-failed bertjax 2>/dev/null || true
  sudo systemd-run --quiet --unit=bertjax --uid="$(id -u)" --working-directory="$SOURCE" \
    --property=After=bertjax-bucket.service --property=Requires=bertjax-bucket.service \
    --property=RemainAfterExit=yes --property=KillMode=mixed --property=TimeoutStopSec=300 \
    --property=LimitMEMLOCK=infinity --property=LimitNOFILE=1048576 \
    --property=StandardOutput="append:$LOCAL/run.log" --property=StandardError="append:$LOCAL/run.log" \
    "$LOCAL/venv/bin/python" -m bertjax.train "${arguments[@]}"
}

stop() {
  sudo systemctl stop bertjax 2>/dev/null || true
}

state() {
  local LoadState ActiveState SubState ExecMainCode ExecMainStatus
  eval "$(systemctl show bertjax --property=LoadState,ActiveState,SubState,ExecMainCode,ExecMainStatus)"
  case $LoadState/$ActiveState/$SubState in
    loaded/active/exited | loaded/failed/*)
      # 1: it exited with this status. Else a signal of this number ended it, which is 128 more as an exit code.
      [ "$ExecMainCode" = 1 ] || ExecMainStatus=$((128 + ExecMainStatus))
      # How jax ends when process 0 is lost before bertjax sees it.
      [ "$ExecMainStatus" != 134 ] || ExecMainStatus=71
      echo "bertjax: exit $ExecMainStatus"
      ;;
    # A machine that has started anew knows of no unit.
    not-found/* | */inactive/*) echo "bertjax: none" ;;
    *) echo "bertjax: running" ;;
  esac
}

fail() {
  echo "error: $(hostname): $1" >&2
  exit 2
}

command=$1
shift
case $command in
  install)
    mount_bucket "$1"
    check_renaming "$1"
    install_bertjax
    copy_corpus "$1" "$2"
    ;;
  start) start "$@" ;;
  state) state ;;
  stop) stop ;;
  *) fail "there is no command '$command'" ;;
esac
