from __future__ import annotations

import math
from typing import Any

import pytest

from bertjax.cluster.environment import find_cluster
from bertjax.errors import LOST, STOPPED

SCRIPT = "gke_jobset.sh"
NEEDED = {
    "NAME": "bert-1",
    "IMAGE": "us-docker.pkg.dev/my-project/images/bertjax:1",
    "SERVICE_ACCOUNT": "trainer",
    "BUCKET": "my-bucket",
    "CORPUS": "corpora/wiki-books",
    "CONFIG": "configs/large.py",
}
COMMANDS = {"apply": set(NEEDED), "status": {"NAME"}, "logs": {"NAME"}, "delete": {"NAME"}}

# The part of JobSet v1alpha2 that is used, after api/jobset/v1alpha2/jobset_types.go of kubernetes-sigs/jobset v0.12.
_NAME = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"}


def _closed(required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required.split(), "properties": properties, "additionalProperties": False}


JOBSET = _closed(
    "apiVersion kind metadata spec",
    apiVersion={"const": "jobset.x-k8s.io/v1alpha2"},
    kind={"const": "JobSet"},
    metadata=_closed("name", name=_NAME, annotations={"type": "object", "additionalProperties": {"type": "string"}}),
    spec=_closed(
        "replicatedJobs",
        network=_closed("", enableDNSHostnames={"type": "boolean"}, publishNotReadyAddresses={"type": "boolean"}),
        failurePolicy=_closed(
            "",
            maxRestarts={"type": "integer", "minimum": 0},
            rules={
                "type": "array",
                "items": _closed(
                    "name action",
                    name={"type": "string", "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"},
                    action={"enum": ["FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts"]},
                    onJobFailureReasons={
                        "type": "array",
                        "items": {"enum": ["BackoffLimitExceeded", "DeadlineExceeded", "PodFailurePolicy"]},
                    },
                ),
            },
        ),
        replicatedJobs={
            "type": "array",
            "items": _closed(
                "name template",
                name=_NAME,
                replicas={"type": "integer", "minimum": 1},
                template=_closed("spec", spec={"type": "object"}),  # a Job's: Kubernetes' own schema
            ),
        },
    ),
)


def check(jobset: dict[str, Any]) -> None:
    """Raises where the JobSet, its Job or its Pod has a field that is unknown, missing or of another type."""
    jsonschema = pytest.importorskip("jsonschema")
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    jsonschema.validate(jobset, JOBSET)
    for replicated in jobset["spec"]["replicatedJobs"]:
        metadata = {"name": replicated["name"]}
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, **replicated["template"]}
        kubernetes_validate.validate(job, "1.31", strict=True)


@pytest.fixture
def applied(stage):
    """Applies the JobSet with these arguments; returns it as kubectl gets it."""
    yaml = pytest.importorskip("yaml")

    def apply(*arguments: str, **variables: str) -> dict[str, Any]:
        stage.stub("kubectl")
        done = stage.run(SCRIPT, "apply", "--", *arguments, **{**NEEDED, **variables})
        assert (done.returncode, done.stderr) == (0, "")
        assert stage.calls() == [["kubectl", "apply", "--filename=-"]]
        return yaml.safe_load((stage.folder / "stdin").read_text())

    return apply


def job_of(jobset: dict[str, Any]) -> dict[str, Any]:
    (replicated,) = jobset["spec"]["replicatedJobs"]
    return replicated["template"]["spec"]


def pod_of(jobset: dict[str, Any]) -> dict[str, Any]:
    return job_of(jobset)["template"]["spec"]


def test_shellcheck_has_nothing_to_say(shellcheck):
    assert shellcheck(SCRIPT) == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_missing_variables_are_named_at_once_and_one_at_a_time(stage, command):
    stage.stub("kubectl")
    for absent in [COMMANDS[command], *({name} for name in COMMANDS[command])]:
        done = stage.run(SCRIPT, command, **{k: v for k, v in NEEDED.items() if k not in absent})
        assert done.returncode == 2 and done.stderr.count("\n") == 1
        assert set(done.stderr.split("not set:")[1].split(" (")[0].split()) == absent
    assert not stage.calls()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"NAME": "Bert 1"}, "small letters"),
        ({"BUCKET": "gs://my-bucket"}, "without gs://"),
        ({"WORKDIR": "/runs/large"}, "without a slash"),
        ({"IMAGE": 'x"\nkind: Secret'}, "letters, digits"),
        ({"CORPUS": "wiki|e"}, "letters, digits"),
    ],
)
def test_wrong_values_are_refused_before_any_command(stage, changed, message):
    stage.stub("kubectl")
    done = stage.run(SCRIPT, "apply", **{**NEEDED, **changed})
    assert done.returncode == 2 and message in done.stderr
    assert not stage.calls()


def test_the_jobset_keeps_to_the_schemas(applied):
    check(applied("--config.parallel.fsdp=16"))


@pytest.mark.parametrize(
    "place",
    [
        lambda jobset: jobset,
        lambda jobset: jobset["spec"],
        lambda jobset: jobset["spec"]["network"],
        lambda jobset: jobset["spec"]["failurePolicy"]["rules"][0],
        lambda jobset: jobset["spec"]["replicatedJobs"][0],
        job_of,
        lambda jobset: job_of(jobset)["podFailurePolicy"]["rules"][1]["onExitCodes"],
        pod_of,
        lambda jobset: pod_of(jobset)["containers"][0],
        lambda jobset: pod_of(jobset)["volumes"][0]["csi"],
    ],
)
def test_an_unknown_field_is_found_wherever_it_is(applied, place):
    jobset = applied()
    place(jobset)["unknownField"] = "x"
    with pytest.raises(Exception, match="unknownField"):
        check(jobset)


