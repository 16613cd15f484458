"""Pictures and label maps as people have them: turned, deep, indexed, of any format, damaged. No Jittor."""
import contextlib
import io
import os
import socket

import numpy as np
import pytest
from PIL import Image

from ldm import decoding, files, images, label_maps, labels
from ldm.errors import UserError

RGB = np.random.default_rng(1).integers(0, 255, (6, 8, 3)).astype(np.uint8)
MAP = (np.arange(48).reshape(6, 8) % 29).astype(np.uint8)
COLOURED = labels.colorize(MAP)


def saved(path, image, **options):
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(path, **options)
    return path


# ---- photographs -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation, undo", [
    (1, lambda x: x), (2, np.fliplr), (3, lambda x: np.rot90(x, 2)), (4, np.flipud),
    (5, lambda x: x.transpose(1, 0, 2)), (6, lambda x: np.rot90(x, 1)),
    (7, lambda x: np.rot90(x, 2).transpose(1, 0, 2)), (8, lambda x: np.rot90(x, -1)), (99, lambda x: x)])
def test_a_photograph_is_upright_whatever_its_exif_says(tmp_path, suffix, orientation, undo):
    x = np.zeros((48, 64, 3), np.uint8)
    x[:24, :32], x[:24, 32:], x[24:, :32] = (200, 30, 30), (30, 200, 30), (30, 30, 200)
    stored = undo(x)                                    # what a viewer turns back to x
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95} if suffix == "jpg" else {"lossless": True} if suffix == "webp" else {}
    path = saved(tmp_path / f"a.{suffix}", np.ascontiguousarray(stored), exif=exif, **options)
    read = images.read_image(path)
    assert read.shape == x.shape and np.abs(read.astype(int) - x).mean() < 3


@pytest.mark.parametrize("deep, suffix", [(np.uint16, "png"), (np.uint16, "tif")])
def test_deep_greys_keep_their_tones(tmp_path, deep, suffix):
    path = saved(tmp_path / f"a.{suffix}", MAP.astype(deep) * 9 * 257)
    assert np.array_equal(images.read_image(path), np.repeat(MAP[..., None] * 9, 3, axis=2))


@pytest.mark.parametrize("values", [np.float32(MAP), np.int32(MAP)])
def test_greys_without_a_white_are_refused(tmp_path, values):
    path = saved(tmp_path / "a.tif", values)
    with pytest.raises(UserError, match="a.tif: holds floating-point or signed"):
        images.read_image(path)


@pytest.mark.parametrize("suffix, mode", [
    ("png", "1"), ("png", "P"), ("png", "LA"), ("png", "RGBA"), ("jpg", "CMYK"), ("jpg", "YCbCr"),
    ("bmp", "RGB"), ("bmp", "P"), ("tif", "CMYK"), ("tif", "YCbCr"), ("tif", "RGBA"), ("webp", "RGBA"),
    ("gif", "P"), ("jfif", "L")])
def test_every_kind_of_photograph_is_read(tmp_path, suffix, mode):
    smooth = Image.fromarray(RGB).resize((64, 48), Image.BICUBIC)
    path = saved(tmp_path / f"a.{suffix}", smooth.convert(mode))
    try:
        Image.open(path).load()
    except OSError:
        pytest.skip("this Pillow does not read what it wrote")      # 11.3 and TIFF in YCbCr
    read = images.read_image(path)
    plain = np.asarray(smooth.convert(mode if mode in ("1", "L", "P") else "L" if mode == "LA" else "RGB")
                       .convert("RGB"))
    assert np.abs(read.astype(int) - plain).mean() < 8
    assert path_names(tmp_path) == [f"a.{suffix}"]


def path_names(folder):
    return [p.name for p in images.list_images(folder)]


def test_the_first_of_several_frames_is_read(tmp_path):
    frames = [Image.fromarray(np.full((6, 8, 3), v, np.uint8)) for v in (200, 10)]
    for suffix in ("gif", "webp", "tif", "png"):
        path = tmp_path / f"a.{suffix}"
        options = {"lossless": True} if suffix == "webp" else {}
        frames[0].save(path, save_all=True, append_images=frames[1:], **options)
        assert (images.read_image(path) == 200).all()


def test_a_label_map_is_turned_as_its_photograph_is(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path / "a.png", np.ascontiguousarray(np.rot90(MAP, 1)), exif=exif)
    assert np.array_equal(images.read_labels(path), MAP)


# ---- files that are no pictures ----------------------------------------------------------------------------

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n{ } loop\n"


