"""`zoo fit` and `zoo resume` on several machines: two processes with the addresses of this one."""

import json
import shutil
import signal
import socket

import numpy as np
import pytest

import pipelines.train as training
from pipelines import bundle, cluster
from pipelines.accord import Accord
from pipelines.checkpoints import Checkpoints
from pipelines.cluster import Cluster
from pipelines.interruption import Interrupted, Interruption
from pipelines.optimization import Optimization
from pipelines.recipes import from_scratch
from pipelines.run import Hardware, Images, Phase
from tests.command import zoo_here
from tests.pipelines import small
from tests.pipelines.machines import TWO_DEVICES, Command, addresses, end_all, start_two, wait_for

FIT = ("fit", "mlp", "--images", "digits", "--size", "8", "--out", "run")
STEPS = 5  # between two checkpoints
NOISE = 5e-3  # of a weight: Adam makes steps of the rate, 1e-2, out of a gradient's last bits


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """What a command sets for its process is undone."""
    monkeypatch.setenv("TF_CONFIG", "")
    monkeypatch.setattr(cluster, "_by_options", [])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--index 0", "--workers is missing"),
        ("--workers a:1,b:2", "--index is missing"),
        ("--workers a:1,b:2 --index 2", "Worker 2 of 2: the index counts from 0 to 1"),
        ("--workers a:1,b:2 --index -1", "Worker -1 of 2"),
        ("--workers a:1,b:2,a:1 --index 0", "is there twice: a:1"),
        ("--workers a:1,b:99999 --index 0", "The port of a worker is 1 to 65535, got 'b:99999'"),
        ("--workers a:0,b:2 --index 0", "The port of a worker is 1 to 65535, got 'a:0'"),
        ("--workers a:1,b --index 0", "is host:port, such as machine1:2222, got 'b'"),
        ("--workers a:1, --index 0", "got ''"),
        ("--workers http://a:1,b:2 --index 0", "got 'http://a:1'"),
    ],
)
@pytest.mark.parametrize("command", [FIT, ("resume", "run")])
def test_wrong_workers_are_told_at_once(command, options, told, tmp_path):
    assert told in " ".join(zoo_here(*command, *options.split(), cwd=tmp_path, code=1).split())
    assert list(tmp_path.iterdir()) == []


def test_options_and_tf_config_that_differ_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", Cluster(("a:1", "b:1"), 0).to_json())
    told = zoo_here(*FIT, "--workers", "a:1,b:1", "--index", "1", cwd=tmp_path, code=1)
    assert "TF_CONFIG says worker 0 of a:1, b:1; the options say worker 1 of a:1, b:1." in " ".join(told.split())


def test_a_run_for_one_machine_is_not_for_several(tmp_path):
    (tmp_path / "run.json").write_text(small.run(tmp_path / "run", hardware=Hardware("mirrored")).to_json())
    arguments = ("fit", "--run", "run.json", "--out", "run", "--workers", "a:1,b:1", "--index", "0")
    told = zoo_here(*arguments, cwd=tmp_path, code=1)
    assert "Hardware(strategy='mirrored'), which is for one machine, and --workers names 2" in " ".join(told.split())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--batch auto", "Run(batch='auto') is for one machine, and 2 are to train together. Set a number"),
        pytest.param(
            "--batch auto --find-learning-rate", "Run(batch='auto') is for one machine", marks=pytest.mark.slow
        ),
        pytest.param(
            "--rollbacks 2",
            "Run(rollbacks=2) is for one machine, and 2 are to train together. Leave it out",
            marks=pytest.mark.slow,
        ),
        ("--teacher nowhere", "Run(distillation=Distillation(teacher='nowhere', weights=None"),
    ],
)
def test_what_one_machine_alone_can_do_is_told_at_once(options, told, tmp_path):
    said = zoo_here(*FIT, *options.split(), "--workers", "a:1,b:1", "--index", "0", cwd=tmp_path, code=1)
    assert told in " ".join(said.split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("index", "told"), [(0, "cannot be written to"), (1, "joined")])
def test_the_first_alone_tries_whether_it_can_write(index, told, tmp_path, monkeypatch):
    def begin(hardware: Hardware) -> None:
        raise OSError("joined")

    monkeypatch.setenv("TF_CONFIG", Cluster(("a:1", "b:1"), index).to_json())
    monkeypatch.setattr(training.hardware, "begin", begin)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=told):
        training.train(small.run(tmp_path / "file" / "run"))