def test_all_pods_are_in_one_slice(applied):
    """Two node pools of this topology fit the nodeSelector as well as one."""
    annotations = applied()["metadata"]["annotations"]
    assert annotations == {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"}


def test_files_in_the_bucket_are_private(applied):
    """The processes share a secret in the workdir, which they believe only where nobody else can read it."""
    options = pod_of(applied())["volumes"][0]["csi"]["volumeAttributes"]["mountOptions"].split(",")
    assert {"file-mode=600", "dir-mode=700"} < set(options)


def test_every_variable_is_put_in(stage, applied):
    applied("--config.seed=1", WORKDIR="runs/another")
    text = (stage.folder / "stdin").read_text()
    assert "${" not in text and "#" not in text.split("spec:")[0]
    assert all(value in text for value in [*NEEDED.values(), "runs/another", "--config.seed=1"])


def test_arguments_reach_the_training_word_for_word(applied):
    arguments = [
        "--config.name=two words",
        "--a=it's",
        '--b="x" \\ `id` $HOME',
        "--c=*",
        "--d=$(HOME)",
        "--e=ä: {x} # y",
    ]
    (container,) = pod_of(applied(*arguments))["containers"]
    # Kubernetes itself makes $( of $$(.
    assert [argument.replace("$$(", "$(") for argument in container["args"]] == arguments
    assert container["command"][:2] == ["bash", "-c"] and '"$@"' in container["command"][2]


def test_an_argument_that_yaml_cannot_hold_is_refused(stage):
    stage.stub("kubectl")
    done = stage.run(SCRIPT, "apply", "--", "--a=x\ny", **NEEDED)
    assert done.returncode == 2 and "line break" in done.stderr
    assert not stage.calls()


def test_the_numbers_of_hosts_and_chips_fit_the_topology(applied):
    jobset = applied()
    job, pod = job_of(jobset), pod_of(jobset)
    (container,) = pod["containers"]
    chips = math.prod(map(int, pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x")))
    hosts = chips // container["resources"]["limits"]["google.com/tpu"]
    environment = {item["name"]: item.get("value") for item in container["env"]}
    assert job["parallelism"] == job["completions"] == hosts == int(environment["NUM_PROCESSES"])
    assert {"JOBSET_NAME", "REPLICATED_JOB_NAME"} < set(environment) and job["completionMode"] == "Indexed"


def test_the_processes_find_each_other_by_the_environment(applied):
    jobset = applied()
    (container,) = pod_of(jobset)["containers"]
    (replicated,) = jobset["spec"]["replicatedJobs"]
    annotations = {"jobset-name": jobset["metadata"]["name"], "replicatedjob-name": replicated["name"]}
    environment = {"JOB_COMPLETION_INDEX": "2"}  # Kubernetes sets it in the pods of an indexed job
    for item in container["env"]:
        path = item.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath", "")
        key = path.removeprefix("metadata.annotations['jobset.sigs.k8s.io/").removesuffix("']")
        environment[item["name"]] = annotations[key] if path else item["value"]
    cluster = find_cluster(environ=environment)
    assert cluster is not None
    assert (cluster.host, cluster.num_processes, cluster.process_id) == ("bert-1-train-0-0.bert-1", 4, 2)
    assert [port["containerPort"] for port in container["ports"]] == [cluster.port, cluster.port + 1]


def test_only_lost_and_stopped_runs_start_again(applied):
    jobset = applied()
    job = job_of(jobset)
    taken_away, failed = job["podFailurePolicy"]["rules"]
    assert taken_away["action"] == "Count" and taken_away["onPodConditions"][0]["type"] == "DisruptionTarget"
    assert failed["action"] == "FailJob"
    assert failed["onExitCodes"] == {"containerName": "train", "operator": "NotIn", "values": [LOST, STOPPED, 134]}
    (rule,) = jobset["spec"]["failurePolicy"]["rules"]
    assert rule["action"] == "FailJobSet" and rule["onJobFailureReasons"] == ["PodFailurePolicy"]
    # Without both of these a process would be started again alone.
    assert job["backoffLimit"] == 0 and job["template"]["spec"]["restartPolicy"] == "Never"
    assert jobset["spec"]["failurePolicy"]["maxRestarts"] > 0


def test_dry_run_prints_what_is_applied(stage, applied):
    yaml = pytest.importorskip("yaml")
    jobset = applied("--config.name=two words")
    (stage.folder / "bin/kubectl").unlink()
    done = stage.run(SCRIPT, "--dry-run", "apply", "--", "--config.name=two words", **NEEDED)
    command, text = done.stdout.split("\n", 1)
    assert (done.returncode, command) == (0, "kubectl apply --filename=-")
    assert yaml.safe_load(text) == jobset


@pytest.mark.parametrize("command", ["status", "logs", "delete"])
def test_other_commands_are_about_this_jobset_alone(stage, command):
    stage.stub("kubectl")
    assert stage.run(SCRIPT, command, NAME="bert-1").returncode == 0
    assert stage.calls() and all("bert-1" in " ".join(call) for call in stage.calls())
