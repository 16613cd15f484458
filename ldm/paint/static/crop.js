// The part of the user's photograph that is the style.
import { el } from "./dom.js";
import { fullBox } from "./view.js";
import { t } from "./words.js";

/** The frame on the user's photograph; it always has the model's proportions. */
export class Crop {
	constructor(app, root) {
		this.app = app;
		this.canvas = el("canvas", { tabindex: "0", role: "img" });
		this.size = el("input", { type: "range", min: "25", max: "100", value: "100" });
		root.append(this.canvas, this.size);
		this.size.addEventListener("input", () => this.#resize(this.size.value / 100));
		this.canvas.addEventListener("pointerdown", (e) => {
			this.canvas.setPointerCapture(e.pointerId);
			this.from = [e.clientX, e.clientY, ...this.app.style.box];
		});
		this.canvas.addEventListener("pointermove", (e) => this.from && this.#drag(e));
		this.canvas.addEventListener("pointerup", () => { this.from = null; });
		this.canvas.addEventListener("keydown", (e) => this.#key(e));
	}

	show() {
		const { style } = this.app;
		if (style.kind !== "upload") return;
		this.canvas.setAttribute("aria-label", t("crop"));
		this.size.setAttribute("aria-label", t("cropSize"));
		const { bitmap, box } = style;
		this.scale = 2 * 248 / bitmap.width;
		Object.assign(this.canvas, { width: 2 * 248, height: Math.round(bitmap.height * this.scale) });
		this.size.value = Math.round(100 * box[2] / fullBox(bitmap, this.app.info.model.size)[2]);
		const context = this.canvas.getContext("2d");
		const [x, y, w, h] = box.map((v) => v * this.scale);
		context.globalAlpha = 0.35;
		context.drawImage(bitmap, 0, 0, this.canvas.width, this.canvas.height);
		context.globalAlpha = 1;
		context.drawImage(bitmap, ...box, x, y, w, h);
		context.strokeStyle = "#fff";
		context.lineWidth = 3;
		context.strokeRect(x + 1, y + 1, w - 2, h - 2);
	}

	#place(x, y, w, h) {
		const { bitmap } = this.app.style;
		const box = [Math.min(bitmap.width - w, Math.max(0, x)), Math.min(bitmap.height - h, Math.max(0, y)), w, h];
		this.app.set("style", { ...this.app.style, box: box.map(Math.round), id: null });
	}

	#drag(e) {
		const [x0, y0, x, y, w, h] = this.from, unit = this.app.style.bitmap.width / this.canvas.clientWidth;
		this.#place(x + (e.clientX - x0) * unit, y + (e.clientY - y0) * unit, w, h);
	}

	#resize(part) {
		const [x, y, w, h] = this.app.style.box, full = fullBox(this.app.style.bitmap, this.app.info.model.size);
		const [nw, nh] = [full[2] * part, full[3] * part];
		this.#place(x + (w - nw) / 2, y + (h - nh) / 2, nw, nh);
	}

	#key(e) {
		const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[e.key];
		if (!step) return;
		const [x, y, w, h] = this.app.style.box, by = this.app.style.bitmap.width / 50;
		this.#place(x + step[0] * by, y + step[1] * by, w, h);
		e.preventDefault();
		e.stopPropagation();
	}
}
