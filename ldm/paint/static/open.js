// Loading: samples, masks, photographs, bundles, result pictures and links.
import * as api from "./api.js";
import { LabelMap } from "./buffer.js";
import { Gallery } from "./gallery.js";
import * as rounds from "./rounds.js";
import { t } from "./words.js";

const dialogs = () => import("./dialogs.js");

/** A file's name as the name of a job: letters, digits, _ and -. */
const stem = (name = "") => name.replace(/\.[^.]*$/, "").replace(/[^\p{L}\p{N}_-]/gu, "_").slice(0, 64) || "image";

/** Opens things for the app. `say(text)` shows a line, `underlay(bitmap)` a photograph under the map. */
export class Opener {
	constructor(app, style, { say, underlay }) {
		Object.assign(this, { app, style, say, underlay });
	}

	/** Open a file; use: "style" where the user wants it as style, else by what the file is. */
	async file(file, use = "") {
		if (use === "style") return this.#photo(file, "style");
		const made = /zip|png|jpeg/.test(file.type) && await api.postMade(file);
		if (made) return this.#made(made, file.name);
		return /jpeg|webp|gif/.test(file.type) ? this.#photo(file, "") : this.#mask(file);
	}

	/** Upload a mask file; its proportions and unknown colours are asked for, once. */
	async #mask(file, options = {}) {
		try {
			const { id, warnings } = await api.postMaskFile(file, options);
			await this.map(id, stem(file.name));
			this.say([t("loaded", { name: file.name }), ...(warnings || [])].join(" · "));
		} catch (e) {
			if (e.code === "proportions" && !options.fit) {
				const fit = await (await dialogs()).fit(e.size, this.app.info.model.size);
				return fit && this.#mask(file, { ...options, fit });
			}
			if (e.code !== "colors") throw e;
			const colors = await (await dialogs()).assignColors(this.app, e.colors, e.more);
			if (colors === "photo") return this.#photo(file, "");
			return colors && this.#mask(file, { ...options, colors: { ...options.colors, ...colors } });
		}
	}

	/** Show a map that the server has. */
	async map(id, name) {
		const [width, height] = this.app.info.model.size;
		this.app.load(new LabelMap(width, height, await api.maskIds(id)), name);
	}

	async #photo(file, use) {
		const chosen = use || await (await dialogs()).photoUse(this.app.info.label);
		if (chosen === "label") await this.#label(file);
		if (chosen === "style" || chosen === "label") await this.style.upload(file, file.name);
		if (chosen === "underlay" || chosen === "label") this.underlay(await createImageBitmap(file, { imageOrientation: "from-image" }));
	}

	/** The photograph's label map as the map. */
	async #label(file) {
		this.say(t("labelling", { name: file.name }), true);
		const { id, warnings } = await api.labelPhoto(file).catch((e) => { this.say(""); throw e; });
		await this.map(id, stem(file.name));
		this.say([t("loaded", { name: file.name }), ...warnings].join(" · "));
	}

	/** A sample's map and style. */
	async sample(name) {
		const { mask } = this.app.info.samples.find((s) => s.name === name);
		await this.map(mask, name);
		this.style.sample(name);
	}

	/** A bundle, or a result picture, whose map and style only the server or the history may have. */
	async #made({ mask, reference, name, ...settings }, file) {
		const known = mask && await Gallery.ofMask(mask);
		if (known) await this.restore(known);
		const found = known || (mask && await this.map(mask, name).then(() => true, () => false));
		if (!known && reference !== undefined) await this.#reference(reference);
		this.#settings(settings);
		this.say(found ? t("loaded", { name: file }) : t("restoredSettings"));
	}

	/** The style with an id of the server's, if it has it; without an id none. */
	async #reference(id) {
		const sample = this.app.info.samples.find((s) => s.reference === id), blob = id && !sample && await api.reference(id, "png").catch(() => null);
		if (sample) this.style.sample(sample.name);
		else if (blob) await this.style.upload(blob, "style.png");
		else if (!id) this.app.set("style", { kind: "none" });
	}

	/** Everything of an entry of the history. */
	async restore(entry) {
		this.app.load(entry.map, entry.name);
		const { kind, name, blob, box } = entry.style;
		if (kind === "upload") await this.style.upload(blob, name, box);
		else if (kind !== "sample" || !this.style.sample(name)) this.app.set("style", { kind: "none" });
		this.app.change(structuredClone(entry.settings));
	}

	/** What a link's fragment holds. */
	link({ map, style, rounds: asked, seed, variations }) {
		this.app.load(map, style?.replace(/^sample:/, "") || "image");
		if (!style || !this.style.sample(style.replace(/^sample:/, ""))) this.app.set("style", { kind: "none" });
		this.#settings({ rounds: asked, seed, variations });
	}

	/** Settings as they come from outside: a preset's name or a tree, equal to a preset or not. */
	#settings({ rounds: asked, seed, variations = 1 }) {
		const { presets, limits } = this.app.info;
		const preset = presets.find((p) => (typeof asked === "string" ? p.id === asked : asked?.rounds && rounds.same(p.rounds, asked)));
		const tree = asked?.rounds instanceof Array && asked.rounds.length ? asked : null;
		this.app.change({
			seed: Number.isSafeInteger(seed) && seed >= 0 ? seed : 0,
			variations: Math.min(Math.max(1, variations | 0), limits.variations || 4),
			...(preset ? { preset: preset.id, custom: null } : tree ? { custom: rounds.complete(tree) } : {}),
		});
	}
}
