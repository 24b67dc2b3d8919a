"""Remote places without a network: fsspec's files in memory, and stores that misbehave."""

import json
import os
import socket
import time

import pytest

from foretell.bulk import lease
from foretell.bulk.places import storage_of
from foretell.bulk.remote import RemoteStorage, remote_storage
from foretell.bulk.remote_faults import exists_already, remote
from foretell.errors import ConfigError, MachineError

pytest.importorskip("fsspec")
ROOT = "memory://lake"


@pytest.fixture
def memory():
    found = remote_storage(f"{ROOT}/_")
    yield found
    found._fs.store.clear()
    found._fs.pseudo_dirs[:] = [""]


def write(storage, path, content):
    with storage.creating(path) as file:
        file.write(content)


def test_urls_go_in_and_come_out(memory):
    for name in ("b/1", "b-c/1", "a"):
        write(memory, f"{ROOT}/2026/{name}", b"abc")
    found = memory.files_in(f"{ROOT}/2026/")
    assert found == [f"{ROOT}/2026/{name}" for name in ("a", "b/1", "b-c/1")]
    assert memory.matching(f"{ROOT}/2026/b*/1") == found[1:]
    assert memory.matching(f"{ROOT}/2026/*.csv") == []
    assert [memory.size_bytes(p) for p in found] == [3, 3, 3]
    assert memory.is_file(found[0])
    assert not memory.is_file(f"{ROOT}/2026")
    with memory.open(found[0]) as file:
        file.seek(1)
        assert file.read() == b"bc"
    memory.remove(f"{ROOT}/2026/b")
    memory.remove(f"{ROOT}/2026/no")
    assert not memory.exists(found[1])
    assert memory.exists(found[2])


def test_a_stamp_changes_with_its_file(memory):
    write(memory, f"{ROOT}/a", b"abc")
    before = memory.stamp(f"{ROOT}/a")
    assert memory.stamp(f"{ROOT}/a") == before != ""
    write(memory, f"{ROOT}/a", b"abd")
    assert memory.stamp(f"{ROOT}/a") != before


def test_a_fault_leaves_what_was_there(memory):
    write(memory, f"{ROOT}/o", b"old")
    begun = memory.creating(f"{ROOT}/o")
    begun.__enter__().write(b"new")
    assert memory._fs.cat_file("/lake/o") == b"old"
    with pytest.raises(KeyboardInterrupt):
        begun.gen.throw(KeyboardInterrupt)
    assert memory.files_in(ROOT) == [f"{ROOT}/o"]
    assert memory._fs.cat_file("/lake/o") == b"old"


def test_lines_are_objects_made_once(memory):
    path = f"{ROOT}/.foretell/journal"
    assert memory.lines(path) == []
    memory.add_line(path, "one")
    other = RemoteStorage(memory._fs, memory._prefix)
    assert other.lines(path) == ["one"]
    other.add_line(path, "two é")
    with pytest.raises(ConfigError, match="another job writes here too"):
        memory.add_line(path, "deux")
    assert memory.lines(path) == ["one", "two é"]
    memory.add_line(path, "three")
    assert RemoteStorage(memory._fs, memory._prefix).lines(path) == ["one", "two é", "three"]
    memory.remove(f"{ROOT}/.foretell")
    memory.add_line(path, "anew")
    assert memory.lines(path) == ["anew"]


def test_a_line_whose_answer_was_lost_is_not_written_twice(memory, monkeypatch):
    real = memory._fs.pipe_file

    def twice(name, content, mode):
        real(name, content, mode=mode)
        real(name, content, mode=mode)

    monkeypatch.setattr(memory._fs, "pipe_file", twice)
    memory.add_line(f"{ROOT}/journal", "one")
    assert memory.lines(f"{ROOT}/journal") == ["one"]


def holder(**changes):
    mine = {"host": socket.gethostname(), "pid": os.getpid(), "token": "old", "renewed": time.time_ns()}
    return json.dumps(mine | changes).encode()


