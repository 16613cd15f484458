// From mouse, pen, touch and keyboard to the tools on the map.
import { union } from "./buffer.js";
import * as tools from "./tools.js";
import { wheel } from "./view.js";

const NEAR = 8;                 // screen pixels: a click this near to the first corner closes a polygon

/** Paints on `view` (a MaskView) with the app's tool. `hint(text key)` shows a line; `moved` is told the pixel. */
export class Painter {
	constructor(view, app, { hint, moved, viewChanged }) {
		Object.assign(this, { view, app, hint, moved, viewChanged });
		this.pointers = new Map();          // touches that are down: id -> [x, y] of the screen
		this.stroke = null;                 // {id, tool, last, rect, start, points}
		this.corners = null;                // of the polygon that is being clicked
		this.cursor = null;                 // map point under the pointer
		this.keyboard = false;              // whether the cursor is moved by keys
		this.space = false;
		view.overlay = (context, unit) => this.#overlay(context, unit);
		const canvas = view.canvas;
		canvas.addEventListener("pointerdown", (e) => this.down(e));
		canvas.addEventListener("pointermove", (e) => this.move(e));
		for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (e) => this.up(e));
		canvas.addEventListener("pointerleave", () => this.#leave());
		canvas.addEventListener("wheel", (e) => this.#wheel(e), { passive: false });
		canvas.addEventListener("dblclick", () => this.corners && this.close());
		canvas.addEventListener("contextmenu", (e) => e.preventDefault());
		canvas.addEventListener("blur", () => { this.keyboard = false; view.draw(); });
	}

	#point(e) {
		const box = this.view.canvas.getBoundingClientRect();
		return [e.clientX - box.left, e.clientY - box.top];
	}

	#pixel(e) {
		return this.view.viewport.toMap(this.view.size, ...this.#point(e)).map(Math.floor);
	}

