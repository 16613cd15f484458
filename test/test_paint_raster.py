"""The page's raster functions against maps that Python makes by the definitions, pixel by pixel."""
import numpy as np
import pytest
import yaml
from paint_browser import browser, server  # noqa: F401  (fixtures)

from ldm.inference import rounds

SIZE = (48, 36)                         # width, height
RUN = """async (jobs) => {
  const tools = await import('/static/tools.js'), { LabelMap } = await import('/static/buffer.js');
  return jobs.map(([width, height, data, name, ...values]) => {
    const map = new LabelMap(width, height, Uint8Array.from(data));
    tools[name](map, ...values);
    return [...map.data];
  });
}"""


@pytest.fixture(scope="module")
def page(browser, server):  # noqa: F811
    """A document of the server: the modules need no page."""
    page = browser.new_page()
    page.goto(server + "static/words.js")
    yield page
    page.close()


@pytest.fixture
def drawn(page):
    """`drawn([(map H x W, function of tools.js, its further arguments), ...])` -> the maps after them."""
    def run(jobs):
        packed = [[m.shape[1], m.shape[0], m.ravel().tolist(), name, *values] for m, name, *values in jobs]
        return [np.array(data, np.uint8).reshape(m.shape)
                for (m, *_), data in zip(jobs, page.evaluate(RUN, packed))]
    return run


def test_rounds_of_the_page_are_a_file_of_rounds(page):
    """What the page shows as YAML is what it asks the server for; defaults are left out, lists too."""
    of_a_round = [rounds.ROUND, {"strength": 0.6, "steps": 8}, {"respacing": "ddim50", "start": 9},
                  {"strength": 0.5, "steps": 3, "guidance": 2.5, "guidance_interval": [0.1, 0.55]}]
    trees = [{"sampler": "unipc_2", "rounds": [{**rounds.ROUND, **r} for r in of_a_round[1:]]},
             {"rounds": of_a_round[1:]}]
    for tree in trees:
        text, same = page.evaluate("""async (tree) => {
          const rounds = await import('/static/rounds.js');
          return [rounds.toYaml(tree), rounds.same(tree, rounds.complete(tree))];
        }""", tree)
        assert rounds.check(yaml.safe_load(text)) == rounds.check(tree) and same
        assert text.count("guidance_interval") == 1 and "color_transfer" not in text


def empty():
    return np.zeros(SIZE[::-1], np.uint8)


def mottled(rng, classes=3):
    """Blobs of a few classes."""
    coarse = rng.integers(0, classes, (9, 12), dtype=np.uint8)
    return np.kron(coarse, np.ones((4, 4), np.uint8))


def disc(m, x, y, diameter, ink):
    """All pixels whose centres are within half the diameter of the disc's centre."""
    ys, xs = np.mgrid[:m.shape[0], :m.shape[1]]
    shift = 0 if diameter % 2 else 0.5
    out = m.copy()
    out[(xs - x - shift) ** 2 + (ys - y - shift) ** 2 <= diameter ** 2 / 4] = ink
    return out


def bresenham(x0, y0, x1, y1):
    """The line's pixels: along its longer side, the nearest pixel of the other."""
    steps = max(abs(x1 - x0), abs(y1 - y0))
    parts = np.arange(steps + 1) / max(1, steps)
    return list(zip(x0 + (x1 - x0) * parts, y0 + (y1 - y0) * parts))


def polygon(m, points, ink):
    """Even-odd rule at each pixel's centre."""
    out = m.copy()
    for y in range(m.shape[0]):
        for x in range(m.shape[1]):
            inside = False
            for (ax, ay), (bx, by) in zip(points, points[1:] + points[:1]):
                if (ay <= y + 0.5) != (by <= y + 0.5):
                    inside ^= ax + (y + 0.5 - ay) / (by - ay) * (bx - ax) <= x + 0.5
            if inside:
                out[y, x] = ink
    return out


def flood(m, x, y, ink):
    out, todo, source = m.copy(), [(x, y)], m[y, x]
    while todo:
        px, py = todo.pop()
        if 0 <= px < m.shape[1] and 0 <= py < m.shape[0] and m[py, px] == source and out[py, px] != ink:
            out[py, px] = ink
            todo += [(px - 1, py), (px + 1, py), (px, py - 1), (px, py + 1)]
    return out


def assert_equal(found, wanted):
    for number, (a, b) in enumerate(zip(found, wanted)):
        np.testing.assert_array_equal(a, b, err_msg=f"case {number}")


def test_discs_of_every_size_also_at_the_border(drawn):
    cases = [(x, y, d, 5) for d in range(1, 41) for x, y in ((20, 18), (0, 35))]
    assert_equal(drawn([(empty(), "disc", *c) for c in cases]), [disc(empty(), *c) for c in cases])


