"""Several workers: who they are, that they train as several devices of one machine do, and that none waits for ever."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import config  # which alone can tell, and take it back

from pipelines import cluster, hardware, workers
from pipelines.cluster import Cluster
from pipelines.run import Hardware
from tests.pipelines.machines import addresses, wait_for
from tests.pipelines.test_data_service import service

TWO = ("machine1:2222", "machine2:2222")


def tf_config(monkeypatch, cluster, kind="worker", index=0):
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}}))


def test_the_cluster_is_what_tf_config_says(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert cluster.cluster() is None
    tf_config(monkeypatch, {"worker": TWO}, index=1)
    assert cluster.cluster() == Cluster(TWO, 1)
    tf_config(monkeypatch, {"chief": TWO[:1], "worker": TWO[1:]}, index=0)
    assert cluster.cluster() == Cluster(TWO, 1)
    tf_config(monkeypatch, {"chief": TWO[:1], "worker": TWO[1:]}, kind="chief")
    assert cluster.cluster() == Cluster(TWO, 0)
    tf_config(monkeypatch, {"worker": TWO[:1]})
    assert cluster.cluster() is None


def test_the_options_are_a_tf_config(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "")
    monkeypatch.setattr(cluster, "_by_options", [])
    assert cluster.given() == ""
    cluster.configure(TWO, 1)
    assert cluster.cluster() == Cluster(TWO, 1)
    cluster.configure(TWO, 1)
    assert cluster.given() == " --workers machine1:2222,machine2:2222 --index 1"
    with pytest.raises(ValueError, match="Give only one of them"):
        cluster.configure(TWO, 0)


@pytest.mark.parametrize(
    ("addresses", "index", "told"),
    [
        (("machine1", "machine2:1"), 0, "host:port"),
        (("machine1:1", "machine1:1"), 0, "twice"),
        (TWO, 2, "counts from 0 to 1"),
        (TWO, -1, "counts from 0 to 1"),
    ],
)
def test_a_wrong_cluster_is_refused(addresses, index, told):
    with pytest.raises(ValueError, match=told):
        Cluster(addresses, index)


@pytest.mark.parametrize("text", ["{", "[]", '{"cluster": {"worker": ["a:1", "b:1"]}}'])
def test_a_broken_tf_config_is_refused(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match="TF_CONFIG"):
        cluster.cluster()


def test_a_parameter_server_is_refused(monkeypatch):
    tf_config(monkeypatch, {"worker": TWO, "ps": ["machine3:1"]})
    with pytest.raises(ValueError, match="no parameter servers"):
        cluster.cluster()


def test_joining_late_and_untested_versions_are_refused(monkeypatch):
    import tensorflow as tf

    tf.constant(0.0)
    with pytest.raises(workers.WorkersError, match="before TensorFlow does anything else"):
        workers.join(Cluster(("127.0.0.1:1", "127.0.0.1:2"), 0))
    monkeypatch.setitem(workers.TESTED, "keras", "3.14")
    with pytest.raises(workers.WorkersError, match=r"tested with keras 3.14 and tensorflow 2.21, not with keras 3.15"):
        workers.join(Cluster(TWO, 0))


def test_alone_there_is_nothing_to_wait_for():
    assert workers.is_chief()
    workers.wait()
    workers.check_same(3, "the step")
    with pytest.raises(ZeroDivisionError), workers.watched():
        raise ZeroDivisionError


def test_the_usual_precision_is_the_fastest_that_all_devices_have():
    assert hardware.usual_precision([]) == "float32"
    assert hardware.usual_precision([(9, 0), (8, 0)]) == "bfloat16"
    assert hardware.usual_precision([(9, 0), (7, 5)]) == "float16"
    assert hardware.usual_precision([(9, 0), None]) == "float32"


def test_operations_are_deterministic_unless_the_hardware_need_not_be():
    before = config.is_op_determinism_enabled()
    try:
        config.disable_op_determinism()
        hardware.seed(Hardware(deterministic=False), 7)
        assert not config.is_op_determinism_enabled()
        drawn = float(keras.random.normal(()))
        hardware.seed(Hardware(), 7)
        assert config.is_op_determinism_enabled()
        assert float(keras.random.normal(())) == drawn
        assert "not deterministic" in hardware.describe(tf.distribute.get_strategy(), Hardware(deterministic=False))
    finally:
        (config.enable_op_determinism if before else config.disable_op_determinism)()


def test_a_description_says_devices_precision_and_batch():
    with hardware.scope(Hardware("one", "bfloat16", accumulate=4)) as strategy:
        told = hardware.describe(strategy, Hardware("one", "bfloat16", accumulate=4), batch=64)
    assert told == "1 x CPU, bfloat16, batch of 64 in 4 micro-batches each"


def start(folder, name, *arguments, checkpoints="checkpoints", **environment):
    target = str(folder / f"{name}.npz")
    command = [sys.executable, "-m", "tests.pipelines.workers_program", target, str(folder / checkpoints), *arguments]
    with (folder / f"{name}.out").open("w") as out, (folder / f"{name}.err").open("w") as err:
        return subprocess.Popen(command, env={**os.environ, **environment}, stdout=out, stderr=err)


def start_two(folder, *arguments, **environment):
    both = tuple(addresses().split(","))
    return [
        start(folder, f"worker{index}", *arguments, TF_CONFIG=Cluster(both, index).to_json(), **environment)
        for index in range(2)
    ]


def run_to_the_end(folder, running):
    """Wait for {name: process}; what each has written."""
    try:
        for name, process in running.items():
            assert process.wait(timeout=300) == 0, (folder / f"{name}.err").read_text()[-3000:]
    finally:
        for process in running.values():
            process.kill()
    return [np.load(folder / f"{name}.npz") for name in running]


@pytest.mark.slow
def test_workers_train_as_devices_do_also_when_one_is_killed_and_both_go_on(tmp_path):
    (devices,) = run_to_the_end(
        tmp_path, {"devices": start(tmp_path, "devices", checkpoints="undisturbed", TF_CONFIG="")}
    )
    first, second = start_two(tmp_path, "1.0")
    try:
        told = tmp_path / "worker1.out"
        wait_for(lambda: told.read_text().count("a batch") > 4, seconds=200, what="the workers do not train")
        second.kill()
        second.wait()
        wait_for(lambda: first.poll() is not None, seconds=100, what="the worker that was left alone waits for ever")
    finally:
        first.kill()
        second.kill()
    assert first.returncode == 1
    told = (tmp_path / "worker0.err").read_text()
    assert "has ended or cannot be reached" in told
    assert "Start all workers again." in told
    assert "Traceback" not in told
    again = start_two(tmp_path)
    ended = run_to_the_end(tmp_path, dict(zip(("worker0", "worker1"), again, strict=True)))
    assert "from step 0" not in (tmp_path / "worker0.out").read_text()
    for worker, chief in zip(ended, (True, False), strict=True):
        for name in devices.files:
            if name.startswith("arr_") or name == "losses":
                np.testing.assert_array_equal(worker[name], devices[name])
        assert bool(worker["chief"]) == chief
        assert not worker["same"]  # one of them said another number
        assert str(worker["described"]) == "2 x CPU, 2 workers, float32, batch of 32"


@pytest.mark.slow
def test_workers_train_the_same_on_batches_of_a_service(tmp_path):
    (devices,) = run_to_the_end(
        tmp_path, {"devices": start(tmp_path, "devices", checkpoints="undisturbed", TF_CONFIG="")}
    )
    with service(1) as address:
        both = start_two(tmp_path, DATA_SERVICE=address)
        ended = run_to_the_end(tmp_path, dict(zip(("worker0", "worker1"), both, strict=True)))
    for worker in ended:
        for name in devices.files:
            if name.startswith("arr_") or name == "losses":
                np.testing.assert_array_equal(worker[name], devices[name])


@pytest.mark.slow
def test_a_worker_does_not_wait_for_ever_for_one_that_never_comes(tmp_path):
    both = tuple(addresses().split(","))
    alone = start(tmp_path, "worker0", TF_CONFIG=Cluster(both, 0).to_json(), ZOO_WORKERS_WAIT="2")
    try:
        wait_for(lambda: alone.poll() is not None, seconds=100, what="it waits for ever")
    finally:
        alone.kill()
    assert alone.returncode != 0
    assert f"not all of {both[0]}, {both[1]} came in 2 s" in (tmp_path / "worker0.err").read_text()