@pytest.mark.parametrize("data, word", [
    (EPS, "PostScript"), (b"", "empty"), (b"%PDF-1.4", "PDF"), (b"\0\0\0\x18ftypheic", "HEIC"),
    (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"), (b"<!DOCTYPE html>", "web page"),
    (b"P6 8 6 255\n" + bytes(144), "unknown format"), (b"\x89PNG\r\n\x1a\n", "")])
def test_what_is_no_picture_is_one_line(tmp_path, data, word):
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    for read in (images.read_image, images.read_labels):
        with pytest.raises(UserError, match=f"(?s)a.jpg: cannot be read as an image.*{word}") as caught:
            read(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "gif", "bmp"])
def test_damaged_files_are_one_line_or_a_picture(tmp_path, suffix):
    """Bytes changed or cut off anywhere: never another exception."""
    path = saved(tmp_path / f"a.{suffix}", Image.fromarray(RGB).resize((64, 48)))
    whole, rng = path.read_bytes(), np.random.default_rng(2)
    for _ in range(150):
        data = bytearray(whole[:rng.integers(1, len(whole) + 1)])
        for place in rng.integers(0, min(len(data), 200), rng.integers(0, 4)):
            data[place] = rng.integers(256)
        path.write_bytes(data)
        for read in (images.read_image, images.read_labels):
            try:
                assert read(path).dtype == np.uint8
            except UserError as e:
                assert "a." in str(e) and "\n" not in str(e)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "jpeg"])
def test_libtiff_prints_no_lines_of_its_own(tmp_path, capfd, compression):
    data = io.BytesIO()
    Image.fromarray(RGB).resize((64, 48)).save(data, "TIFF", compression=compression)
    whole, rng = data.getvalue(), np.random.default_rng(3)
    for _ in range(20):
        bent = bytearray(whole)
        bent[8:600] = rng.bytes(592)
        (tmp_path / "a.tif").write_bytes(bent)
        with contextlib.suppress(UserError):
            images.read_image(tmp_path / "a.tif")
    assert capfd.readouterr().err == ""


