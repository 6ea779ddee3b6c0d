"""Who takes part, as the launchers say it."""

import http.server
import threading
from typing import ClassVar

import pytest

from bertjax.cluster import environment as clusters
from bertjax.cluster.environment import ClusterMember, find_cluster
from bertjax.errors import ConfigError

SLURM = {
    "SLURM_JOB_ID": "1234567",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
    "SLURM_STEP_TASKS_PER_NODE": "1(x4)",
}
OPEN_MPI = {
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_RANK": "3",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
}
JOBSET = {
    "JOBSET_NAME": "bert",
    "REPLICATED_JOB_NAME": "workers",
    "NUM_PROCESSES": "4",
    "JOB_COMPLETION_INDEX": "1",
}
TPU = {"TPU_WORKER_HOSTNAMES": "10.0.0.1,10.0.0.2", "TPU_WORKER_ID": "1"}


def test_nothing_said_is_one_process():
    assert find_cluster(environ={}) is None


def test_flags_come_first():
    assert find_cluster(num_processes=1, environ=SLURM) is None
    assert find_cluster("10.0.0.1:8482", 2, 1, SLURM) == ClusterMember("10.0.0.1", 8482, 2, 1, "flags")
    assert find_cluster("[::1]:8482", 2, 1, {}) == ClusterMember("::1", 8482, 2, 1, "flags")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("10.0.0.1:1", None, None), "--num_processes and --process_id must be given too"),
        ((None, 2, 0), "--coordinator must be given too"),
        (("10.0.0.1", 2, 0), "HOST:PORT"),
        (("10.0.0.1:99999", 2, 0), "HOST:PORT"),
        (("10.0.0.1:8482", 2, 2), "process 2 of 2 is impossible"),
        (("10.0.0.1:8482", 0, 0), "process 0 of 0 is impossible"),
    ],
)
def test_flags_that_cannot_be(arguments, words):
    with pytest.raises(ConfigError, match=words):
        find_cluster(*arguments, environ={})


def test_variables():
    there = {"BERTJAX_COORDINATOR": "host:9000", "BERTJAX_NUM_PROCESSES": "3", "BERTJAX_PROCESS_ID": "2"}
    found = find_cluster(environ=there | SLURM)
    assert (found.host, found.port, found.num_processes, found.process_id) == ("host", 9000, 3, 2)
    with pytest.raises(ConfigError, match="not BERTJAX_COORDINATOR and BERTJAX_PROCESS_ID"):
        find_cluster(environ={"BERTJAX_NUM_PROCESSES": "3"})


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("node7", "node7"),
        ("node7,node9", "node7"),
        ("node[001-004]", "node001"),
        ("node[3,5-7],other1", "node3"),
        ("a-b-[09-12]", "a-b-09"),
    ],
)
def test_slurm_names_the_first_node(nodes, first):
    found = find_cluster(environ=SLURM | {"SLURM_STEP_NODELIST": nodes})
    assert (found.host, found.num_processes, found.process_id) == (first, 4, 2)
    assert 61440 <= found.port < 65535
    assert found.local_devices is None


def test_slurm_task_for_each_gpu():
    tasks = {"SLURM_STEP_NODELIST": "n[1-2]", "SLURM_STEP_TASKS_PER_NODE": "2(x2)", "SLURM_LOCALID": "1"}
    assert find_cluster(environ=SLURM | tasks).local_devices == (1,)


def test_slurm_outside_of_a_step_or_with_one_task_is_one_process():
    assert find_cluster(environ={"SLURM_JOB_ID": "1", "SLURM_PROCID": "0", "SLURM_NTASKS": "4"}) is None
    assert find_cluster(environ=SLURM | {"SLURM_STEP_NUM_TASKS": "1"}) is None


def test_slurm_without_nodes():
    with pytest.raises(ConfigError, match="SLURM_STEP_NODELIST"):
        find_cluster(environ=SLURM)


