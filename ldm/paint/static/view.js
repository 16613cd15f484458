// The two canvases: the map as a palette blit, and the picture. They share one zoom and one place.
import { whole } from "./buffer.js";

const LIMITS = [0.1, 40];

/** Zoom and place: `scale` in screen pixels a map pixel (null: as large as fits), `x`, `y` the point at the centre. */
export class Viewport {
	constructor(width, height) {
		this.size = [width, height];
		this.fit();
	}

	fit() {
		this.scale = null;
		[this.x, this.y] = this.size.map((side) => side / 2);
	}

	/** The scale in a pane of `width` x `height` screen pixels. */
	scaleIn({ width, height }) {
		return this.scale ?? Math.max(0.05, Math.min((width - 8) / this.size[0], (height - 8) / this.size[1]));
	}

	/** Map point under a point of the pane. */
	toMap(pane, px, py) {
		const scale = this.scaleIn(pane);
		return [this.x + (px - pane.width / 2) / scale, this.y + (py - pane.height / 2) / scale];
	}

	/** Zoom by a factor around a point of the pane. */
	zoom(pane, factor, px = pane.width / 2, py = pane.height / 2) {
		const [mx, my] = this.toMap(pane, px, py);
		this.scale = Math.min(LIMITS[1], Math.max(LIMITS[0], this.scaleIn(pane) * factor));
		this.x = mx - (px - pane.width / 2) / this.scale;
		this.y = my - (py - pane.height / 2) / this.scale;
		this.#inside();
	}

	/** Move by screen pixels. */
	pan(pane, dx, dy) {
		this.scale = this.scaleIn(pane);
		this.x -= dx / this.scale;
		this.y -= dy / this.scale;
		this.#inside();
	}

	#inside() {
		this.x = Math.min(this.size[0], Math.max(0, this.x));
		this.y = Math.min(this.size[1], Math.max(0, this.y));
	}
}

/** A canvas of the screen's resolution that is redrawn at most once a frame. */
class Pane {
	constructor(canvas, viewport) {
		this.canvas = canvas;
		this.viewport = viewport;
		this.context = canvas.getContext("2d");
		new ResizeObserver(() => this.draw()).observe(canvas);
	}

	/** Its size in screen pixels. */
	get size() {
		return { width: this.canvas.clientWidth, height: this.canvas.clientHeight };
	}

	draw() {
		this.frame ??= requestAnimationFrame(() => {
			this.frame = null;
			this.#prepare();
		});
	}

	#prepare() {
		const { width, height } = this.size, ratio = devicePixelRatio || 1;
		if (!width) return;
		const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
		if (this.canvas.width !== w || this.canvas.height !== h) Object.assign(this.canvas, { width: w, height: h });
		const scale = this.viewport.scaleIn(this.size) * ratio;
		this.context.setTransform(1, 0, 0, 1, 0, 0);
		this.context.clearRect(0, 0, w, h);
		const left = Math.round(w / 2 - this.viewport.x * scale), top = Math.round(h / 2 - this.viewport.y * scale);
		this.context.setTransform(scale, 0, 0, scale, left, top);
		this.paint(this.context, scale, ratio);
	}
}

/** The mask. `overlay(context, unit)` draws what the tools show; unit is one screen pixel in map pixels. */
export class MaskView extends Pane {
	constructor(canvas, viewport, app) {
		super(canvas, viewport);
		this.app = app;
		this.highlight = -1;
		this.network = false;
		this.underlay = null; // {bitmap, opacity 0..1}
		this.overlay = () => {};
		this.base = blank(app.map.width, app.map.height);
		this.small = blank(...app.info.model.latent);
		this.update();
	}

