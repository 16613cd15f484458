// The strip of past pictures; a click brings back map, style and settings.
import { el, label, $ } from "./dom.js";
import { icon } from "./icons.js";
import { encodeRuns, decodeRuns, LabelMap } from "./buffer.js";
import * as store from "./store.js";
import { language, t } from "./words.js";

/** The history. `restore(entry)` is called with what `unpacked` gives. */
export class Gallery {
	constructor(app, restore) {
		this.app = app;
		this.restore = restore;
		this.list = $("history");
		this.urls = [];
		app.on("language", () => this.show());
		this.show();
	}

	/** Keep a finished job. */
	async add({ job, results }) {
		const { map, style, settings, rounds, name } = job;
		const { bitmap, ...kept } = style;                  // a bitmap is made again from its blob
		await store.keep({
			id: results[0].id, time: Date.now(), star: false, name, settings, rounds, style: kept,
			mask: job.mask, width: map.width, height: map.height, runs: encodeRuns(map.data),
			results: results.map(({ id, seed, blob }) => ({ id, seed, blob })),
		}).catch(() => {});                                 // no room or no permission: the page works without
		await this.show();
	}

	async show() {
		const entries = await store.entries().catch(() => []);
		for (const url of this.urls) URL.revokeObjectURL(url);
		this.urls = [];
		$("history-empty").hidden = entries.length > 0;
		this.list.replaceChildren(...entries.map((entry) => this.#item(entry)));
	}

	#item(entry) {
		const url = URL.createObjectURL(entry.results[0].blob);
		this.urls.push(url);
		const time = new Date(entry.time).toLocaleTimeString(language() === "zh" ? "zh-CN" : "en", { hour: "2-digit", minute: "2-digit" });
		const preset = t(entry.settings.custom ? "custom" : entry.settings.preset);
		const open = el("button", { className: "thumb", on: {
			click: () => this.restore(unpacked(entry)),
			keydown: (e) => e.key === "Delete" && this.#remove(entry.id),
		} }, el("img", { src: url, alt: "", loading: "lazy", draggable: "false" }),
		entry.results.length > 1 ? el("span", { className: "count", text: entry.results.length }) : null);
		label(open, t("entryLabel", { preset, seed: entry.settings.seed, time }));
		const star = el("button", { className: "star", "aria-pressed": String(entry.star), text: entry.star ? "★" : "☆",
			on: { click: () => this.#star(entry) } });
		const remove = el("button", { className: "remove", on: { click: () => this.#remove(entry.id) } }, icon("close"));
		label(star, t("star"));
		label(remove, t("remove"));
		return el("li", { className: entry.star ? "starred" : "" }, open, star, remove);
	}

	async #star(entry) {
		await store.keep({ ...entry, star: !entry.star });
		await this.show();
	}

	async #remove(id) {
		await store.remove(id);
		await this.show();
	}

	/** The newest entry whose map has this id on the server, or null: for pictures that are dropped. */
	static async ofMask(mask) {
		const found = (await store.entries().catch(() => [])).find((e) => e.mask === mask);
		return found ? unpacked(found) : null;
	}
}

function unpacked(entry) {
	const { width, height, runs } = entry;
	return { ...entry, map: new LabelMap(width, height, decodeRuns(runs, width * height)) };
}
