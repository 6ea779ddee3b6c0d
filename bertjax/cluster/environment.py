"""Finds the processes of a run: from flags, or from the environment variables of a cluster's launcher."""

import os
import re
import urllib.request
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bertjax.cli.command import whole_number
from bertjax.errors import ConfigError

DEFAULT_PORT = 8482  # jax's own default on TPU slices
_HIGH_PORTS = (61440, 4096)  # first and number: two jobs on one machine rarely get the same
_METADATA = "http://{host}/computeMetadata/v1/instance/attributes/{key}"
# How Linux shows the TPU chips of a machine: PCI vendor Google, and one of these devices (v3 to 7x).
_PCI, _GOOGLE = Path("/sys/bus/pci/devices"), "0x1ae0"
_TPU_CHIPS = ("0x0027", "0x0056", "0x005e", "0x0062", "0x0063", "0x006f", "0x0076")


@dataclass(frozen=True)
class ClusterMember:
    """Process ``process_id`` of ``num_processes``; process 0 listens at ``host``, ``port`` and ``port`` + 1.
    local_devices: numbers of this process's GPUs; None: all of its machine. found_by: the source of this."""

    host: str
    port: int
    num_processes: int
    process_id: int
    found_by: str
    local_devices: tuple[int, ...] | None = None


def find_cluster(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    environ: Mapping[str, str] = os.environ,
) -> ClusterMember | None:
    """The place of this process by the arguments (HOST:PORT, N, I), else by the environment; None for a single process.

    With ``num_processes`` 1 this process is alone, whatever the environment says. Raises ConfigError for settings that
    are incomplete or impossible.
    """
    if num_processes == 1 and coordinator is None and not process_id:
        return None
    if coordinator is not None and num_processes is not None and process_id is not None:
        host, port = _address(coordinator, "--coordinator")
        return _checked(ClusterMember(host, port, num_processes, process_id, "flags"))
    given = {"--coordinator": coordinator, "--num_processes": num_processes, "--process_id": process_id}
    missing = [name for name, value in given.items() if value is None]
    if len(missing) < len(given):
        raise ConfigError(f"{' and '.join(missing)} must be given too: every process needs all three")
    for name, find in FINDERS.items():
        found = find(environ)
        if found is not None:
            return None if found.num_processes == 1 else _checked(found, name)
    return None


def _checked(cluster: ClusterMember, source: str = "the flags") -> ClusterMember:
    if cluster.num_processes < 1 or not 0 <= cluster.process_id < cluster.num_processes:
        raise ConfigError(
            f"{source}: process {cluster.process_id} of {cluster.num_processes} is impossible; "
            f"processes are numbered from 0 to their number minus one"
        )
    return cluster