def test_open_mpi():
    uri = {"OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911"}
    found = find_cluster(environ=OPEN_MPI | uri)
    assert (found.host, found.num_processes, found.process_id, found.local_devices) == ("10.96.0.1", 4, 3, (1,))
    six = {"OMPI_MCA_orte_hnp_uri": "1314521088.0;tcp6://[fe80::1,2620::2]:43370"}
    assert find_cluster(environ=OPEN_MPI | six).host == "fe80::1"
    assert find_cluster(environ=OPEN_MPI | {"OMPI_COMM_WORLD_LOCAL_SIZE": "4"}).host == "127.0.0.1"
    assert find_cluster(environ=OPEN_MPI | {"BERTJAX_COORDINATOR": "host:5"}).host == "host"
    with pytest.raises(ConfigError, match="BERTJAX_COORDINATOR=HOST:PORT"):
        find_cluster(environ=OPEN_MPI)


def test_jobset():
    assert find_cluster(environ=JOBSET) == ClusterMember("bert-workers-0-0.bert", 8482, 4, 1, "JobSet")
    assert find_cluster(environ=JOBSET | {"BERTJAX_PORT": "9999"}).port == 9999
    with pytest.raises(ConfigError, match="REPLICATED_JOB_NAME"):
        find_cluster(environ=JOBSET | {"REPLICATED_JOB_NAME": ""})
    with pytest.raises(ConfigError, match="NUM_PROCESSES must be a number, not 'four'"):
        find_cluster(environ=JOBSET | {"NUM_PROCESSES": "four"})


def test_tpu_environment():
    found = find_cluster(environ=TPU)
    assert (found.host, found.num_processes, found.process_id) == ("10.0.0.1", 2, 1)
    assert find_cluster(environ={"TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0"}) is None
    with pytest.raises(ConfigError, match="use one slice"):
        find_cluster(environ=TPU | {"MEGASCALE_NUM_SLICES": "2"})


class Metadata(http.server.BaseHTTPRequestHandler):
    answers: ClassVar = {
        "worker-network-endpoints": "w0:8470:10.1.0.5,w1:8470:10.1.0.6",
        "agent-worker-number": "1",
    }

    def do_GET(self):
        assert self.headers["Metadata-Flavor"] == "Google"
        body = self.answers.get(self.path.rsplit("/", 1)[1], "").encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def tpu_machine(tmp_path, monkeypatch):
    """A machine with one TPU chip, and a metadata server; yields the environment that names it."""
    for name, content in (("vendor", "0x1ae0\n"), ("device", "0x0063\n")):
        (tmp_path / "0000:00:05.0").mkdir(exist_ok=True)
        (tmp_path / "0000:00:05.0" / name).write_text(content)
    monkeypatch.setattr(clusters, "_PCI", tmp_path)
    server = http.server.HTTPServer(("127.0.0.1", 0), Metadata)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield {"GCE_METADATA_IP": f"127.0.0.1:{server.server_port}"}
    server.shutdown()
    server.server_close()


def test_tpu_metadata(tpu_machine, monkeypatch):
    found = find_cluster(environ=tpu_machine)
    assert (found.host, found.num_processes, found.process_id) == ("10.1.0.5", 2, 1)
    assert find_cluster(environ=tpu_machine | {"JAX_PLATFORMS": "cpu"}) is None
    monkeypatch.setattr(Metadata, "answers", {"worker-network-endpoints": "w0:8470:10.1.0.5"})
    assert find_cluster(environ=tpu_machine) is None
    monkeypatch.setattr(Metadata, "answers", {})
    with pytest.raises(ConfigError, match="--num_processes"):
        find_cluster(environ=tpu_machine)


def test_a_machine_without_tpu_asks_nobody(tmp_path, monkeypatch):
    monkeypatch.setattr(clusters, "_PCI", tmp_path / "none")
    assert find_cluster(environ={"GCE_METADATA_IP": "192.0.2.1"}) is None
