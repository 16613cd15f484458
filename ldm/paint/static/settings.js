// Presets with their measured seconds, and every number of a job, each with a line of explanation and a reset.
import { $, check, copy, el, label, radio, radios } from "./dom.js";
import { icon } from "./icons.js";
import * as rounds from "./rounds.js";
import { duration, t } from "./words.js";

const COLUMNS = { strength: { step: 0.01, min: 0, max: 1 }, steps: { step: 1, min: 1, max: 1000 }, guidance: { step: 0.1, min: 1, max: 8 } };

/** The rounds that a job is asked for: a preset's name or a tree; without a style it starts from noise. */
export function wanted(app) {
	const tree = app.settings.custom || app.preset().rounds;
	if (app.style.kind === "none" && !rounds.fromNoise(tree)) return rounds.withoutStyle(tree);
	return app.settings.custom || app.preset().id;
}

/** The same as a tree. */
export function wantedTree(app) {
	const asked = wanted(app);
	return typeof asked === "string" ? app.preset(asked).rounds : asked;
}

/** Seconds that the job will take, or null. */
export const expected = (app) => rounds.expected(wantedTree(app), app.info.presets, app.settings.variations);

/** The settings card. */
export class SettingsPanel {
	constructor(app) {
		this.app = app;
		this.opened = {}; // which of the folded parts are open
		radios($("presets"), ({ dataset: { preset } }) => preset && app.change({ preset, custom: null }));
		app.on("language state settings", () => this.build());
		app.on("style", () => this.kind === app.style.kind || this.build());
		this.build();
	}

	/** Build the card again; the focus stays where it was. */
	build() {
		const { key } = document.activeElement.dataset;
		this.kind = this.app.style.kind;
		this.usual = rounds.complete(this.app.preset().rounds);
		this.tree = this.app.settings.custom ? rounds.complete(this.app.settings.custom) : this.usual;
		this.#presets();
		$("settings").replaceChildren(this.#variations(), this.#count(), this.#strength(), this.#table(), this.#sampler(),
			this.#transfer(), this.#advanced(), this.#yaml());
		if (key) document.querySelector(`[data-key="${key}"]`)?.focus();
	}

	#presets() {
		const { info: { presets }, settings } = this.app, all = presets.map((p) => [p.id, p.seconds, p.rounds]);
		if (settings.custom) all.push(["custom", rounds.expected(settings.custom, presets), settings.custom]);
		const nodes = all.map(([id, seconds, tree]) => {
			const time = seconds == null ? t("unmeasured") : t("about", { s: duration(seconds) });
			return radio({ data: { preset: id === "custom" ? "" : id, key: `preset-${id}` } }, el("b", { text: t(id) }),
				el("span", { className: "time", text: `${time} · ${t("stepCount", { n: rounds.steps(tree) })}` }),
				el("span", { className: "hint", text: t(`${id}Note`) }));
		});
		$("presets").replaceChildren(...nodes);
		check($("presets"), nodes.find((n) => n.dataset.preset === (settings.custom ? "" : settings.preset)));
	}