	/** Colours of the classes as 32-bit pixels; with a highlighted class the others fade. */
	#colors() {
		const table = new Uint32Array(256);
		for (const { id, color } of this.app.classes) {
			const faded = this.highlight >= 0 && id !== this.highlight;
			const [r, g, b] = faded ? color.map((c) => Math.round(c * 0.25 + 90)) : color;
			table[id] = 0xff000000 | b << 16 | g << 8 | r;
		}
		return table;
	}

	/** Repaint the changed rectangle. */
	update(rect = whole(this.app.map)) {
		blit(this.base, this.app.map, this.#colors(), rect);
		this.stale = true;
		this.draw();
	}

	show(options) {
		Object.assign(this, options);
		this.update();
	}

	paint(context, scale, ratio) {
		const { width, height } = this.app.map;
		context.imageSmoothingEnabled = false;
		if (this.underlay) {
			context.imageSmoothingEnabled = true;
			context.drawImage(this.underlay.bitmap, ...fullBox(this.underlay.bitmap, [width, height]), 0, 0, width, height);
			context.imageSmoothingEnabled = false;
			context.globalAlpha = 1 - this.underlay.opacity;
		}
		if (this.network && this.stale) this.#shrink();
		context.drawImage(this.network ? this.small.canvas : this.base.canvas, 0, 0, width, height);
		context.globalAlpha = 1;
		this.overlay(context, ratio / scale);
	}

	#shrink() {
		const [w, h] = this.app.info.model.latent;
		const map = this.app.map.resized(w, h);
		blit(this.small, map, this.#colors(), whole(map));
		this.stale = false;
	}
}

/** The largest centred part of a picture with the proportions of a size: [x, y, width, height]. */
export function fullBox({ width, height }, [w, h]) {
	const scale = Math.min(width / w, height / h);
	const [bw, bh] = [Math.round(w * scale), Math.round(h * scale)];
	return [Math.round((width - bw) / 2), Math.round((height - bh) / 2), bw, bh];
}

function blank(width, height) {
	const canvas = document.createElement("canvas");
	Object.assign(canvas, { width, height });
	const context = canvas.getContext("2d"), image = new ImageData(width, height);
	return { canvas, context, image, pixels: new Uint32Array(image.data.buffer) };
}

function blit(target, map, colors, { x0, y0, x1, y1 }) {
	for (let y = y0; y < y1; y++) {
		for (let i = y * map.width + x0, end = i + x1 - x0; i < end; i++) target.pixels[i] = colors[map.data[i]];
	}
	target.context.putImageData(target.image, 0, 0, x0, y0, x1 - x0, y1 - y0);
}

/** The picture: the result, or while a job runs its preview. */
export class PictureView extends Pane {
	constructor(canvas, viewport) {
		super(canvas, viewport);
		this.image = null;
	}

	/** Show an ImageBitmap, or nothing. */
	show(image) {
		this.image = image;
		this.draw();
	}

	paint(context) {
		if (!this.image) return;
		context.imageSmoothingEnabled = true;
		context.imageSmoothingQuality = "high";
		context.drawImage(this.image, 0, 0, ...this.viewport.size);
	}
}

/** Move and zoom on a pane on which nothing is painted. */
export function navigate(pane, changed) {
	const { canvas, viewport } = pane;
	let last = null;
	canvas.addEventListener("pointerdown", (e) => {
		canvas.setPointerCapture(e.pointerId);
		last = [e.clientX, e.clientY];
	});
	canvas.addEventListener("pointermove", (e) => {
		if (!last) return;
		viewport.pan(pane.size, e.clientX - last[0], e.clientY - last[1]);
		last = [e.clientX, e.clientY];
		changed();
	});
	canvas.addEventListener("pointerup", () => { last = null; });
	canvas.addEventListener("wheel", (e) => {
		e.preventDefault();
		wheel(pane, e);
		changed();
	}, { passive: false });
}

/** Zoom by a wheel event around the pointer. */
export function wheel(pane, e) {
	const box = pane.canvas.getBoundingClientRect();
	const factor = Math.exp(-e.deltaY * (e.deltaMode ? 0.05 : e.ctrlKey ? 0.01 : 0.0015));
	pane.viewport.zoom(pane.size, factor, e.clientX - box.left, e.clientY - box.top);
}