def test_a_line_is_discs_along_the_nearest_pixels(drawn):
    rng = np.random.default_rng(1)
    ends = [[int(v) for v in rng.integers(-4, 40, 4)] for _ in range(40)]
    found = drawn([(empty(), "line", *e, 1, 5) for e in ends])
    for m, (x0, y0, x1, y1) in zip(found, ends):
        inside = [(x, y) for x, y in bresenham(x0, y0, x1, y1) if -0.5 < x < 47.5 and -0.5 < y < 35.5]
        rows, columns = np.nonzero(m)
        assert abs(len(rows) - len(inside)) <= 1
        for x, y in zip(columns, rows):     # halves may be rounded either way
            assert min(max(abs(x - px), abs(y - py)) for px, py in bresenham(x0, y0, x1, y1)) <= 0.5
    thick = drawn([(empty(), "line", *e, 7, 5) for e in ends])
    for m, thin in zip(thick, found):
        wanted = empty()
        for y, x in np.argwhere(thin):
            wanted = disc(wanted, x, y, 7, 5)
        assert not np.any((wanted == 5) & (m != 5))


def test_polygons_by_the_even_odd_rule(drawn):
    rng = np.random.default_rng(2)
    cases = [[[float(x), float(y)] for x, y in rng.uniform((-6, -6), (54, 42), (n, 2)).round(2)]
             for n in (3, 4, 5, 7, 12)]
    cases += [[[2, 2], [20, 2], [20, 20], [2, 20]], [[1, 1], [40, 30], [40, 1], [1, 30]]]
    found = drawn([(empty(), "polygon", points, 7) for points in cases])
    assert_equal(found, [polygon(empty(), points, 7) for points in cases])


def test_fill_replace_rectangle_and_mirror(drawn):
    rng = np.random.default_rng(3)
    maps = [mottled(rng) for _ in range(8)]
    spots = [(int(rng.integers(48)), int(rng.integers(36))) for _ in maps]
    assert_equal(drawn([(m, "flood", x, y, 9) for m, (x, y) in zip(maps, spots)]),
                 [flood(m, x, y, 9) for m, (x, y) in zip(maps, spots)])
    assert_equal(drawn([(m, "flood", 3, 3, int(m[3, 3])) for m in maps]), maps)         # its own class
    assert_equal(drawn([(m, "replaceClass", 1, 8) for m in maps]), [np.where(m == 1, 8, m) for m in maps])
    assert_equal(drawn([(m, "mirror") for m in maps]), [m[:, ::-1] for m in maps])
    filled = maps[0].copy()
    filled[4:11, 7:48] = 6
    assert_equal(drawn([(maps[0], "rectangle", 60, 10, 7, 4, 6)]), [filled])


def test_a_thousand_random_strokes_are_undone_and_redone(page):
    same, end, back = page.evaluate("""async () => {
      const tools = await import('/static/tools.js'), { LabelMap } = await import('/static/buffer.js');
      const { Undo } = await import('/static/undo.js');
      const map = LabelMap.horizon(128, 96, 1, 12, 40), start = map.clone(), undo = new Undo(map);
      let seed = 1;
      const random = (n) => (seed = seed * 48271 % 2147483647) % n;
      let steps = 0;
      for (let i = 0; i < 1000; i++) {
        const id = random(29), at = [random(140) - 6, random(100) - 2];
        const rect = [() => tools.line(map, ...at, random(128), random(96), 1 + random(20), id),
          () => tools.polygon(map, [at, [random(128), random(96)], [random(128), random(96)]], id),
          () => tools.flood(map, random(128), random(96), id),
          () => tools.rectangle(map, ...at, random(128), 9, id)][i % 4]();
        steps += rect ? undo.commit(rect) : 0;
      }
      const end = map.clone();
      while (undo.undo());
      const same = map.equals(start);
      while (undo.redo());
      return [same, map.equals(end), steps];
    }""")
    assert same and end and back > 800


def test_runs_and_links_hold_any_map(page):
    assert page.evaluate("""async () => {
      const { LabelMap, encodeRuns, decodeRuns } = await import('/static/buffer.js');
      const { mapToText, textToMap } = await import('/static/link.js');
      const noisy = new LabelMap(50, 40, Uint8Array.from({ length: 2000 }, (_, i) => i * i * 7 % 29));
      const flat = new LabelMap(512, 384);
      for (const map of [noisy, flat]) {
        if (!map.equals(await textToMap(await mapToText(map)))) return 'text';
        if (String(decodeRuns(encodeRuns(map.data), map.data.length)) !== String(map.data)) return 'runs';
      }
      const broken = [[1], [29, 5], [1, 255, 255], [1, 4], [1, 6]].filter((bytes) => {
        try {
          decodeRuns(Uint8Array.from(bytes), 5);
          return true;
        } catch (e) {
          return !(e instanceof RangeError);
        }
      });
      return String(broken);
    }""") == ""


def test_a_small_map_is_sampled_as_pillow_does(page):
    from PIL import Image
    big = mottled(np.random.default_rng(4), 29)
    for size in ((12, 9), (7, 5), (96, 72)):
        found = page.evaluate("""async ([data, w, h]) => {
          const { LabelMap } = await import('/static/buffer.js');
          return [...new LabelMap(48, 36, Uint8Array.from(data)).resized(w, h).data];
        }""", [big.ravel().tolist(), *size])
        wanted = np.asarray(Image.fromarray(big).resize(size, Image.Resampling.NEAREST))
        assert np.array_equal(found, wanted.ravel())
