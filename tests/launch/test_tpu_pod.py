from __future__ import annotations

import shlex

import pytest

from bertjax.errors import DATA, DIVERGED, LOST, STOPPED, UNKNOWN, USAGE

SLICE = {"PROJECT": "my-project", "ZONE": "us-west4-a", "NAME": "bert-1"}
RUN = {**SLICE, "BUCKET": "my-bucket", "CORPUS": "corpora/wiki-books", "CONFIG": "configs/large.py"}
ALL = {**RUN, "TYPE": "v5litepod-256"}
QUICK = {**ALL, "POLL_SECONDS": "0"}
NEEDS = {
    "create": {*SLICE, "TYPE"},
    "setup": {*SLICE, "BUCKET", "CORPUS"},
    "run": {*RUN},
    "up": {*ALL},
    "resume": {*ALL},
    "status": {*SLICE},
    "logs": {*SLICE},
    "delete": {*SLICE},
}
LIST, STATE = "tpu-vm list", "tpu_worker.sh state"
READY, PREEMPTED = "bert-1\tREADY", "bert-1\tPREEMPTED"


def ended(code):
    """Answers of a run that ends with this code: worker 0 is asked, then all four."""
    return [(STATE, f"bertjax: exit {code}", 0), (STATE, "\n".join([f"bertjax: exit {code}"] * 4), 0)]


def running(answer="running"):
    return (STATE, f"bertjax: {answer}", 0)


def test_shellcheck_has_nothing_to_say(shellcheck):
    assert [shellcheck(script) for script in ("tpu_pod.sh", "tpu_worker.sh", "commands.sh")] == ["", "", ""]


@pytest.mark.parametrize("command", NEEDS)
def test_all_missing_variables_are_named_at_once(stage, command):
    stage.stub("gcloud")
    done = stage.run("tpu_pod.sh", command)
    named = set(done.stderr.split("not set:")[1].split(" (")[0].split())
    assert (done.returncode, named, done.stderr.count("\n")) == (2, NEEDS[command], 1)
    assert not stage.calls()


@pytest.mark.parametrize(("command", "name"), [(c, name) for c in NEEDS for name in sorted(NEEDS[c])])
def test_each_missing_variable_is_named(stage, command, name):
    stage.stub("gcloud")
    done = stage.run("tpu_pod.sh", command, **{k: v for k, v in ALL.items() if k != name})
    assert done.returncode == 2 and f"not set: {name} (" in done.stderr
    assert not stage.calls()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"TYPE": "v9-8"}, "no runtime version is known for TYPE=v9-8; known are v4, v5litepod, v5p and v6e"),
        ({"TYPE": "tpu7x-8"}, "TPU7x on GKE alone"),
        ({"NAME": "My Slice"}, "small letters"),
        ({"BUCKET": "gs://my-bucket/corpora"}, "the bucket's name alone"),
        ({"CORPUS": "gs://my-bucket/corpora"}, "a folder in the bucket"),
        ({"WORKDIR": "/runs/large"}, "a folder in the bucket"),
        ({"CONFIG": "configs/larg.py"}, "no such config"),
        ({"CONFIG": "/etc/passwd"}, "inside of this checkout"),
        ({"SPOT": "yes"}, "1 or nothing"),
        ({"POLL_SECONDS": "1m"}, "a whole number"),
    ],
)
def test_wrong_values_are_refused_before_any_command(stage, changed, message):
    stage.stub("gcloud")
    done = stage.run("tpu_pod.sh", "up", **{**ALL, **changed})
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1
    assert not stage.calls()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["start"], "no command 'start'"), (["--drry-run", "up"], "no option --drry-run"), (["up", "run"], "one command")],
)
def test_wrong_command_lines_are_refused(stage, arguments, message):
    done = stage.run("tpu_pod.sh", *arguments, **ALL)
    assert done.returncode == 2 and message in done.stderr


def test_help_names_every_command_and_variable(stage):
    done = stage.run("tpu_pod.sh", "--help")
    assert done.returncode == 0
    assert all(name in done.stdout for name in [*NEEDS, *ALL, "WORKDIR", "SPOT", "QUEUED", "--dry-run"])


