// The pictures of the last job: which variation is shown, previews, downloads.
import * as api from "./api.js";
import { $, check, download, el, label, radio, radios } from "./dom.js";
import { t } from "./words.js";

/** What the picture pane shows. */
export class Results {
	constructor(app, view) {
		this.app = app;
		this.view = view;
		this.box = $("variants");
		this.urls = [];
		radios(this.box, (node) => this.choose(Number(node.dataset.index)));
		app.on("language", () => this.#variants());
	}

	get current() {
		return this.app.result?.results[this.app.result.index];
	}

	/** A finished job's pictures. */
	take({ results }) {
		this.app.set("result", { results, index: Math.min(this.app.result?.index ?? 0, results.length - 1) });
		this.#variants();
		this.show();
	}

	/** The pictures of an entry of the history. */
	async fromHistory({ results }) {
		this.take({ results: await Promise.all(results.map(async (r) => ({ ...r, bitmap: await createImageBitmap(r.blob) }))) });
	}

	/** The variation's picture; what runs may cover it by a preview. */
	show() {
		$("empty").hidden = Boolean(this.current);
		$("check").hidden = !(this.current && this.app.info.check);
		this.view.show(this.current?.bitmap ?? null);
	}

	preview(images) {
		$("empty").hidden = $("check").hidden = true;
		this.view.show(images[Math.min(this.app.result?.index ?? 0, images.length - 1)]);
	}

	choose(index) {
		this.app.result.index = index;
		check(this.box, this.box.children[index]);
		this.show();
	}

	#variants() {
		const results = this.app.result?.results || [];
		this.box.hidden = results.length < 2;
		for (const url of this.urls) URL.revokeObjectURL(url);
		this.urls = results.length < 2 ? [] : results.map(({ blob }) => URL.createObjectURL(blob));
		this.box.replaceChildren(...this.urls.map((url, index) => {
			const node = radio({ data: { index } }, el("img", { src: url, alt: "", draggable: "false" }));
			label(node, t("variation", { n: index + 1, seed: results[index].seed }));
			return node;
		}));
		check(this.box, this.box.children[this.app.result?.index ?? 0]);
	}

	/** Save the picture as "png" or "jpg", or the "bundle". */
	async save(what) {
		if (!this.current) return;
		const { id, seed, blob } = this.current, name = `${this.app.name}-${seed}`;
		if (what === "png") return download(blob, `${name}.png`);
		if (what === "jpg") download(await here(name, api.picture(id, "jpg")), `${name}.jpg`);
		else download(await here(name, api.bundle(id)), `${name}.zip`);
	}

	/** What a segmenter finds of the mask: {found, classes, segmenter}. */
	check() {
		return here(t("picture"), api.check(this.current.id));
	}
}

/** What the server gives; it may have forgotten the picture. */
async function here(name, asked) {
	try {
		return await asked;
	} catch (e) {
		throw e.status === 404 ? new api.ApiError({ what: name, is: t("gone"), possible: "" }, 404) : e;
	}
}
