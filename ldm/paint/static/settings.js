// Presets with their measured seconds, and every number of a job, each with a line of explanation and a reset.
import { $, check, copy, el, label, radio, radios } from "./dom.js";
import { icon } from "./icons.js";
import * as rounds from "./rounds.js";
import { duration, t } from "./words.js";

const NOTES = { draft: "draftNote", fast: "fastNote", entry: "entryNote", paper: "paperNote", noise: "noiseNote2" };

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
    this.box = $("settings");
    this.open = false;                  // "advanced"
    radios($("presets"), (node) => node.dataset.preset && app.change({ preset: node.dataset.preset, custom: null }));
    app.on("language state", () => this.build());
    app.on("settings", () => this.build());
    app.on("style", () => this.kind === app.style.kind || this.build());
    this.build();
  }

  /** Build the card again; the focus stays where it was. */
  build() {
    this.kind = this.app.style.kind;
    const focused = document.activeElement?.dataset?.key;
    this.tree = rounds.complete(this.app.settings.custom || this.app.preset().rounds);
    this.presets();
    this.box.replaceChildren(this.#variations(), this.#count(), this.#table(), this.#sampler(), this.#transfer(),
      this.#advanced(), this.#yaml());
    if (focused) (this.box.querySelector(`[data-key="${focused}"]`) || $("presets").querySelector(`[data-key="${focused}"]`))?.focus();
  }

  presets() {
    const { info, settings } = this.app;
    const nodes = info.presets.map((p) => this.#preset(p.id, t(p.id), t(NOTES[p.id] || ""), p.seconds, rounds.steps(p.rounds)));
    if (settings.custom) {
      nodes.push(this.#preset("", t("custom"), t("customNote"),
        rounds.expected(settings.custom, info.presets), rounds.steps(settings.custom)));
    }
    $("presets").replaceChildren(...nodes);
    check($("presets"), nodes.find((n) => n.dataset.preset === (settings.custom ? "" : settings.preset)));
  }

  #preset(id, name, note, seconds, count) {
    const time = [seconds == null ? t("unmeasured") : t("about", { s: duration(seconds) }), t("stepCount", { n: count })].join(" · ");
    return radio({ data: { preset: id, key: `preset-${id}` } },
      el("b", { text: name }), el("span", { className: "time", text: time }),
      el("span", { className: "hint", text: note }));
  }

  /** Change the tree; what equals the preset is the preset again. */
  #set(change) {
    const tree = { ...this.tree, ...change };
    this.app.change({ custom: rounds.same(tree, this.app.preset().rounds) ? null : tree });
  }

  #setRound(index, change) {
    this.#set({ rounds: this.tree.rounds.map((r, i) => (i === index ? { ...rounds.windowed(r), ...change } : r)) });
  }

  /** A row: name, explanation, control, and a reset where the value is not the preset's. */
  #row(key, control, changed, reset) {
    const id = control.id || null;
    const button = changed ? el("button", { className: "icon quiet reset", on: { click: reset } }, icon("undo")) : null;
    if (button) label(button, t("reset", { name: t(key) }));
    return el("div", { className: "setting" },
      el("div", { className: "row" }, el(id ? "label" : "span", { for: id, text: t(key) }), button, control),
      el("p", { className: "hint", text: t(`${key}Note`) }));
  }

  #segments(key, values, value, choose) {
    const nodes = values.map((v) => radio({ text: String(v), data: { value: v, key: `${key}-${v}` } }));
    const group = el("div", { className: "segments small", role: "radiogroup", "aria-label": t(key) }, ...nodes);
    radios(group, (node) => choose(Number(node.dataset.value)));
    check(group, nodes.find((n) => Number(n.dataset.value) === value));
    return group;
  }

  #select(key, options, value, choose) {
    const select = el("select", { id: `s-${key}`, data: { key } }, ...options.map(([v, text]) => el("option", { value: v, text })));
    select.value = value;
    select.addEventListener("change", () => choose(select.value));
    return select;
  }

  #variations() {
    const { limits } = this.app.info, count = this.app.settings.variations;
    const values = Array.from({ length: limits.variations || 4 }, (_, i) => i + 1);
    return this.#row("variations", this.#segments("variations", values, count, (n) => this.app.change({ variations: n })),
      count !== 1, () => this.app.change({ variations: 1 }));
  }

  #count() {
    const usual = this.app.preset().rounds.rounds.length, count = this.tree.rounds.length;
    const values = Array.from({ length: Math.max(count, this.app.info.limits.rounds || 3) }, (_, i) => i + 1);
    const choose = (n) => this.#set(rounds.withCount(this.#longest(n), n));
    return this.#row("rounds", this.#segments("rounds", values, count, choose), count !== usual, () => choose(usual));
  }

  /** The tree that rounds are added from: the preset's own later rounds come back. */
  #longest(count) {
    const preset = rounds.complete(this.app.preset().rounds).rounds, own = this.tree.rounds;
    return { ...this.tree, rounds: [...own, ...preset.slice(own.length)].slice(0, Math.max(count, own.length)) };
  }

  #table() {
    const preset = rounds.complete(this.app.preset().rounds).rounds;
    const fields = [["strength", 0.01, 0, 1], ["steps", 1, 1, 1000], ["guidance", 0.1, 1, 8]];
    const head = el("div", { className: "roundrow head", "aria-hidden": "true" }, el("span"),
      ...fields.map(([key]) => el("span", { text: t(key) })));
    const rows = this.tree.rounds.map((round, i) => el("div", { className: "roundrow" },
      el("span", { className: "number", text: i + 1 }),
      ...fields.map(([key, step, min, max]) => this.#number(i, key, round, { step, min, max }))));
    const changed = !rounds.same({ rounds: preset.slice(0, rows.length) }, { rounds: this.tree.rounds.slice(0, preset.length) });
    const button = el("button", { className: "quiet", text: t("reset", { name: "" }).trim(),
                                  hidden: !changed, on: { click: () => this.#set({ rounds: preset }) } });
    return el("div", { className: "setting" }, this.#strength(), head, ...rows,
      el("p", { className: "hint", text: `${t("stepsNote")} ${t("guidanceNote")}` }), button);
  }

  /** The first round's start strength as a slider with the entry's values as ticks. */
  #strength() {
    const first = rounds.windowed(this.tree.rounds[0]), noise = first.from === "noise";
    const slider = el("input", { type: "range", id: "s-strength", min: 0.02, max: 1, step: 0.01, list: "ticks", disabled: noise, data: { key: "strength" } });
    slider.value = first.strength;
    slider.addEventListener("change", () => this.#setRound(0, { strength: Number(slider.value) }));
    const ticks = el("datalist", { id: "ticks" }, ...[0.4, 0.6, 0.64].map((v) => el("option", { value: v })));
    const usual = rounds.windowed(this.app.preset().rounds.rounds[0]).strength;
    return el("div", {}, this.#row("strength", slider, first.strength !== usual, () => this.#setRound(0, { strength: usual })), ticks);
  }

  #number(index, key, round, limits) {
    const name = `${t("rounds")} ${index + 1}: ${t(key)}`, value = rounds.windowed(round)[key];
    const input = el("input", { type: "number", ...limits, "aria-label": name, data: { key: `${key}-${index}` },
                                value: Math.round(value * 100) / 100, disabled: key === "strength" && round.from === "noise" });
    input.addEventListener("change", () => {
      const wantedValue = Math.min(limits.max, Math.max(limits.min, Number(input.value) || limits.min));
      this.#setRound(index, { [key]: key === "steps" ? Math.round(wantedValue) : wantedValue });
    });
    return input;
  }

  #sampler() {
    const usual = rounds.complete(this.app.preset().rounds).sampler;
    const choose = (sampler) => this.#set({ sampler, eta: sampler === "ddim" ? this.tree.eta : 0 });
    return this.#row("sampler", this.#select("sampler", this.app.info.samplers.map((s) => [s, s]), this.tree.sampler, choose),
      this.tree.sampler !== usual, () => choose(usual));
  }

  #transfer() {
    const names = { "": "off", exact: "exact", opencv8: "opencv8" };
    const options = (this.app.info.color_transfers || Object.keys(names)).map((v) => [v, t(names[v] || v)]);
    const choose = (mode) => this.#set({ rounds: this.tree.rounds.map((r, i) => (i ? { ...r, color_transfer: mode } : r)) });
    const usual = rounds.transferOf(this.app.preset().rounds);
    const select = this.#select("transfer", options, rounds.transferOf(this.tree), choose);
    select.disabled = this.tree.rounds.length < 2;
    return this.#row("transfer", select, !select.disabled && select.value !== usual, () => choose(usual));
  }

  #advanced() {
    const all = rounds.complete(this.app.preset().rounds), own = this.tree;
    const spacing = rounds.windowed(own.rounds[0]).spacing;
    const space = (s) => this.#set({ rounds: own.rounds.map((r) => ({ ...rounds.windowed(r), spacing: s })) });
    const field = (key, name, limits) => {
      const input = el("input", { id: `s-${key}`, type: "number", ...limits, value: own[name], data: { key } });
      input.addEventListener("change", () => this.#set({ [name]: Math.min(limits.max, Math.max(0, Number(input.value) || 0)) }));
      return this.#row(key, input, own[name] !== all[name], () => this.#set({ [name]: all[name] }));
    };
    const eta = field("eta", "eta", { min: 0, max: 1, step: 0.1 });
    eta.querySelector("input").disabled = own.sampler !== "ddim";
    const details = el("details", { open: this.open }, el("summary", { text: t("advanced") }),
      this.#row("spacing", this.#select("spacing", this.app.info.spacings.map((s) => [s, s]), spacing, space), false),
      eta, field("jpeg", "jpeg_between_rounds", { min: 0, max: 100, step: 1 }));
    details.addEventListener("toggle", () => { this.open = details.open; });
    return details;
  }

  #yaml() {
    const text = rounds.toYaml(wantedTree(this.app));
    const button = el("button", { className: "quiet", text: t("copy"), data: { key: "copy-yaml" } });
    button.addEventListener("click", async () => { if (await copy(text)) button.textContent = t("copied"); });
    const details = el("details", { open: this.yamlOpen, className: "yaml" }, el("summary", { text: t("yaml") }),
      el("pre", { text, tabindex: "0" }), button);
    details.addEventListener("toggle", () => { this.yamlOpen = details.open; });
    return details;
  }
}
