// The style picture: a sample, the user's photograph with a crop frame, or none.
import * as api from "./api.js";
import { $, check, el, radio, radios } from "./dom.js";
import { t } from "./words.js";

/** The style card. app.style: {kind: "sample", name, id} | {kind: "upload", name, blob, box, id} | {kind: "none"}. */
export class StylePanel {
	constructor(app, openFile) {
		this.app = app;
		this.urls = new Map();              // sample name -> thumbnail
		this.group = $("style-samples");
		radios(this.group, (node) => this.sample(node.dataset.name));
		$("style-upload").addEventListener("click", () => openFile("style"));
		$("style-none").addEventListener("click", () => app.set("style", { kind: "none" }));
		app.on("style language", () => this.show());
		this.#thumbnails();
		this.crop = new Crop(app, $("crop"));
		this.show();
	}

	async #thumbnails() {
		await Promise.all(this.app.info.samples.map(async ({ name, reference }) => {
			const blob = await api.reference(reference).catch(() => null);
			if (blob) this.urls.set(name, URL.createObjectURL(blob));
		}));
		this.show();
	}

	/** Choose a sample by name. */
	sample(name) {
		const found = this.app.info.samples.find((s) => s.name === name);
		if (found) this.app.set("style", { kind: "sample", name, id: found.reference });
		return Boolean(found);
	}

	/** Use a photograph (a Blob). box: the part of it as [x, y, width, height] in its pixels, or null. */
	async upload(blob, name, box = null) {
		const bitmap = await createImageBitmap(blob, { imageOrientation: "from-image" });
		this.app.set("style", { kind: "upload", name, blob, bitmap, box: box || fullBox(bitmap, this.app.info.model.size), id: null });
	}

	show() {
		const { style, info } = this.app;
		const nodes = info.samples.map(({ name }) => {
			const url = this.urls.get(name);
			return radio({ title: name, "aria-label": name, data: { name } },
				url ? el("img", { src: url, alt: "", draggable: "false" }) : null);
		});
		this.group.replaceChildren(...nodes);
		check(this.group, nodes.find((n) => style.kind === "sample" && n.dataset.name === style.name));
		$("style-none").setAttribute("aria-pressed", String(style.kind === "none"));
		$("style-note").textContent = t(style.kind === "none" ? "noStyleNote" : "styleNote");
		this.crop?.show();
	}
}

/** The largest centred part with the model's proportions. */
function fullBox({ width, height }, [w, h]) {
	const scale = Math.min(width / w, height / h);
	const [bw, bh] = [Math.round(w * scale), Math.round(h * scale)];
	return [Math.round((width - bw) / 2), Math.round((height - bh) / 2), bw, bh];
}

/** The frame on the user's photograph; it always has the model's proportions. */
class Crop {
	constructor(app, root) {
		this.app = app;
		this.root = root;
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
		this.root.hidden = style.kind !== "upload";
		if (this.root.hidden) return;
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
