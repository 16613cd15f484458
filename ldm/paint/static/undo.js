// Undo and redo: of each change, the tiles that differ. No DOM here.
import { whole } from "./buffer.js";

const TILE = 32;

/**
 * The last changes of a LabelMap: up to `steps` of them, in up to `bytes` of tiles. `map.data` is written by
 * others; `commit` then finds what changed.
 */
export class Undo {
	constructor(map, steps = 1000, bytes = 64 * 2 ** 20) {
		this.map = map;
		this.steps = steps;
		this.bytes = bytes;
		this.used = 0;
		this.shadow = map.data.slice();             // the map as it was at the last commit
		this.past = [];
		this.future = [];
	}

	/** Record what differs within `rect` as one step. Returns whether anything did. */
	commit(rect = whole(this.map)) {
		const tiles = [];
		for (const tile of tilesIn(this.map, rect)) {
			if (!this.#same(tile)) {
				tiles.push({ ...tile, data: cut(this.shadow, this.map.width, tile) });
				paste(this.shadow, this.map.width, tile, cut(this.map.data, this.map.width, tile));
			}
		}
		if (!tiles.length) return false;
		for (const step of this.future) this.used -= size(step);
		this.future = [];
		this.past.push(tiles);
		this.used += size(tiles);
		while (this.past.length > this.steps || (this.used > this.bytes && this.past.length > 1)) {
			this.used -= size(this.past.shift());
		}
		return true;
	}

	/** Take an uncommitted change back. */
	revert() {
		this.map.data.set(this.shadow);
	}

	/** Undo one step; false where there is none. */
	undo() {
		return this.#swap(this.past, this.future);
	}

	/** Redo one step; false where there is none. */
	redo() {
		return this.#swap(this.future, this.past);
	}

	#swap(from, to) {
		const tiles = from.pop();
		if (!tiles) return false;
		for (const tile of tiles) {
			const now = cut(this.map.data, this.map.width, tile);
			paste(this.map.data, this.map.width, tile, tile.data);
			paste(this.shadow, this.map.width, tile, tile.data);
			tile.data = now;
		}
		to.push(tiles);
		return true;
	}

	#same({ x0, y0, x1, y1 }) {
		const { map: { data, width }, shadow } = this;
		for (let y = y0; y < y1; y++) {
			for (let i = y * width + x0, end = i + x1 - x0; i < end; i++) if (data[i] !== shadow[i]) return false;
		}
		return true;
	}
}

function size(tiles) {
	return tiles.reduce((sum, tile) => sum + tile.data.length, 0);
}

function* tilesIn({ width, height }, rect) {
	for (let y = Math.floor(rect.y0 / TILE) * TILE; y < rect.y1; y += TILE) {
		for (let x = Math.floor(rect.x0 / TILE) * TILE; x < rect.x1; x += TILE) {
			yield { x0: x, y0: y, x1: Math.min(width, x + TILE), y1: Math.min(height, y + TILE) };
		}
	}
}

function cut(data, width, { x0, y0, x1, y1 }) {
	const out = new Uint8Array((x1 - x0) * (y1 - y0));
	for (let y = y0; y < y1; y++) out.set(data.subarray(y * width + x0, y * width + x1), (y - y0) * (x1 - x0));
	return out;
}

function paste(data, width, { x0, y0, x1, y1 }, tile) {
	const w = x1 - x0;
	for (let y = y0; y < y1; y++) data.set(tile.subarray((y - y0) * w, (y - y0 + 1) * w), y * width + x0);
}
