"""tools/infer.py --part I/N: the parts, made in any order, are together the whole, byte for byte."""
import pytest
from tiny import make_model, make_pairs, one_error, run_tool


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    make_pairs(folder / "in", count=5)
    (folder / "model").mkdir()
    make_model(folder / "model")
    return folder


def infer(folder, output, *more):
    return run_tool("infer", "--model", folder / "model", "--rounds", folder / "model/rounds.yaml", "--masks",
                    folder / "in/masks", "--references", folder / "in/references", "--output", output, *more)


def pictures(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.jpg")}


def test_the_union_of_the_parts_is_the_whole(folder, tmp_path):
    assert infer(folder, tmp_path / "whole").returncode == 0
    whole, parts = pictures(tmp_path / "whole"), tmp_path / "parts"
    for part, made in (("3/3", 1), ("1/3", 2), ("2/3", 2)):
        before = len(pictures(parts))
        done = infer(folder, parts, "--part", part)
        assert done.returncode == 0 and f"{made} to make, 0 exist already" in done.stdout, done.stdout
        assert len(pictures(parts)) == before + made
    assert pictures(parts) == whole and len(whole) == 5
    again = infer(folder, parts, "--part", "1/3")
    assert "0 to make, 2 exist already" in again.stdout
    (parts / "m3.jpg").unlink()                             # of part 1: the whole makes what is missing
    done = infer(folder, parts, "--zip")
    assert "1 to make, 4 exist already" in done.stdout and (parts / "result.zip").exists()
    assert pictures(parts) == whole
    one_error(infer(folder, parts, "--part", "1/3", "--seed", "5"), "made otherwise")


def test_what_no_part_can_use_is_reported_once(folder, tmp_path):
    pairs = tmp_path / "p.json"
    pairs.write_text('{"m0.png": "m0.jpg", "m1.png": "m1.jpg", "m2.png": "gone.jpg"}')
    statuses = [infer(folder, tmp_path / "out", "--pairs", pairs, "--part", f"{i}/2", "--dry-run").returncode
                for i in (1, 2)]
    assert statuses == [2, 0]


@pytest.mark.parametrize("part", ["0/2", "3/2", "1", "1/0", "a/b", "1/2/3", "-1/2", ""])
def test_a_part_that_is_none_is_one_line(folder, tmp_path, part):
    done = infer(folder, tmp_path, "--part", part)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "--part" in done.stderr or not part


def test_a_zip_file_needs_all_parts(folder, tmp_path):
    one_error(infer(folder, tmp_path, "--part", "1/2", "--zip"), "--zip", "without --part")
