"""Another copy of Jittor takes over what the first one compiled."""
import os

import pytest

from ldm.platform import reuse


def compiled(cache, jittor, core="core"):
    """A cache as Jittor leaves it: files with their keys, and what belongs to one cache alone."""
    flags = f'-O2 -I"{jittor}/src" -I"{cache}"'
    for name, content in (("obj_files/a.o", "object"), ("jit/op.so", "operator"), ("jittor_core.so", core)):
        (cache / name).parent.mkdir(parents=True, exist_ok=True)
        (cache / name).write_text(content)
        (cache / f"{name}.key").write_text(f'"g++" "{jittor}/src/a.cc" {flags} -o "{cache}/{name}"\n'
                                           f"# {jittor}/src/a.cc: 123\n")
    (cache / "gen").mkdir()
    (cache / "gen/a.cc").write_text("generated")
    (cache / "iidm").mkdir()
    (cache / "iidm/operators.h").write_text("headers")
    return cache


@pytest.fixture
def places(tmp_path):
    return (tmp_path / "jt/12ab/main", tmp_path / "jt/cd34/main", tmp_path / "site/jittor",
            tmp_path / "copy/jittor")


def test_files_are_taken_and_their_keys_name_the_new_places(places):
    old, new, jittor, copy = places
    compiled(old, jittor)
    new.mkdir(parents=True)
    assert reuse.take_over(new, copy)
    expected = compiled(old.parent.parent / "ef56/main", copy)
    for path in (path for path in expected.rglob("*") if path.is_file()):
        name = path.relative_to(expected)
        if name.parts[0] == "iidm":
            assert not (new / name).exists()
        else:
            assert (new / name).read_text() == path.read_text().replace(str(expected), str(new))
    assert not any(str(old) in path.read_text() for path in new.rglob("*.key"))


def test_a_compiled_core_stays(places):
    old, new, jittor, copy = places
    compiled(old, jittor)
    compiled(new, copy, core="own")
    assert not reuse.take_over(new, copy)
    assert (new / "jittor_core.so").read_text() == "own"


def test_the_newest_is_taken(places):
    old, new, jittor, copy = places
    compiled(old, jittor)
    os.utime(old / "jittor_core.so", (1e9, 1e9))
    compiled(old.parent.parent / "ef56/main", jittor, core="newer")
    assert reuse.take_over(new, copy) and (new / "jittor_core.so").read_text() == "newer"


def test_nothing_to_take(places):
    old, new, _, copy = places
    assert not reuse.take_over(new, copy)
    (old / "obj_files").mkdir(parents=True)                 # its first compilation was stopped
    assert not reuse.take_over(new, copy) and not new.exists()


def test_a_file_without_its_key_is_taken_without(places):
    """Jittor then compiles it again."""
    old, new, jittor, copy = places
    compiled(old, jittor)
    (old / "jit/op.so.key").unlink()
    assert reuse.take_over(new, copy)
    assert (new / "jit/op.so").exists() and not (new / "jit/op.so.key").exists()
