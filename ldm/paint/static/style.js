// The style picture: a sample, the user's photograph with a crop frame, or none.
import * as api from "./api.js";
import { $, check, el, radio, radios } from "./dom.js";
import { fullBox } from "./view.js";
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
		this.show();
	}

	/** Load the samples' pictures. */
	async thumbnails() {
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
		$("crop").hidden = style.kind !== "upload";
		if (style.kind === "upload") this.#crop();
	}

	async #crop() {
		const { Crop } = await import("./crop.js");           // only when there is a photograph
		this.crop ??= new Crop(this.app, $("crop"));
		this.crop.show();
	}
}