def test_a_port_that_is_taken_is_told_at_once(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        workers = f"127.0.0.1:{port},127.0.0.1:{port + 1 if port < 65_535 else port - 1}"
        told = zoo_here(*FIT, "--workers", workers, "--index", "0", cwd=tmp_path, code=1)
    assert f"Worker 0 cannot listen on port {port} of this machine: Address already in use" in " ".join(told.split())


def test_what_any_worker_wishes_is_done_once_all_have_heard_it():
    interruption, late = Interruption(), [False]
    accord = Accord(interruption, lambda: late[0], several=True)
    assert accord.wishes() == (False, False, False)
    interruption.asked, late[0] = signal.SIGTERM, True
    assert (accord.late, accord.asked) == (False, None)  # the others do not know
    accord.leave_if_asked()
    assert accord.wishes() == (True, False, True)
    accord.hear((False, True, False))  # what another had wished before
    assert (accord.late, accord.asked) == (False, signal.SIGINT)
    with pytest.raises(Interrupted) as left:
        accord.leave_if_asked()
    assert left.value.signal == signal.SIGINT
    accord.meet()
    assert (accord.late, accord.asked) == (True, signal.SIGTERM)


def test_one_machine_agrees_with_nobody():
    interruption = Interruption()
    accord = Accord(interruption, lambda: True, several=False)
    assert accord.wishes() == ()
    assert (accord.late, accord.asked) == (True, None)
    interruption.asked = signal.SIGTERM
    accord.hear(())
    with pytest.raises(Interrupted):
        accord.leave_if_asked()


@pytest.mark.slow
def test_two_workers_make_one_result(tmp_path):
    first, second = end_all(start_two(tmp_path, *FIT, "--epochs", "1"))
    assert "never trained on" in first
    assert second == ""
    made = bundle.load(tmp_path / "run")
    assert made.info["hardware"] == "2 x CPU, 2 workers, float32, batch of 32"
    assert made.scores.accuracy > 0.3
    assert not (tmp_path / "run" / "checkpoints").exists()
    (line,) = (line for line in zoo_here("evaluate", "run", cwd=tmp_path).splitlines() if "never trained on" in line)
    assert line in first


def write_run(folder):
    """A run of two phases with batch norms, clipping, random crops and a last batch of validation that is smaller."""
    phases = (Phase(1, 1e-2, unfreeze=1), *from_scratch(epochs=2, learning_rate=1e-2))
    data = Images("digits", size=16, augment="light")
    made = small.run(
        folder / "run", phases=phases, data=data, save_steps=STEPS, batch=32, optimization=Optimization(clip=0.5)
    )
    folder.mkdir(exist_ok=True)
    (folder / "given.json").write_text(made.to_json())


GIVEN = ("fit", "--run", "given.json", "--out", "run")


def result(folder):
    """The weights, what the history holds but for seconds, and the scores."""
    made = bundle.load(folder / "run")
    history = json.loads((made.path / "history.json").read_text())
    for epoch in history["epochs"]:
        del epoch["seconds"]
    return made.load_model().get_weights(), history, made.scores


def assert_same(folder, expected):
    weights, history, scores = result(folder)
    for found, wanted in zip(weights, expected[0], strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert history == expected[1]
    assert scores == expected[2]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What two workers make of a run that nothing disturbs."""
    folder = tmp_path_factory.mktemp("whole")
    write_run(folder)
    end_all(start_two(folder, *GIVEN))
    return result(folder)


@pytest.mark.slow
def test_two_workers_are_two_devices(tmp_path, whole):
    write_run(tmp_path)
    Command(tmp_path, "devices", *GIVEN, program=("-c", TWO_DEVICES)).end()
    assert bundle.load(tmp_path / "run").info["hardware"] == "2 x CPU, mirrored, float32, batch of 32"
    weights, history, scores = result(tmp_path)
    for found, wanted in zip(weights, whole[0], strict=True):
        np.testing.assert_allclose(found, wanted, atol=NOISE)
    for found, wanted in zip(history["epochs"], whole[1]["epochs"], strict=True):
        np.testing.assert_allclose(list(found["metrics"].values()), list(wanted["metrics"].values()), rtol=1e-5)
    assert scores.accuracy == pytest.approx(whole[2].accuracy, abs=0.01)


def disturb(folder, commands, asked):
    """Send a signal to the second of two workers once there are some checkpoints."""
    checkpoints = Checkpoints(folder / "run" / "checkpoints")
    try:
        wait_for(lambda: max(checkpoints.numbers(), default=0) >= 8, seconds=300, what="the workers do not train")
        commands[1].process.send_signal(asked)
    except BaseException:
        for each in commands:
            each.process.kill()
        raise
    assert not (folder / "run" / "bundle.json").exists()


@pytest.mark.slow
def test_one_is_killed_and_both_go_on(tmp_path, whole):
    write_run(tmp_path)
    running = start_two(tmp_path, *GIVEN)
    disturb(tmp_path, running, signal.SIGKILL)
    told = running[0].end(1, seconds=100)
    assert "has ended or cannot be reached" in told
    assert "Start all workers again with: zoo resume run --workers 127.0.0.1:" in told
    assert running[1].process.wait() == -signal.SIGKILL
    end_all(start_two(tmp_path, "resume", "run"))
    assert_same(tmp_path, whole)


@pytest.mark.slow
def test_a_signal_to_one_saves_and_ends_both(tmp_path, whole):
    write_run(tmp_path)
    running = start_two(tmp_path, *GIVEN)
    disturb(tmp_path, running, signal.SIGTERM)
    for index, told in enumerate(end_all(running, 128 + signal.SIGTERM)):
        assert "Interrupted. What is done is saved. Go on with: zoo resume run --workers" in told
        assert told.endswith(f"--index {index}")
    shutil.copytree(tmp_path / "run", tmp_path / "alone" / "run")
    both = addresses().split(",")
    again = [
        Command(tmp_path, f"worker{index}", "resume", "run", TF_CONFIG=Cluster(tuple(both), index).to_json())
        for index in range(2)
    ]
    end_all(again)
    assert_same(tmp_path, whole)
    Command(tmp_path / "alone", "devices", "resume", "run", program=("-c", TWO_DEVICES)).end()
    for found, wanted in zip(result(tmp_path / "alone")[0], whole[0], strict=True):
        np.testing.assert_allclose(found, wanted, atol=NOISE)