def _address(text: str, what: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    # The next port is used as well.
    number = whole_number(port)
    if not colon or not host or number is None or not 0 < number < 65535:
        raise ConfigError(f"{what} must be HOST:PORT such as 10.0.0.1:{DEFAULT_PORT}, not {text[:100]!r}")
    return host.strip("[]"), number


def _numbers(environ: Mapping[str, str], *names: str) -> list[int]:
    for name in names:
        if whole_number(environ.get(name, "")) is None:
            raise ConfigError(f"the environment variable {name} must be a number, not {environ.get(name, '')[:40]!r}")
    return [int(environ[name]) for name in names]


def _port(environ: Mapping[str, str], job: int | None = None) -> int:
    if environ.get("BERTJAX_PORT"):
        (port,) = _numbers(environ, "BERTJAX_PORT")
        if not 0 < port < 65535:  # the next one is used as well
            raise ConfigError(f"the environment variable BERTJAX_PORT must be from 1 to 65534, not {port}")
        return port
    return DEFAULT_PORT if job is None else _HIGH_PORTS[0] + job * 2 % _HIGH_PORTS[1]


def from_variables(environ: Mapping[str, str]) -> ClusterMember | None:
    """BERTJAX_COORDINATOR, BERTJAX_NUM_PROCESSES and BERTJAX_PROCESS_ID: the flags as variables."""
    names = ("BERTJAX_COORDINATOR", "BERTJAX_NUM_PROCESSES", "BERTJAX_PROCESS_ID")
    there = [name for name in names if environ.get(name)]
    if names[1] not in there:  # a coordinator alone may be meant for Open MPI
        return None
    if missing := [name for name in names if name not in there]:
        raise ConfigError(f"the environment has {', '.join(there)} but not {' and '.join(missing)}")
    host, port = _address(environ[names[0]], names[0])
    count, index = _numbers(environ, *names[1:])
    return ClusterMember(host, port, count, index, "BERTJAX_ variables")


def from_open_mpi(environ: Mapping[str, str]) -> ClusterMember | None:
    """mpirun: rank and size; the coordinator is at mpirun's own address, or 127.0.0.1 if all run on one machine."""
    if "OMPI_COMM_WORLD_SIZE" not in environ:
        return None
    names = ("RANK", "SIZE", "LOCAL_RANK", "LOCAL_SIZE")
    rank, size, local_rank, local_size = _numbers(environ, *(f"OMPI_COMM_WORLD_{name}" for name in names))
    # Such as 1531576320.0;tcp://10.96.0.1,10.148.0.1:34911 (Open MPI 4; version 5 no longer says)
    hnp_uri = environ.get("OMPI_MCA_orte_hnp_uri", "")
    uri = re.search(r"tcp://([^,:]+)|tcp6://\[([^,\]]+)", hnp_uri)
    port = _port(environ, zlib.crc32((hnp_uri or environ.get("PMIX_NAMESPACE", "")).encode()))
    if environ.get("BERTJAX_COORDINATOR"):
        host, port = _address(environ["BERTJAX_COORDINATOR"], "BERTJAX_COORDINATOR")
    elif local_size == size:
        host = "127.0.0.1"
    elif uri:
        host = uri[1] or uri[2]
    else:
        raise ConfigError("Open MPI does not report where process 0 is; set BERTJAX_COORDINATOR=HOST:PORT (mpirun -x)")
    own = (local_rank,) if local_size > 1 else None
    return ClusterMember(host, port, size, rank, "Open MPI", own)


def from_slurm(environ: Mapping[str, str]) -> ClusterMember | None:
    """srun: one process a task; the coordinator is on the first node of the step."""
    if "SLURM_PROCID" not in environ or "SLURM_STEP_ID" not in environ:
        return None  # not in a step: a shell of salloc, or the batch script itself
    nodes = environ.get("SLURM_STEP_NODELIST") or environ.get("SLURM_JOB_NODELIST", "")
    size = "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in environ else "SLURM_NTASKS"
    if environ.get(size) == "1":
        return None
    rank, tasks, local, job = _numbers(environ, "SLURM_PROCID", size, "SLURM_LOCALID", "SLURM_JOB_ID")
    first = re.match(r"([^,\[]+)(?:\[(\d+))?", nodes)  # node7 | node7,node9 | node[001-004,7],other
    if first is None:
        raise ConfigError("SLURM does not report the nodes of the step: SLURM_STEP_NODELIST is not set")
    here = re.match(r"\d+", environ.get("SLURM_STEP_TASKS_PER_NODE", environ.get("SLURM_TASKS_PER_NODE", "1")))
    own = (local,) if here and int(here[0]) > 1 else None  # a GPU for each task, or all GPUs of the node for one task
    return ClusterMember(first[1] + (first[2] or ""), _port(environ, job), tasks, rank, "SLURM", own)


def from_jobset(environ: Mapping[str, str]) -> ClusterMember | None:
    """A Kubernetes JobSet: an indexed job whose pods know each other by name (launch/gke_jobset.yaml)."""
    if "JOBSET_NAME" not in environ or "JOB_COMPLETION_INDEX" not in environ:
        return None
    jobset, job = environ["JOBSET_NAME"], environ.get("REPLICATED_JOB_NAME", "")
    if not job:
        raise ConfigError("JOBSET_NAME is set but not REPLICATED_JOB_NAME; see launch/gke_jobset.yaml")
    count, index = _numbers(environ, "NUM_PROCESSES", "JOB_COMPLETION_INDEX")
    return ClusterMember(f"{jobset}-{job}-0-0.{jobset}", _port(environ), count, index, "JobSet")


def from_tpu(environ: Mapping[str, str]) -> ClusterMember | None:
    """The workers of a TPU slice, from the environment (GKE) or the metadata server (TPU VM)."""
    if environ.get("MEGASCALE_NUM_SLICES", "1") not in ("", "1"):
        raise ConfigError("several TPU slices at once (MEGASCALE_NUM_SLICES) are not supported; use one slice")
    if environ.get("TPU_WORKER_HOSTNAMES"):
        hosts = environ["TPU_WORKER_HOSTNAMES"].split(",")
        if len(hosts) == 1:
            return None
        (index,) = _numbers(environ, "TPU_WORKER_ID")
        return ClusterMember(hosts[0], _port(environ), len(hosts), index, "TPU environment")
    if environ.get("JAX_PLATFORMS") == "cpu" or not _has_tpu():
        return None
    host = environ.get("GCE_METADATA_IP", "metadata.google.internal")
    try:
        # WORKER:PORT:ADDRESS of every worker, in order.
        workers = [w.split(":")[2] for w in _metadata(host, "worker-network-endpoints").split(",")]
        index = int(_metadata(host, "agent-worker-number")) if len(workers) > 1 else 0
    except (OSError, ValueError, IndexError) as error:
        raise ConfigError(
            f"this machine has a TPU, but its metadata server does not say which slice it belongs to ({error}); "
            f"give --coordinator, --num_processes and --process_id, for one machine --num_processes=1"
        ) from None
    return ClusterMember(workers[0], _port(environ), len(workers), index, "TPU metadata")


def _has_tpu() -> bool:
    read = lambda path: path.read_text().strip() if path.is_file() else ""
    chips = (p for p in _PCI.glob("*") if read(p / "vendor") == _GOOGLE)
    return any(read(chip / "device") in _TPU_CHIPS for chip in chips)


def _metadata(host: str, key: str) -> str:
    request = urllib.request.Request(_METADATA.format(host=host, key=key), headers={"Metadata-Flavor": "Google"})
    with urllib.request.urlopen(request, timeout=10) as response:
        return response.read().decode().strip()


# In order of precedence: what a person set, what started the process, where it runs.
FINDERS: dict[str, Callable[[Mapping[str, str]], ClusterMember | None]] = {
    "BERTJAX_ variables": from_variables,
    "Open MPI": from_open_mpi,
    "SLURM": from_slurm,
    "Kubernetes JobSet": from_jobset,
    "TPU": from_tpu,
}