@pytest.mark.parametrize("command", NEEDS)
def test_dry_run_prints_commands_and_runs_none(stage, command):
    done = stage.run("tpu_pod.sh", "--dry-run", command, **ALL)  # there is no gcloud on the PATH at all
    assert (done.returncode, done.stderr) == (0, "")
    commands = [shlex.split(line) for line in done.stdout.splitlines() if not line.startswith("#")]
    assert commands and {words[0] for words in commands} <= {"gcloud", "tar", "rm"}
    assert list(stage.folder.iterdir()) == [stage.folder / "bin"]


def test_dry_run_of_up_shows_the_whole_way_in_order(stage):
    done = stage.run("tpu_pod.sh", "--dry-run", "up", **ALL)
    steps = [
        "tpu-vm create",
        "tar -czf",
        "storage cp",
        "install my-bucket",
        "start --config",
        STATE,
        "71 or 75",
        "delete",
    ]
    places = [done.stdout.index(step) for step in steps if step != STATE]
    assert places == sorted(places)
    assert "--version=v2-alpha-tpuv5-lite" in done.stdout and "--spot" not in done.stdout


def test_dry_run_and_real_run_give_the_same_command(stage):
    stage.stub("gcloud", (LIST, "", 0), (LIST, READY, 0))
    variables = {**SLICE, "TYPE": "v6e-64", "SPOT": "1", "POLL_SECONDS": "0"}
    printed = stage.run("tpu_pod.sh", "--dry-run", "create", **variables).stdout.splitlines()
    assert stage.run("tpu_pod.sh", "create", **variables).returncode == 0
    (call,) = stage.calls("create")
    assert call in [shlex.split(line) for line in printed]
    assert "--spot" in call and "--version=v2-alpha-tpuv6e" in call


def test_arguments_reach_the_training_word_for_word(stage, tmp_path):
    stage.stub("gcloud", *ended(0))
    arguments = ["--config.name=two words", "--a=it's", '--b="$HOME" `id` \\', "--c=*"]
    assert stage.run("tpu_pod.sh", "run", "--", *arguments, **QUICK).returncode == 0
    (call,) = stage.calls("tpu_worker.sh start")
    remote = call[-1].removeprefix("--command=")
    assert shlex.split(remote)[-4:] == arguments  # as the shell of the worker reads them


def test_a_queued_slice_is_waited_for(stage):
    queue = "queued-resources list"
    states = ["WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE", "ACTIVE"]
    stage.stub(
        "gcloud",
        (queue, "another\tACTIVE", 0),
        *[(queue, f"another\tACTIVE\nbert-1\t{state}", 0) for state in states],
        (LIST, "bert-1\tCREATING", 0),
        (LIST, READY, 0),
    )
    done = stage.run("tpu_pod.sh", "create", **QUICK, QUEUED="1", SPOT="1")
    assert done.returncode == 0, done.stderr
    (call,) = stage.calls("create")
    assert "queued-resources" in call and "--spot" in call and "--runtime-version=v2-alpha-tpuv5-lite" in call
    assert len(stage.calls(queue)) == 5


def test_a_slice_that_is_refused_ends_up_at_once(stage):
    stage.stub("gcloud", ("create", "", 1))
    done = stage.run("tpu_pod.sh", "up", **QUICK)
    assert done.returncode == 1 and "could not be created" in done.stderr
    assert len(stage.calls("create")) == 1 and not stage.calls("ssh")


@pytest.mark.parametrize("code", [0, UNKNOWN, USAGE, DATA, DIVERGED, 137])
def test_up_ends_with_the_code_of_the_run(stage, code):
    stage.stub("gcloud", (LIST, "", 0), (LIST, READY, 0), running("none"), running("none"), running(), *ended(code))
    done = stage.run("tpu_pod.sh", "up", **QUICK)
    assert done.returncode == code, done.stdout + done.stderr
    assert len(stage.calls("tpu_worker.sh start")) == 1 and not stage.calls("delete")
    assert "the slice costs money" in done.stdout


def test_a_stopped_and_a_lost_run_are_started_again_until_done(stage):
    states = [running("none"), running("none"), *ended(STOPPED), running(), *ended(LOST), *ended(0)]
    stage.stub("gcloud", (LIST, READY, 0), *states)
    done = stage.run("tpu_pod.sh", "up", **QUICK)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(stage.calls("tpu_worker.sh start")) == 3
    assert len(stage.calls("storage", "cp")) == 1  # the program stays as it was uploaded
    assert not stage.calls("tpu-vm create")