def test_one_holds_a_lease_and_says_who(memory):
    path = f"{ROOT}/lock"
    with memory.holding(path), pytest.raises(ConfigError, match=f"process {os.getpid()} on"), memory.holding(path):
        pass
    assert not memory.exists(path)
    with memory.holding(path):
        pass


def test_a_lease_that_is_renewed_on_another_machine_is_respected(memory):
    memory._fs.pipe_file("/lake/lock", holder(host="elsewhere", pid=7))
    with (
        pytest.raises(ConfigError, match=r"process 7 on elsewhere is at work.*after 45 s"),
        memory.holding(f"{ROOT}/lock"),
    ):
        pass


@pytest.mark.parametrize(
    "left",
    [
        holder(),  # of this process, which does not hold it: it had this number before
        holder(pid=2**22 + 1),  # no such process here
        holder(host="elsewhere", renewed=time.time_ns() - 3_600_000_000_000),
        b"torn",
    ],
)
def test_a_lease_that_was_left_is_taken_over(memory, monkeypatch, left):
    monkeypatch.setattr(lease, "_SETTLE_S", 0.0)
    memory._fs.pipe_file("/lake/lock", left)
    with memory.holding(f"{ROOT}/lock"):
        assert json.loads(memory._fs.cat_file("/lake/lock"))["token"] in lease._held
    assert not memory._fs.exists("/lake/lock")


@pytest.mark.parametrize("is_alive", [True, False])
def test_a_lease_that_seems_old_is_watched(memory, monkeypatch, is_alive):
    old = {"host": "elsewhere", "pid": 7, "renewed": time.time_ns() - 100_000_000_000}
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        if is_alive:
            memory._fs.pipe_file("/lake/lock", holder(**(old | {"renewed": old["renewed"] + 1})))

    monkeypatch.setattr(lease.time, "sleep", sleep)
    memory._fs.pipe_file("/lake/lock", holder(**old))
    if is_alive:
        with pytest.raises(ConfigError, match="elsewhere"), memory.holding(f"{ROOT}/lock"):
            pass
    else:
        with memory.holding(f"{ROOT}/lock"):
            pass
    assert slept[0] == 2 * lease._RENEW_S


def test_a_lease_is_renewed_until_another_has_it(memory, monkeypatch):
    monkeypatch.setattr(lease, "_RENEW_S", 0.01)
    with memory.holding(f"{ROOT}/lock"):
        first = memory._fs.cat_file("/lake/lock")
        while memory._fs.cat_file("/lake/lock") == first:
            time.sleep(0.01)
        stolen = holder(host="elsewhere")
        memory._fs.pipe_file("/lake/lock", stolen)
        time.sleep(0.05)
    assert memory._fs.cat_file("/lake/lock") == stolen


@pytest.mark.parametrize(
    ("fault", "kind", "said"),
    [
        (FileNotFoundError("k"), ConfigError, "no such file"),
        (PermissionError("Forbidden"), MachineError, r"may not be read \(Forbidden\); check the credentials"),
        (TimeoutError(), MachineError, r"\(TimeoutError\); check the connection, then run the same command again"),
        (ConnectionResetError("reset by peer"), MachineError, "check the connection"),
        (NotImplementedError(), ConfigError, "does not allow it"),
    ],
)
def test_faults_of_places(fault, kind, said):
    with pytest.raises(kind, match=said) as e, remote("s3://lake/a", "read"):
        raise fault
    assert str(e.value).startswith('"s3://lake/a": ')


def test_faults_that_are_not_of_places_go_through():
    with pytest.raises(KeyError), remote("s3://lake/a", "read"):
        raise KeyError
    with pytest.raises(RuntimeError), remote("s3://lake/a", "read"):
        raise RuntimeError
    assert not exists_already(PermissionError())


def test_a_place_that_is_not_known():
    with pytest.raises(ConfigError, match="nosuch://"):
        storage_of("nosuch://lake/a")


def test_a_library_that_is_missing_is_asked_for_by_name(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'foretell\[azure\]'"):
        remote_storage("az://lake/a")
