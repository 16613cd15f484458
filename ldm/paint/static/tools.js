// What the tools draw: hard-edged pixels in a LabelMap. No DOM here.
// `ink` is a class id, or a Uint8Array of the map's size whose ids are copied (the eraser).
// Each function returns the rectangle that it may have changed, or null.

/** Write `ink` into row `y`, columns x0 ... x1 - 1, clipped to the map. */
export function span(map, y, x0, x1, ink) {
	const a = Math.max(0, x0), b = Math.min(map.width, x1);
	if (y < 0 || y >= map.height || a >= b) return;
	const row = y * map.width;
	if (typeof ink === "number") map.data.fill(ink, row + a, row + b);
	else map.data.set(ink.subarray(row + a, row + b), row + a);
}

function clipped(map, x0, y0, x1, y1) {
	const r = { x0: Math.max(0, x0), y0: Math.max(0, y0), x1: Math.min(map.width, x1), y1: Math.min(map.height, y1) };
	return r.x0 < r.x1 && r.y0 < r.y1 ? r : null;
}

/**
 * The rows of a disc of `diameter` pixels as [dy, x0, x1] relative to its pixel (x1 excluded): all pixels whose
 * centres are within diameter / 2 of the disc's centre. A disc of even diameter is centred on the pixel's corner.
 */
export function discSpans(diameter) {
	const r = diameter / 2, shift = diameter % 2 ? 0 : 0.5, spans = [];
	for (let dy = -Math.ceil(r); dy <= Math.ceil(r); dy++) {
		const rest = r * r - (dy - shift) ** 2;
		if (rest < 0) continue;
		const half = Math.sqrt(rest);
		const x0 = Math.ceil(shift - half), x1 = Math.floor(shift + half) + 1;
		if (x0 < x1) spans.push([dy, x0, x1]);
	}
	return spans;
}

/** A disc around the pixel x, y. */
export function disc(map, x, y, diameter, ink, spans = discSpans(diameter)) {
	for (const [dy, x0, x1] of spans) span(map, y + dy, x + x0, x + x1, ink);
	const r = Math.ceil(diameter / 2) + 1;
	return clipped(map, x - r, y - r, x + r + 1, y + r + 1);
}

/** The pixels of Bresenham's line, both ends included, as [x, y]. */
export function linePixels(x0, y0, x1, y1) {
	const dx = Math.abs(x1 - x0), dy = -Math.abs(y1 - y0);
	const sx = x0 < x1 ? 1 : -1, sy = y0 < y1 ? 1 : -1;
	const pixels = [];
	for (let x = x0, y = y0, error = dx + dy; ;) {
		pixels.push([x, y]);
		if (x === x1 && y === y1) return pixels;
		const twice = 2 * error;
		if (twice >= dy) { error += dy; x += sx; }
		if (twice <= dx) { error += dx; y += sy; }
	}
}

/** A line of discs; the pixels must be integers. */
export function line(map, x0, y0, x1, y1, diameter, ink) {
	const spans = discSpans(diameter);
	for (const [x, y] of linePixels(x0, y0, x1, y1)) disc(map, x, y, diameter, ink, spans);
	const r = Math.ceil(diameter / 2) + 1;
	return clipped(map, Math.min(x0, x1) - r, Math.min(y0, y1) - r, Math.max(x0, x1) + r + 1, Math.max(y0, y1) + r + 1);
}

/** A filled rectangle between two pixels, both included. */
export function rectangle(map, x0, y0, x1, y1, ink) {
	const left = Math.min(x0, x1), right = Math.max(x0, x1) + 1;
	const top = Math.max(0, Math.min(y0, y1)), bottom = Math.min(map.height, Math.max(y0, y1) + 1);
	for (let y = top; y < bottom; y++) span(map, y, left, right, ink);
	return clipped(map, left, top, right, bottom);
}

/** A filled polygon of [x, y] points (pixel corners are integers), by the even-odd rule at pixel centres. */
export function polygon(map, points, ink) {
	if (points.length < 3) return null;
	const ys = points.map((p) => p[1]), xs = points.map((p) => p[0]);
	const top = Math.max(0, Math.floor(Math.min(...ys))), bottom = Math.min(map.height, Math.ceil(Math.max(...ys)));
	for (let y = top; y < bottom; y++) {
		const cuts = crossings(points, y + 0.5);
		for (let i = 0; i + 1 < cuts.length; i += 2) {
			span(map, y, Math.ceil(cuts[i] - 0.5), Math.ceil(cuts[i + 1] - 0.5), ink);
		}
	}
	return clipped(map, Math.floor(Math.min(...xs)), top, Math.ceil(Math.max(...xs)), bottom);
}

function crossings(points, y) {
	const cuts = [];
	let [ax, ay] = points[points.length - 1];
	for (const [bx, by] of points) {
		if ((ay <= y) !== (by <= y)) cuts.push(ax + (y - ay) / (by - ay) * (bx - ax));
		[ax, ay] = [bx, by];
	}
	return cuts.sort((a, b) => a - b);
}

/** Fill the connected area (4 neighbours) of one class around the pixel x, y. */
export function flood(map, x, y, ink) {
	const from = map.at(x, y);
	if (from < 0 || ink === from) return null;
	const { width, height, data } = map;
	const seen = new Uint8Array(data.length), stack = [y * width + x];
	const box = { x0: x, y0: y, x1: x + 1, y1: y + 1 };
	while (stack.length) {
		let a = stack.pop();
		if (seen[a]) continue;
		const py = Math.floor(a / width), row = py * width, end = row + width;
		let b = a + 1;
		while (a > row && data[a - 1] === from && !seen[a - 1]) a--;
		while (b < end && data[b] === from && !seen[b]) b++;
		seen.fill(1, a, b);
		if (py > 0) pushRuns(data, seen, from, a - width, b - width, stack);
		if (py + 1 < height) pushRuns(data, seen, from, a + width, b + width, stack);
		box.x0 = Math.min(box.x0, a - row); box.x1 = Math.max(box.x1, b - row);
		box.y0 = Math.min(box.y0, py); box.y1 = Math.max(box.y1, py + 1);
	}
	for (let i = box.y0 * width; i < box.y1 * width; i++) {
		if (seen[i]) data[i] = typeof ink === "number" ? ink : ink[i];
	}
	return box;
}

/** The start of each run of `from` within a row's part that was not seen yet. */
function pushRuns(data, seen, from, a, b, stack) {
	for (let i = a, open = false; i < b; i++) {
		const hit = data[i] === from && !seen[i];
		if (hit && !open) stack.push(i);
		open = hit;
	}
}

/** All of one class becomes `ink`. */
export function replaceClass(map, from, ink) {
	let found = false;
	for (let i = 0; i < map.data.length; i++) {
		if (map.data[i] !== from) continue;
		found = true;
		map.data[i] = typeof ink === "number" ? ink : ink[i];
	}
	return found ? clipped(map, 0, 0, map.width, map.height) : null;
}

/** Left becomes right. */
export function mirror(map) {
	for (let y = 0; y < map.height; y++) map.data.subarray(y * map.width, (y + 1) * map.width).reverse();
	return clipped(map, 0, 0, map.width, map.height);
}
