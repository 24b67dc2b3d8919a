import errno
import os
import subprocess
import sys

import pytest

from foretell.bulk.local import LocalStorage
from foretell.bulk.places import is_url, storage_of
from foretell.errors import ConfigError, InternalError, MachineError

LOCAL = LocalStorage()


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_a_name_appears_when_its_content_is_whole(tmp_path):
    path = tmp_path / "new" / "deep" / "o.bin"
    with LOCAL.creating(str(path)) as file:
        file.write(b"abc")
        assert not path.exists()
        assert len(names(path.parent)) == 1
    assert path.read_bytes() == b"abc"
    assert names(path.parent) == ["o.bin"]


@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt])
def test_a_fault_leaves_what_was_there(tmp_path, fault):
    path = tmp_path / "o.bin"
    path.write_bytes(b"old")
    begun = LOCAL.creating(str(path))
    begun.__enter__().write(b"abc")
    with pytest.raises(fault):
        begun.gen.throw(fault)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["o.bin"]


def test_what_a_killed_process_left_goes_with_the_next(tmp_path):
    (tmp_path / ".o[1].bin.0123abcd.part").write_bytes(b"half")
    (tmp_path / ".other.bin.0123abcd.part").write_bytes(b"of another file")
    storage = LocalStorage()
    for _ in range(2):
        with storage.creating(str(tmp_path / "o[1].bin")):
            pass
    assert names(tmp_path) == [".other.bin.0123abcd.part", "o[1].bin"]


def test_a_folder_is_looked_through_once(tmp_path, monkeypatch):
    looked, real = [], os.listdir
    monkeypatch.setattr(os, "listdir", lambda folder: looked.append(folder) or real(folder))
    storage = LocalStorage()
    for number in range(5):
        with storage.creating(str(tmp_path / f"{number}")):
            pass
    assert len(looked) == 1


def test_file_and_folder_are_synced_before_and_after_the_name_is_there(tmp_path, monkeypatch):
    done = []
    real = os.fsync, os.replace
    monkeypatch.setattr(
        os, "fsync", lambda h: (done.append(("sync", os.readlink(f"/proc/self/fd/{h}"))), real[0](h))[1]
    )
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append(("rename", str(b))), real[1](a, b))[1])
    with LOCAL.creating(str(tmp_path / "f" / "o.bin")) as file:
        file.write(b"abc")
    assert [what for what, _ in done] == ["sync", "sync", "rename", "sync"]
    assert done[0][1] == str(tmp_path)
    assert done[1][1].endswith(".part")
    assert done[3][1] == str(tmp_path / "f")


def test_a_symlink_is_followed(tmp_path):
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "o").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "to" / "o")
    with LOCAL.creating(str(tmp_path / "link")) as file:
        file.write(b"new")
    assert (tmp_path / "to" / "o").read_bytes() == b"new"


@pytest.mark.parametrize(("code", "advice"), [(errno.ENOSPC, "MB are free there; free some"), (errno.EACCES, "perm")])
def test_the_machine_at_fault_is_said(tmp_path, code, advice):
    with pytest.raises(MachineError, match=advice), LOCAL.creating(str(tmp_path / "o")):
        raise OSError(code, os.strerror(code))
    assert names(tmp_path) == []


def test_a_full_disk(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    begun = LOCAL.creating(str(tmp_path / "o"))
    file = begun.__enter__()
    with open("/dev/full", "wb") as full:
        os.dup2(full.fileno(), file.fileno())
    file.write(b"x" * 10)
    with pytest.raises(MachineError, match="No space left"):
        begun.__exit__(None, None, None)
    assert names(tmp_path) == []


def test_lines_are_added_and_read(tmp_path):
    path = str(tmp_path / "f" / "journal")
    assert LOCAL.lines(path) == []
    LOCAL.add_line(path, '{"a": 1}')
    LOCAL.add_line(path, "é")
    assert LOCAL.lines(path) == ['{"a": 1}', "é"]
    with pytest.raises(InternalError):
        LOCAL.add_line(path, "a\nb")


@pytest.mark.parametrize("torn", [b"ha", b"x" * 200_000, b"\0" * 4096])
@pytest.mark.parametrize("whole", [b"", b"one\n"])
def test_a_line_cut_short_is_left_out_and_cut_off(tmp_path, torn, whole):
    path = tmp_path / "journal"
    path.write_bytes(whole + torn)
    assert LOCAL.lines(str(path)) == whole.decode().split()
    LOCAL.add_line(str(path), "next")
    assert path.read_bytes() == whole + b"next\n"


def test_a_line_that_does_not_fit_leaves_nothing(tmp_path, monkeypatch):
    path = tmp_path / "journal"
    path.write_bytes(b"one\n")
    real = os.write
    monkeypatch.setattr(os, "write", lambda h, data: real(h, data[:2]))
    with pytest.raises(MachineError, match="free some space"):
        LOCAL.add_line(str(path), "two")
    assert path.read_bytes() == b"one\n"


def test_what_is_not_there(tmp_path):
    for ask in (LOCAL.open, LOCAL.size_bytes, LOCAL.stamp, LOCAL.files_in):
        with pytest.raises(ConfigError, match="there is no such file"):
            ask(str(tmp_path / "no"))
    LOCAL.remove(str(tmp_path / "no"))


def test_files_in_their_order_and_what_is_known_of_them(tmp_path):
    for name in ("b/1", "b-c/1", "a"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"abc")
    found = LOCAL.files_in(str(tmp_path))
    assert [os.path.relpath(p, tmp_path) for p in found] == ["a", "b/1", "b-c/1"]
    assert LOCAL.size_bytes(found[0]) == 3
    before = LOCAL.stamp(found[0])
    os.utime(found[0], ns=(1, 1))
    assert LOCAL.stamp(found[0]) == "1" != before
    LOCAL.remove(str(tmp_path / "b"))
    assert LOCAL.exists(str(tmp_path / "b-c"))
    assert not LOCAL.exists(str(tmp_path / "b"))


def test_a_file_that_appears_while_its_folder_is_removed_stays(tmp_path, monkeypatch):
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "old").write_bytes(b"")
    real = os.rmdir

    def rmdir(path, **options):
        (tmp_path / "f" / "new").write_bytes(b"")
        real(path, **options)

    monkeypatch.setattr(os, "rmdir", rmdir)
    LOCAL.remove(str(tmp_path / "f"))
    assert names(tmp_path / "f") == ["new"]


def test_one_holds_a_name_and_says_who(tmp_path):
    path = str(tmp_path / "f" / "lock")
    with (
        LOCAL.holding(path),
        pytest.raises(ConfigError, match=f"process {os.getpid()} on .* is at work here"),
        LOCAL.holding(path),
    ):
        pass
    with LOCAL.holding(path):
        pass
    assert names(tmp_path / "f") == []


def test_a_name_falls_free_when_its_holder_is_killed(tmp_path):
    path = str(tmp_path / "lock")
    code = "import sys\nfrom foretell.bulk.local import LocalStorage\nwith LocalStorage().holding(sys.argv[1]):\n"
    code += "    print('held', flush=True)\n    sys.stdin.read()\n"
    child = subprocess.Popen([sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(ConfigError, match=f"process {child.pid} "), LOCAL.holding(path):
            pass
    finally:
        child.kill()
        child.communicate()
    with LOCAL.holding(path):
        pass


def test_a_path_names_its_place():
    assert is_url("s3://lake/2026/")
    assert not any(map(is_url, ("C:/a", "a//b", "/a", "-", "a:b")))
    assert isinstance(storage_of("out/o.csv"), LocalStorage)