def test_a_bomb_is_refused_by_its_header(tmp_path):
    bomb = io.BytesIO()
    Image.new("1", (20000, 20000)).save(bomb, "PNG")            # 400 million pixels in 50 kB
    (tmp_path / "a.png").write_bytes(bomb.getvalue())
    with pytest.raises(UserError, match="a.png: .*million"):
        images.read_labels(tmp_path / "a.png")
    line = saved(tmp_path / "c.png", Image.new("L", (decoding.MAX_SIDE + 1, 1)))     # long to resize
    with pytest.raises(UserError, match="c.png: is 65536 x 1 pixels; .*sides"):
        images.read_image(line, (128, 96))
    wide = saved(tmp_path / "b.png", Image.new("1", (decoding.MAX_PIXELS // 1000 + 1, 1000)))
    with pytest.raises(UserError, match="b.png: is 120001 x 1000 pixels"):
        images.read_image(wide)


def test_fifos_sockets_devices_and_folders_are_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "fifo.png")
    (tmp_path / "folder.png").mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket.png"))
        (tmp_path / "device.png").symlink_to("/dev/zero")
        (tmp_path / "circle.png").symlink_to("circle.png")
        for path in images.list_images(tmp_path):
            for read in (images.read_image, images.read_labels, files.sha256):
                with pytest.raises(UserError, match=f"{path.name}: cannot be read"):
                    read(path)


def test_paths_that_cannot_be_looked_at_are_user_errors(tmp_path):
    (tmp_path / "circle").symlink_to("circle")
    for path in (tmp_path / ("x" * 300), tmp_path / "circle", tmp_path / "a\0b"):
        with pytest.raises(UserError):
            images.list_images(path)
    assert files.kind_of(tmp_path) == "folder" and files.kind_of(tmp_path / "none") is None
    assert files.kind_of("/dev/null/x") is None and files.kind_of("/dev/null") == "device"


# ---- label maps --------------------------------------------------------------------------------------------

def palette(indices, colours):
    image = Image.fromarray(indices, "P")
    image.putpalette(np.asarray(colours, np.uint8).reshape(-1).tolist())
    return image


def test_a_palette_of_the_classes_colours_is_read_by_colour(tmp_path):
    order = np.random.default_rng(0).permutation(29)                    # as a painting program numbers them
    image = palette(np.argsort(order).astype(np.uint8)[MAP], labels.COLORS[order])
    for suffix in ("png", "bmp", "tif"):
        assert np.array_equal(images.read_labels(saved(tmp_path / f"a.{suffix}", image)), MAP)
    greys = np.repeat(order[:, None], 3, axis=1)                         # the same of a grey map
    image = palette(np.argsort(order).astype(np.uint8)[MAP], greys)
    assert np.array_equal(images.read_labels(saved(tmp_path / "grey.png", image)), MAP)


def test_indices_of_another_palette_are_classes_with_one_warning(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(label_maps, "_warned", set())
    colours = np.random.default_rng(0).integers(50, 255, (29, 3))
    for name in ("a.png", "b.png"):
        assert np.array_equal(images.read_labels(saved(tmp_path / name, palette(MAP, colours))), MAP)
    assert len(caplog.messages) == 1 and "a.png" in caplog.text and "indices" in caplog.text


@pytest.mark.parametrize("image, bits", [
    (COLOURED, 8), (np.dstack([MAP] * 3), 8), (np.uint16(MAP), 16),
    (np.dstack([COLOURED, np.full((6, 8), 255, np.uint8)]), 8), (MAP % 2 == 0, 1)])
def test_maps_of_other_encodings_that_are_beyond_doubt(tmp_path, image, bits):
    expected = (MAP % 2 == 0).astype(np.uint8) if bits == 1 else MAP
    for suffix in ("png", "tif"):
        assert np.array_equal(images.read_labels(saved(tmp_path / f"a.{suffix}", image)), expected)


@pytest.mark.parametrize("bits", [2, 4])
def test_greys_of_few_bits_hold_classes_not_tones(tmp_path, bits):
    values = MAP % 2 ** bits
    path = tmp_path / "a.png"
    path.write_bytes(grey_png(values, bits))
    assert np.array_equal(images.read_labels(path), values)


def grey_png(values, bits):
    """A grey PNG of so many bits, which Pillow does not write."""
    import struct
    import zlib

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    height, width = values.shape
    lines = np.unpackbits(values[..., None], axis=2)[..., -bits:].reshape(height, -1)
    rows = b"".join(b"\0" + np.packbits(line).tobytes() for line in lines)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


@pytest.mark.parametrize("image, word", [
    (RGB, "belongs to no class"), (np.dstack([MAP] * 3 + [MAP * 0]), "transparent"),
    (np.uint16(MAP) * 257, "holds label"), (np.float32(MAP), "label map|holds"), (MAP * 9, "holds label")])
def test_maps_in_doubt_are_refused(tmp_path, image, word):
    with pytest.raises(UserError, match=f"a.tif: .*({word})"):
        images.read_labels(saved(tmp_path / "a.tif", image))


@pytest.mark.parametrize("name, options", [
    ("a.jpg", {"quality": 100}), ("a.webp", {"lossless": True}), ("a.gif", {}),
    ("a.tif", {"compression": "jpeg"})])
def test_formats_that_change_labels_are_refused(tmp_path, name, options):
    path = saved(tmp_path / name, MAP, **options)
    with pytest.raises(UserError, match=f"{name}: is a label map saved as .*PNG"):
        images.read_labels(path)
    os.rename(path, tmp_path / "b.png")                             # by content, whatever its name says
    with pytest.raises(UserError, match="b.png: is a label map saved as"):
        images.read_labels(tmp_path / "b.png")


def test_values_to_ignore_become_other(tmp_path):
    path = saved(tmp_path / "a.png", np.where(MAP == 3, 255, MAP).astype(np.uint8))
    with pytest.raises(UserError, match="holds label 255.*--ignore 255"):
        images.read_labels(path)
    read = images.read_labels(path, reading=images.Reading(ignore=(255,)))
    assert np.array_equal(read, np.where(MAP == 3, labels.OTHER, MAP))


# ---- sizes -------------------------------------------------------------------------------------------------

def test_other_proportions_are_refused_or_cropped(tmp_path):
    tall = np.repeat(np.arange(28, dtype=np.uint8), 4)[:, None].repeat(48, axis=1)      # 48 x 112
    path = saved(tmp_path / "a.png", tall)
    with pytest.raises(UserError, match="a.png: is 48 x 112 pixels, other proportions.*--fit crop"):
        images.read_labels(path, (64, 48))
    read = images.read_labels(path, (48, 36), images.Reading(fit="crop"))
    assert np.array_equal(read, tall[38:74])                                            # its middle
    photo = saved(tmp_path / "b.png", np.dstack([tall] * 3))
    assert np.array_equal(images.read_image(photo, (48, 36), "crop")[..., 0], tall[38:74])
    assert images.read_image(photo, (48, 36))[[0, -1], 0, 0].tolist() == [0, 27]        # stretched


@pytest.mark.parametrize("size, same", [((512, 384), True), ((4002, 3000), True), ((65, 48), True),
                                        ((1, 1), False), ((2048, 64), False), ((96, 128), False)])
def test_proportions_are_the_same_but_for_rounding(size, same):
    assert images.same_proportions(size, (64, 48)) is same