def test_a_preempted_slice_is_deleted_and_created_again(stage):
    stage.stub(
        "gcloud",
        *[(LIST, answer, 0) for answer in (READY, PREEMPTED, PREEMPTED, "", "bert-1\tCREATING", READY)],
        *[running("none"), running("none"), running()],
        (STATE, "", 255),  # worker 0 does not answer: its machine is gone
        *ended(0),
    )
    done = stage.run("tpu_pod.sh", "up", **QUICK)
    assert done.returncode == 0, done.stdout + done.stderr
    changes = [words for words in stage.calls() if {"create", "delete"} & set(words) or "start --config" in words[-1]]
    assert [next(w for w in ("create", "delete", "ssh") if w in words) for words in changes] == [
        "ssh",
        "delete",
        "create",
        "ssh",
    ]


def test_a_machine_that_started_anew_is_set_up_again(stage):
    stage.stub("gcloud", (LIST, READY, 0), running("none"), running("none"), running("none"), *ended(0))
    assert stage.run("tpu_pod.sh", "up", **QUICK).returncode == 0
    assert len(stage.calls("tpu_worker.sh install")) == 2 and not stage.calls("create")


def test_a_lost_connection_is_no_lost_run(stage):
    stage.stub(
        "gcloud",
        *[(LIST, READY, 0), (LIST, "", 1), (LIST, READY, 0)],  # Google does not answer either, once
        *[running(), running(), (STATE, "", 255), (STATE, "", 255), *ended(0)],
    )
    done = stage.run("tpu_pod.sh", "resume", **QUICK)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not stage.calls("start --config") and not stage.calls("create") and not stage.calls("delete")


def test_one_failed_process_among_lost_ones_ends_the_run(stage):
    codes = "\n".join(f"bertjax: exit {code}" for code in (LOST, LOST, DATA, LOST))
    stage.stub("gcloud", (LIST, READY, 0), running(), running(), (STATE, "bertjax: exit 71", 0), (STATE, codes, 0))
    assert stage.run("tpu_pod.sh", "resume", **QUICK).returncode == DATA


def test_restarts_are_limited(stage):
    stage.stub("gcloud", (LIST, READY, 0), (STATE, "bertjax: exit 71", 0))
    done = stage.run("tpu_pod.sh", "resume", **QUICK, RESTARTS="2")
    assert done.returncode == LOST and "restarted 2 times" in done.stderr
    assert len(stage.calls("tpu_worker.sh start")) == 3


def test_run_ends_with_75_and_leaves_the_restart_to_resume(stage):
    stage.stub("gcloud", running("none"), *ended(STOPPED))
    assert stage.run("tpu_pod.sh", "run", **QUICK).returncode == STOPPED
    assert len(stage.calls("tpu_worker.sh start")) == 1


def test_setup_does_not_touch_a_run(stage):
    stage.stub("gcloud", running())
    done = stage.run("tpu_pod.sh", "setup", **QUICK)
    assert done.returncode == 2 and "a run is going on" in done.stderr and not stage.calls("install")


def test_delete_lets_the_run_save_first(stage):
    stage.stub("gcloud", (LIST, READY, 0))
    assert stage.run("tpu_pod.sh", "delete", **SLICE).returncode == 0
    assert [next(w for w in call if w in ("list", "ssh", "delete")) for call in stage.calls()] == [
        "list",
        "ssh",
        "delete",
    ]
    assert stage.calls("ssh")[0][-1].endswith("tpu_worker.sh stop")


def test_delete_of_a_queued_slice_takes_its_node_along(stage):
    stage.stub("gcloud")
    assert stage.run("tpu_pod.sh", "delete", **SLICE, QUEUED="1").returncode == 0
    assert [call[-1] for call in stage.calls("delete")] == ["--force"]


@pytest.mark.parametrize("command", ["setup", "up"])
def test_a_program_that_could_not_be_uploaded_is_not_run(stage, command):
    stage.stub("gcloud", (LIST, READY, 0), running("none"), ("storage cp", "", 1))
    done = stage.run("tpu_pod.sh", command, **QUICK)
    assert done.returncode == 1 and "the program could not be put into the bucket" in done.stderr
    assert stage.calls("storage cp") and not stage.calls("tpu_worker.sh install")