	down(e) {
		this.view.canvas.setPointerCapture?.(e.pointerId);
		if (e.pointerType === "touch") {
			if (this.stroke?.pen) return;                     // a palm beside the pen
			this.pointers.set(e.pointerId, this.#point(e));
			if (this.pointers.size > 1) return this.abort();  // two fingers move the canvas
		}
		this.keyboard = false;
		const grab = e.button === 1 || this.space || this.app.tool === "hand";
		if (e.button > 1 || (this.stroke && !grab)) return;
		this.#begin(e, grab);
	}

	#begin(e, grab) {
		const at = this.#pixel(e), tool = grab ? "hand" : e.altKey ? "pick" : this.app.tool;
		const exact = this.view.viewport.toMap(this.view.size, ...this.#point(e));
		this.stroke = { id: e.pointerId, pen: e.pointerType === "pen", tool, start: at, last: at, rect: null,
			screen: this.#point(e), points: [exact], shift: e.shiftKey };
		if (tool === "brush" || tool === "eraser") this.#stamp(at, e.pressure);
		else if (tool === "fill") this.fill(at, e.shiftKey);
		else if (tool === "pick") this.pick(at);
		else if (tool === "sky") this.sky(at);
	}

	move(e) {
		if (this.pointers.has(e.pointerId) && this.pointers.size > 1) return this.#pinch(e);
		if (e.pointerType === "touch" && this.stroke?.pen) return;
		this.cursor = this.view.viewport.toMap(this.view.size, ...this.#point(e));
		this.keyboard = false;
		const stroke = this.stroke;
		if (stroke && stroke.id === e.pointerId) {
			const all = e.getCoalescedEvents?.() ?? [];
			for (const part of all.length ? all : [e]) this.#continue(part);
			if (this.pointers.has(e.pointerId)) this.pointers.set(e.pointerId, this.#point(e));
		}
		this.moved(this.cursor.map(Math.floor));
		this.view.draw();
	}

	#continue(e) {
		const stroke = this.stroke;
		const [px, py] = this.#point(e);
		if (stroke.tool === "hand") {
			this.view.viewport.pan(this.view.size, px - stroke.screen[0], py - stroke.screen[1]);
			this.viewChanged();
		} else if (stroke.tool === "brush" || stroke.tool === "eraser") this.#stamp(this.#pixel(e), e.pressure);
		else if (stroke.tool === "pick") this.pick(this.#pixel(e));
		else stroke.points.push(this.view.viewport.toMap(this.view.size, px, py));
		stroke.screen = [px, py];
	}

	up(e) {
		this.pointers.delete(e.pointerId);
		const stroke = this.stroke;
		if (!stroke || stroke.id !== e.pointerId) return;
		this.stroke = null;
		if (e.type === "pointercancel") return this.#revert();
		const end = this.#pixel(e);
		if (stroke.tool === "lasso") return this.#endLasso(stroke, e);
		if (stroke.tool === "line") this.#apply(tools.line(this.app.map, ...stroke.start, ...end, this.app.brush, this.app.paint));
		else if (stroke.tool === "rect") this.#apply(tools.rectangle(this.app.map, ...stroke.start, ...end, this.app.paint));
		else this.app.commit(stroke.rect);
		if (e.pointerType === "touch") this.cursor = null;
		this.view.draw();
	}

	/** The brush's diameter at a pen pressure (0.5 is what a mouse has). */
	diameter(pressure) {
		if (!this.pressure || !pressure) return this.app.brush;
		return Math.max(1, Math.round(this.app.brush * Math.min(1.5, 0.3 + 1.4 * pressure)));
	}

	#stamp(at, pressure) {
		const stroke = this.stroke;
		const rect = tools.line(this.app.map, ...stroke.last, ...at, this.diameter(pressure), this.app.paint);
		stroke.last = at;
		stroke.rect = union(stroke.rect, rect);
		this.app.touch(rect);
	}

	#apply(rect) {
		this.app.touch(rect);
		this.app.commit(rect);
	}

	/** Fill around a pixel; `all`: everything of its class. */
	fill(at, all) {
		const from = this.app.map.at(...at);
		if (from < 0) return;
		this.#apply(all ? tools.replaceClass(this.app.map, from, this.app.paint)
			: tools.flood(this.app.map, ...at, this.app.paint));
	}

	pick(at) {
		const id = this.app.map.at(...at);
		if (id >= 0 && id !== this.app.ink) this.app.set("ink", id);
	}

	/** Sky above a row; the tool before it comes back. */
	sky([, y]) {
		this.#apply(tools.rectangle(this.app.map, 0, 0, this.app.map.width - 1, Math.max(0, y), 1));
		this.stroke = null;
		this.app.set("tool", "brush");
	}

	#endLasso(stroke, e) {
		const [x, y] = this.#point(e), scale = this.view.viewport.scaleIn(this.view.size);
		const far = stroke.points.some((p) => Math.hypot(p[0] - stroke.points[0][0], p[1] - stroke.points[0][1]) * scale > 4);
		if (far && !this.corners) return this.#finish(stroke.points);
		const corner = this.view.viewport.toMap(this.view.size, x, y);
		const first = this.corners?.[0];
		if (first && Math.hypot(first[0] - corner[0], first[1] - corner[1]) * scale < NEAR) return this.close();
		this.corners = [...(this.corners || []), corner];
		this.hint("polygonHint");
		this.view.draw();
	}

	/** Fill the clicked polygon. */
	close() {
		const corners = this.corners;
		this.corners = null;
		this.#finish(corners);
	}

