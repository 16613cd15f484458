// The label map: one byte a pixel, the class id. No DOM here.

/** A label map of `width` x `height` class ids, row by row. */
export class LabelMap {
	constructor(width, height, data = new Uint8Array(width * height)) {
		if (data.length !== width * height) throw new RangeError("the map's data and size differ");
		this.width = width;
		this.height = height;
		this.data = data;
	}

	clone() {
		return new LabelMap(this.width, this.height, this.data.slice());
	}

	equals(other) {
		return this.width === other.width && this.height === other.height
			&& this.data.every((id, i) => id === other.data[i]);
	}

	/** The class at a pixel, or -1 outside. */
	at(x, y) {
		const inside = x >= 0 && y >= 0 && x < this.width && y < this.height;
		return inside ? this.data[y * this.width + x] : -1;
	}

	/** Pixels of each class: an array of 256 counts. */
	counts() {
		const counts = new Uint32Array(256);
		for (const id of this.data) counts[id]++;
		return counts;
	}

	/** The nearest-neighbour copy at another size, sampled at pixel centres as Pillow does. */
	resized(width, height) {
		const out = new LabelMap(width, height);
		for (let y = 0; y < height; y++) {
			const row = Math.floor((y + 0.5) * this.height / height) * this.width;
			for (let x = 0; x < width; x++) {
				out.data[y * width + x] = this.data[row + Math.floor((x + 0.5) * this.width / width)];
			}
		}
		return out;
	}

	/** A map with `sky` above the row `horizon` and `ground` below it. */
	static horizon(width, height, sky, ground, horizon) {
		const map = new LabelMap(width, height);
		map.data.fill(sky, 0, horizon * width);
		map.data.fill(ground, horizon * width);
		return map;
	}
}

/** Rectangles {x0, y0, x1, y1} with x1, y1 excluded; null is the empty one. */
export function union(a, b) {
	if (!a || !b) return a || b;
	return { x0: Math.min(a.x0, b.x0), y0: Math.min(a.y0, b.y0), x1: Math.max(a.x1, b.x1), y1: Math.max(a.y1, b.y1) };
}

/** The whole map as a rectangle. */
export function whole(map) {
	return { x0: 0, y0: 0, x1: map.width, y1: map.height };
}

/** Runs as bytes: class id, then the run's length in base 128, low digits first. */
export function encodeRuns(data) {
	const bytes = [];
	for (let i = 0; i < data.length;) {
		let end = i + 1;
		while (end < data.length && data[end] === data[i]) end++;
		bytes.push(data[i]);
		for (let n = end - i; ; n >>>= 7) {
			bytes.push(n > 127 ? (n & 127) | 128 : n);
			if (n <= 127) break;
		}
		i = end;
	}
	return Uint8Array.from(bytes);
}

/** `length` ids from the bytes of encodeRuns. Throws RangeError where they do not fit. */
export function decodeRuns(bytes, length, classes = 29) {
	const data = new Uint8Array(length);
	let at = 0;
	for (let i = 0; i < bytes.length;) {
		const id = bytes[i++];
		let count = 0;
		for (let shift = 0; ; shift += 7) {
			if (i >= bytes.length || shift > 28) throw new RangeError("a run is cut off");
			count += (bytes[i] & 127) * 2 ** shift;
			if (bytes[i++] < 128) break;
		}
		if (id >= classes || at + count > length) throw new RangeError("a run does not fit the map");
		data.fill(id, at, at += count);
	}
	if (at !== length) throw new RangeError("the runs are shorter than the map");
	return data;
}
