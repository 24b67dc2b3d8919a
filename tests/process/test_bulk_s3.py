"""Files in S3, over its real protocol."""

import gc
import threading

import pytest
from tests.process.s3_server import s3_lake

from foretell.bulk.places import storage_of
from foretell.bulk.remote import remote_storage
from foretell.errors import ConfigError, MachineError


@pytest.fixture(scope="module")
def server():
    with pytest.MonkeyPatch.context() as patch, s3_lake(patch) as lake:
        yield lake


@pytest.fixture
def lake(server):
    for key in server.objects():
        del server._backend()[key]
    server.forget()
    return server


@pytest.fixture
def s3(lake):
    return storage_of("s3://lake/a")


def test_an_object_appears_when_its_upload_is_complete(lake, s3):
    with s3.creating("s3://lake/o/small") as file:
        file.write(b"abc")
        assert lake.objects() == []
    content = bytes(range(256)) * (1 << 16)
    with s3.creating("s3://lake/o/large") as file:
        for at in range(0, len(content), 1 << 20):
            file.write(content[at : at + (1 << 20)])
        file.write(b"more")
        assert lake.uploads() == 1
        assert lake.objects() == ["o/small"]
    assert lake.get("o/large") == content + b"more"
    assert lake.uploads() == 0
    assert s3.size_bytes("s3://lake/o/large") == len(content) + 4


@pytest.mark.parametrize("written", [3, 1 << 24])
def test_an_upload_that_fails_leaves_nothing(lake, s3, written):
    lake.put("o", b"old")
    begun = s3.creating("s3://lake/o")
    file = begun.__enter__()
    file.write(bytes(written))
    with pytest.raises(KeyboardInterrupt):
        begun.gen.throw(KeyboardInterrupt)
    del begun, file
    gc.collect()
    assert lake.get("o") == b"old"
    assert lake.uploads() == 0


def test_reading(lake, s3):
    content = bytes(range(256)) * (3 << 12)
    lake.put("2026/a/1", content)
    lake.put("2026/a-b/1", b"x")
    lake.put("2026/empty/", b"")
    assert s3.files_in("s3://lake/2026/") == ["s3://lake/2026/a/1", "s3://lake/2026/a-b/1"]
    assert s3.matching("s3://lake/2026/*/1") == ["s3://lake/2026/a/1", "s3://lake/2026/a-b/1"]
    with s3.open("s3://lake/2026/a/1") as file:
        assert file.read() == content
        file.seek(100)
        assert file.read(5) == content[100:105]
    before = s3.stamp("s3://lake/2026/a/1")
    lake.put("2026/a/1", b"other")
    assert remote_storage("s3://lake/_").stamp("s3://lake/2026/a/1") != before


def test_a_file_that_changes_while_it_is_read_is_told_of(lake, s3):
    lake.put("a", bytes(1 << 20))
    with s3.open("s3://lake/a") as file:
        file.read(10)
        lake.put("a", bytes([1]) * (1 << 20))
        with pytest.raises(ConfigError, match='"s3://lake/a": was changed while it was read'):
            file.read()


def test_of_two_that_write_one_line_at_once_one_does(lake):
    path, outcomes = "s3://lake/o/.foretell/journal", []

    def add(own):
        try:
            remote_storage("s3://lake/_").add_line(path, own)
            outcomes.append("written")
        except ConfigError:
            outcomes.append("told")

    first = remote_storage("s3://lake/_")
    first.add_line(path, "begin")
    others = [threading.Thread(target=add, args=(f"job {i}",)) for i in range(4)]
    for storage in (first,):
        assert storage.lines(path) == ["begin"]
    numbers = {}
    real = type(first)._numbered

    def together(storage, path):
        found = real(storage, path)
        numbers[threading.get_ident()] = len(found)
        barrier.wait(10)
        return found

    barrier = threading.Barrier(4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(first), "_numbered", together)
        for thread in others:
            thread.start()
        for thread in others:
            thread.join()
    assert sorted(outcomes) == ["told", "told", "told", "written"]
    assert len(first.lines(path)) == 2
    assert set(numbers.values()) == {1}


def test_one_holds_a_lease(lake, s3):
    with (
        s3.holding("s3://lake/o/lock"),
        pytest.raises(ConfigError, match="is at work here"),
        remote_storage("s3://lake/_").holding("s3://lake/o/lock"),
    ):
        pass
    assert lake.objects() == []


def test_removing(lake, s3):
    for number in range(3):
        s3.add_line("s3://lake/o/.foretell/journal", str(number))
    lake.put("o/kept", b"")
    s3.remove("s3://lake/o/.foretell")
    s3.remove("s3://lake/no")
    assert lake.objects() == ["o/kept"]


def test_what_is_not_there(lake, s3):
    for ask in (s3.open, s3.size_bytes, s3.stamp, s3.files_in):
        with pytest.raises(ConfigError, match="there is no such file"):
            ask("s3://lake/no")
        with pytest.raises(ConfigError, match="no such bucket"):
            ask("s3://sea/no/")


def test_keys_that_do_not_fit(lake, s3, monkeypatch):
    from botocore.exceptions import NoCredentialsError

    def refuse(*_, **__):
        raise NoCredentialsError

    monkeypatch.setattr(s3._fs, "find", refuse)
    with pytest.raises(MachineError, match="check the credentials"):
        s3.files_in("s3://lake/")