	#finish(points) {
		this.hint("");
		this.#apply(tools.polygon(this.app.map, points, this.app.paint));
		this.view.draw();
	}

	/** Leave what is being drawn; whether there was anything. */
	abort() {
		const was = Boolean(this.stroke || this.corners || this.app.tool === "sky");
		if (this.stroke) this.#revert();
		if (this.app.tool === "sky") this.app.set("tool", "brush");
		this.stroke = this.corners = null;
		this.hint("");
		this.view.draw();
		return was;
	}

	#revert() {
		this.app.undo.revert();
		this.stroke = null;
		this.view.update();
	}

	#leave() {
		if (this.stroke || this.keyboard) return;
		this.cursor = null;
		this.moved(null);
		this.view.draw();
	}

	#wheel(e) {
		e.preventDefault();
		wheel(this.view, e);
		this.viewChanged();
	}

	#pinch(e) {
		const before = [...this.pointers.values()];
		this.pointers.set(e.pointerId, this.#point(e));
		const after = [...this.pointers.values()];
		const middle = ([a, b]) => [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];
		const spread = ([a, b]) => Math.max(1, Math.hypot(a[0] - b[0], a[1] - b[1]));
		const [was, is] = [middle(before), middle(after)];
		this.view.viewport.pan(this.view.size, is[0] - was[0], is[1] - was[1]);
		this.view.viewport.zoom(this.view.size, spread(after) / spread(before), ...is);
		this.viewChanged();
	}

	/** A key on the canvas: arrows move the cursor, Enter paints. Returns whether it was used. */
	key(e) {
		const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[e.key];
		if (step) {
			this.keyboard = true;
			const size = e.shiftKey ? 10 : 1, from = this.cursor ?? [this.app.map.width / 2, this.app.map.height / 2];
			this.cursor = this.view.viewport.size.map((side, i) => Math.min(side - 0.5, Math.max(0.5, Math.floor(from[i]) + 0.5 + step[i] * size)));
			this.moved(this.cursor.map(Math.floor));
			this.view.draw();
		} else if (e.key === "Enter" && this.keyboard) this.#keyStamp(e);
		return Boolean(step) || (e.key === "Enter" && this.keyboard);
	}

	#keyStamp(e) {
		const at = this.cursor.map(Math.floor), { map, paint, tool, brush } = this.app;
		if (tool === "fill") this.fill(at, e.shiftKey);
		else if (tool === "pick") this.pick(at);
		else if (tool === "sky") this.sky(at);
		else if (tool !== "hand") this.#apply(tools.disc(map, ...at, brush, paint));
		this.moved(at);
		this.view.draw();
	}

	#overlay(context, unit) {
		context.lineJoin = "round";
		const path = this.#outline();
		if (path) twice(context, path, unit);
		if (!this.cursor) return;
		const { tool, brush } = this.app, [x, y] = this.cursor.map(Math.floor), shift = brush % 2 ? 0.5 : 1;
		if (["brush", "eraser", "line"].includes(tool)) {
			const ring = new Path2D();
			ring.arc(x + shift, y + shift, Math.max(brush / 2, 2 * unit), 0, 7);
			twice(context, ring, unit);
		}
		if (this.keyboard || tool === "sky") twice(context, cross(x + 0.5, y + 0.5, 9 * unit, tool === "sky" && this.app.map.width), unit);
	}

	#outline() {
		const stroke = this.stroke, path = new Path2D();
		if (this.corners || stroke?.tool === "lasso") {
			const points = this.corners ? [...this.corners, ...(this.cursor ? [this.cursor] : [])] : stroke.points;
			points.forEach(([x, y], i) => (i ? path.lineTo(x, y) : path.moveTo(x, y)));
			return path;
		}
		if (!stroke || !this.cursor || !["line", "rect"].includes(stroke.tool)) return null;
		const [a, b] = stroke.start, [x, y] = this.cursor.map(Math.floor);
		if (stroke.tool === "rect") path.rect(Math.min(a, x), Math.min(b, y), Math.abs(x - a) + 1, Math.abs(y - b) + 1);
		else { path.moveTo(a + 0.5, b + 0.5); path.lineTo(x + 0.5, y + 0.5); }
		return path;
	}
}

function cross(x, y, arm, wide) {
	const path = new Path2D();
	path.moveTo(wide ? 0 : x - arm, y);
	path.lineTo(wide || x + arm, y);
	if (!wide) { path.moveTo(x, y - arm); path.lineTo(x, y + arm); }
	return path;
}

function twice(context, path, unit) {           // dark on light, so that it shows on every class
	for (const [color, width] of [["rgb(0 0 0 / .75)", 3], ["#fff", 1.2]]) {
		context.strokeStyle = color;
		context.lineWidth = width * unit;
		context.stroke(path);
	}
}
