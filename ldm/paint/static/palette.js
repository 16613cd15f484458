// The classes as a radio group: swatch, name, share of the map; search; groups by number keys.
import { $, check, el, radio, radios } from "./dom.js";
import { GROUPS } from "./app.js";
import { t } from "./words.js";

/** The palette. `find(id)` shows where a class is on the map (-1: none). */
export class Palette {
	constructor(app, find) {
		this.app = app;
		this.find = find;
		this.box = $("palette");
		this.search = $("search");
		radios(this.box, (node) => app.set("ink", Number(node.dataset.id)));
		for (const [event, id] of [["pointerover", true], ["focusin", true], ["pointerout", false], ["focusout", false]]) {
			this.box.addEventListener(event, (e) => this.#look(e, id));
		}
		this.search.addEventListener("input", () => this.filter());
		this.search.addEventListener("keydown", (e) => this.#searchKey(e));
		app.on("language", () => this.build());
		app.on("ink", () => this.mark());
		app.on("map", () => this.shares());
		this.build();
	}

	#look(e, on) {
		const node = e.target.closest("[role=radio]");
		const seen = e.type.startsWith("pointer") || node?.matches(":focus-visible");
		if (node) this.find(on && seen ? Number(node.dataset.id) : -1);
	}

	build() {
		this.rows = new Map();
		const groups = GROUPS.map((group) => {
			const rows = this.app.order.filter((id) => this.app.classes[id].group === group).map((id) => this.#row(id));
			return el("div", { className: "group", role: "presentation", data: { group } },
				el("h3", { text: t(group), "aria-hidden": "true" }), ...rows);
		});
		this.none = el("p", { className: "hint", text: t("noClass"), hidden: true });
		this.box.replaceChildren(...groups, this.none);
		this.mark();
		this.shares();
		this.filter();
	}

	#row(id) {
		const { color, seen } = this.app.classes[id], name = this.app.className(id);
		const swatch = el("i", { className: "swatch" }), share = el("span", { className: "share" });
		swatch.style.backgroundColor = `rgb(${color})`;
		const row = radio({ className: seen === false ? "swatchrow dim" : "swatchrow",
			title: seen === false ? t("unseen") : null, data: { id } },
			swatch, el("span", { className: "name", text: name }), share);
		this.rows.set(id, { row, share });
		return row;
	}

	mark() {
		check(this.box, this.rows.get(this.app.ink)?.row);
	}

	shares() {
		const counts = this.app.map.counts(), all = this.app.map.data.length;
		for (const [id, { share }] of this.rows) {
			const percent = 100 * counts[id] / all;
			share.textContent = counts[id] ? `${percent < 1 ? "<1" : Math.round(percent)}%` : "";
		}
	}

	/** Show the classes whose English or Chinese name holds what is searched. */
	filter() {
		const wanted = this.search.value.trim().toLowerCase();
		let found = 0;
		for (const [id, { row }] of this.rows) {
			const { en, zh } = this.app.classes[id];
			row.hidden = !(en.includes(wanted) || zh.includes(wanted));
			found += !row.hidden;
		}
		for (const group of this.box.querySelectorAll(".group")) group.hidden = !group.querySelector("button:not([hidden])");
		this.none.hidden = found > 0;
	}

	#searchKey(e) {
		if (!["Enter", "Escape", "ArrowDown"].includes(e.key)) return;
		const first = this.box.querySelector("[role=radio]:not([hidden])");
		if (e.key !== "Escape" && first) {
			this.app.set("ink", Number(first.dataset.id));
			first.focus();
		}
		if (e.key !== "ArrowDown") {
			this.search.value = "";
			this.filter();
		}
		if (e.key === "Escape") this.search.blur();
		e.preventDefault();
		e.stopPropagation();
	}

	/** The next class of a group (0..6); the first one if another group is chosen. */
	group(number) {
		const ids = this.app.order.filter((id) => this.app.classes[id].group === GROUPS[number]);
		if (ids.length) this.app.set("ink", ids[(ids.indexOf(this.app.ink) + 1) % ids.length]);
		this.rows.get(this.app.ink)?.row.scrollIntoView({ block: "nearest" });
	}
}
