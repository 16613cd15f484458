"""tools/infer.py on a folder as people have them: whatever one file is, the others are made."""
import os

import numpy as np
from PIL import Image
from tiny import make_model, make_pairs, run_tool

from ldm import images, labels

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n{ } loop\n"


def test_strange_files_are_a_line_each_and_the_others_are_made(tmp_path):
    (tmp_path / "model").mkdir()
    model, made = make_model(tmp_path / "model"), make_pairs(tmp_path / "in", count=1)
    masks, references = made / "masks", made / "references"
    whole = images.read_labels(masks / "m0.png")

    def pair(name, mask=None, reference=None):
        """One more mask and reference: bytes, an array or a copy of m0's."""
        for folder, suffix, data in ((masks, ".png", mask), (references, ".jpg", reference)):
            path = folder / (name + suffix)
            if isinstance(data, np.ndarray):
                Image.fromarray(data).save(path)
            else:
                path.write_bytes((folder / f"m0{suffix}").read_bytes() if data is None else data)
    gbk = os.fsdecode("风".encode("gbk"))
    pair(gbk)
    pair("colours", labels.colorize(whole))
    pair("eps", reference=EPS)
    pair("tall", np.ascontiguousarray(whole.T))
    pair("a\x1b[31mred", b"no picture")
    pair("ignored", np.where(whole == whole[0, 0], 255, whole).astype(np.uint8))
    os.mkfifo(masks / "fifo.png")
    (references / "fifo.jpg").write_bytes(b"")
    done = run_tool("infer", "--model", model, "--rounds", model / "rounds.yaml", "--masks", masks,
                    "--references", references, "--output", tmp_path / "out", "--format", "png",
                    "--ignore", 255)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2 and "Traceback" not in done.stderr and "\x1b[31m" not in done.stderr
    for words in (("eps.jpg", "PostScript"), ("tall.png", "48 x 64", "4 : 3"), ("\\x1b[31mred.png",),
                  ("fifo.png", "FIFO"), ("4 could not be made",)):
        assert sum(all(word in line for word in words) for line in errors) == 1, (words, errors)
    assert len(errors) == 5
    results = {path.name: images.read_image(path) for path in (tmp_path / "out").glob("*.png")}
    assert sorted(results) == sorted(["m0.png", f"{gbk}.png", "colours.png", "ignored.png"])
    assert not np.array_equal(results["m0.png"], results[f"{gbk}.png"])     # each name has noise of its own


def test_a_result_whose_name_would_be_too_long_is_a_line_and_the_others_are_made(tmp_path):
    (tmp_path / "model").mkdir()
    model, made = make_model(tmp_path / "model"), make_pairs(tmp_path / "in", count=1)
    (tmp_path / "out").mkdir()                  # the system looks at a name if its folder exists
    for folder, suffix in (("masks", ".png"), ("references", ".jpg")):
        os.link(made / folder / f"m0{suffix}", made / folder / ("\u98ce" * 83 + suffix))
    arguments = ["--model", model, "--rounds", model / "rounds.yaml", "--masks", made / "masks",
                 "--references", made / "references", "--output", tmp_path / "out", "--seeds", "7"]
    for count in (0, 1):
        done = run_tool("infer", *arguments)
        assert done.returncode == 2 and f"{1 - count} to make, {count} exist already" in done.stdout
        first, second = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert "name of more than 255 bytes" in first and second.startswith("error: 1 could not")
        assert [path.name for path in (tmp_path / "out").glob("*.jpg")] == ["m0_seed7.jpg"]