	/** Change the tree; what equals the preset is the preset again. */
	#set(change) {
		const tree = { ...this.tree, ...change };
		this.app.change({ custom: rounds.same(tree, this.usual) ? null : tree });
	}

	/** Change rounds: `change(round, index)` gives what is new of each. */
	#setRounds(change) {
		this.#set({ rounds: this.tree.rounds.map((r, i) => ({ ...r, ...change(r, i) })) });
	}

	/** A row: name, reset where `value` is not the usual one, control, explanation. */
	#row(key, control, value, usual, set) {
		const reset = value === usual ? null : el("button", { className: "icon quiet reset", on: { click: () => set(usual) } }, icon("undo"));
		if (reset) label(reset, t("reset", { name: t(key) }));
		return el("div", { className: "setting" },
			el("div", { className: "row" }, el(control.id ? "label" : "span", { for: control.id || null, text: t(key) }), reset, control),
			el("p", { className: "hint", text: t(`${key}Note`) }));
	}

	#numbers(key, most, value, usual, set) {
		const nodes = Array.from({ length: most }, (_, i) => radio({ text: i + 1, data: { value: i + 1, key: `${key}-${i + 1}` } }));
		const group = el("div", { className: "segments", role: "radiogroup", "aria-label": t(key) }, ...nodes);
		radios(group, (node) => set(Number(node.dataset.value)));
		check(group, nodes[value - 1]);
		return this.#row(key, group, value, usual, set);
	}

	#select(key, options, value, usual, set, disabled = false) {
		const select = el("select", { id: `s-${key}`, data: { key }, disabled }, ...options.map(([v, text]) => el("option", { value: v, text })));
		select.value = value;
		select.addEventListener("change", () => set(select.value));
		return this.#row(key, select, value, usual, set);
	}

	#variations() {
		const set = (variations) => this.app.change({ variations });
		return this.#numbers("variations", this.app.info.limits.variations, this.app.settings.variations, 1, set);
	}

	#count() {
		const own = this.tree.rounds, more = this.usual.rounds.slice(own.length); // the preset's later rounds come back
		const set = (n) => this.#set(rounds.withCount({ ...this.tree, rounds: [...own, ...more] }, n));
		return this.#numbers("rounds", Math.max(own.length, this.app.info.limits.rounds), own.length, this.usual.rounds.length, set);
	}

	/** The first round's start strength as a slider with the entry's values as ticks. */
	#strength() {
		const [first, usual] = [this.tree, this.usual].map((tree) => rounds.windowed(tree.rounds[0]).strength);
		const set = (strength) => this.#setRounds((r, i) => (i ? {} : { ...rounds.windowed(r), strength }));
		const slider = el("input", { type: "range", id: "s-strength", min: 0.02, max: 1, step: 0.01, list: "ticks",
			disabled: rounds.fromNoise(this.tree), data: { key: "strength" } });
		slider.value = first;
		slider.addEventListener("change", () => set(Number(slider.value)));
		const row = this.#row("strength", slider, first, usual, set);
		row.append(el("datalist", { id: "ticks" }, ...[0.4, 0.6, 0.64].map((value) => el("option", { value }))));
		return row;
	}

	/** Strength, steps and guidance of each round. */
	#table() {
		const head = el("div", { className: "roundrow head", "aria-hidden": "true" }, el("span"),
			...Object.keys(COLUMNS).map((key) => el("span", { text: t(key) })));
		const rows = this.tree.rounds.map((round, i) => el("div", { className: "roundrow" },
			el("span", { className: "number", text: i + 1 }), ...Object.keys(COLUMNS).map((key) => this.#cell(i, key, round))));
		return el("div", { className: "setting" }, head, ...rows, el("p", { className: "hint", text: `${t("stepsNote")} ${t("guidanceNote")}` }),
			el("button", { className: "quiet", text: t("reset", { name: t("rounds") }), hidden: !this.app.settings.custom,
				on: { click: () => this.#set({ rounds: this.usual.rounds }) } }));
	}

	#cell(index, key, round) {
		const { min, max } = COLUMNS[key], name = `${t("rounds")} ${index + 1}: ${t(key)}`;
		const input = el("input", { type: "number", ...COLUMNS[key], "aria-label": name, data: { key: `${key}-${index}` },
			value: Math.round(rounds.windowed(round)[key] * 100) / 100, disabled: key === "strength" && round.from === "noise" });
		input.addEventListener("change", () => {
			const value = Math.min(max, Math.max(min, Number(input.value) || min));
			this.#setRounds((r, i) => (i === index ? { ...rounds.windowed(r), [key]: key === "steps" ? Math.round(value) : value } : {}));
		});
		return input;
	}

	#sampler() {
		const set = (sampler) => this.#set({ sampler, eta: sampler === "ddim" ? this.tree.eta : 0 });
		return this.#select("sampler", this.app.info.samplers.map((s) => [s, s]), this.tree.sampler, this.usual.sampler, set);
	}

	#transfer() {
		const [own, usual] = [this.tree, this.usual].map(rounds.transferOf), alone = this.tree.rounds.length < 2;
		const set = (mode) => this.#setRounds((r, i) => (i ? { color_transfer: mode } : {}));
		const options = this.app.info.color_transfers.map((v) => [v, t(v || "off")]);
		return this.#select("transfer", options, own, alone ? own : usual, set, alone);
	}

	#advanced() {
		const [spacing, usual] = [this.tree, this.usual].map((tree) => rounds.windowed(tree.rounds[0]).spacing);
		const space = (s) => this.#setRounds((r) => ({ ...rounds.windowed(r), spacing: s }));
		return this.#folded("advanced",
			this.#select("spacing", this.app.info.spacings.map((s) => [s, s]), spacing, usual, space),
			this.#field("eta", "eta", 1, 0.1, this.tree.sampler !== "ddim"), this.#field("jpeg", "jpeg_between_rounds", 100, 1));
	}

	#field(key, name, max, step, disabled = false) {
		const set = (value) => this.#set({ [name]: Math.min(max, Math.max(0, Number(value) || 0)) });
		const input = el("input", { id: `s-${key}`, type: "number", min: 0, max, step, disabled, value: this.tree[name], data: { key } });
		input.addEventListener("change", () => set(input.value));
		return this.#row(key, input, this.tree[name], this.usual[name], set);
	}

	#folded(key, ...content) {
		const details = el("details", { open: this.opened[key] }, el("summary", { text: t(key), data: { key } }), ...content);
		details.addEventListener("toggle", () => { this.opened[key] = details.open; });
		return details;
	}

	#yaml() {
		const text = rounds.toYaml(wantedTree(this.app));
		const button = el("button", { className: "quiet", text: t("copy"), data: { key: "copy-yaml" } });
		button.addEventListener("click", async () => { if (await copy(text)) button.textContent = t("copied"); });
		return this.#folded("yaml", el("pre", { text, tabindex: "0" }), button);
	}
}
