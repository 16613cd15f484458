// Questions to the user, as modal <dialog> elements. Each function resolves to the answer, or null.
import { el } from "./dom.js";
import { t } from "./words.js";

/** Show a dialog; `build(close)` gives its content; close(answer) ends it, Esc is null. */
export function ask(title, build) {
	return new Promise((resolve) => {
		let answer = null;
		const close = (value) => { answer = value; dialog.close(); };
		const heading = el("h2", { id: "dialog-title", text: title });
		const leave = el("button", { className: "icon quiet leave", "aria-label": t("close"), text: "×", on: { click: () => close(null) } });
		const dialog = el("dialog", { "aria-labelledby": "dialog-title" }, el("header", {}, heading, leave));
		dialog.append(...[build(close)].flat());
		dialog.addEventListener("close", () => { dialog.remove(); resolve(answer); });
		dialog.addEventListener("keydown", (e) => e.stopPropagation());
		document.body.append(dialog);
		dialog.showModal();
		dialog.querySelector("header ~ * select, header ~ button, header ~ * button")?.focus();
	});
}

const choice = (text, note, answer, close) => el("button", { className: "choice", on: { click: () => close(answer) } },
	el("b", { text }), note ? el("span", { className: "hint", text: note }) : null);

/** "style", "label" or "underlay": what a photograph is for. label: whether the server can label it. */
export function photoUse(label) {
	return ask(t("photoTitle"), (close) => [
		label ? choice(t("labelIt"), t("labelItNote"), "label", close) : "",
		choice(t("asStyle"), t("asStyleNote"), "style", close),
		choice(t("asUnderlay"), t("asUnderlayNote"), "underlay", close),
	]);
}

/** "crop" or "stretch" for a map of other proportions. */
export function fit([w, h], [W, H]) {
	return ask(t("fitTitle"), (close) => [
		el("p", { text: t("fitNote", { w, h, W, H }) }),
		choice(t("cropIt"), "", "crop", close),
		choice(t("stretchIt"), "", "stretch", close),
	]);
}

/** A select of all classes; `empty`: a first entry that is no class. */
function classSelect(app, name, empty) {
	const options = app.order.map((id) => el("option", { value: id, text: app.className(id) }));
	if (empty) options.unshift(el("option", { value: "", text: empty }));
	return el("select", { "aria-label": name }, ...options);
}

function swatch(color) {
	const node = el("i", { className: "swatch" });
	node.style.backgroundColor = `rgb(${color})`;
	return node;
}

/** Classes for the colours [[r, g, b, share], ...] of a file: {"r,g,b": id}, or "photo" or null. */
export function assignColors(app, colors, more) {
	return ask(t("colorsTitle"), (close) => {
		const done = el("button", { type: "submit", className: "primary", text: t("apply"), disabled: true });
		const rows = colors.map(([r, g, b, share]) => ({ color: [r, g, b], share, select: classSelect(app, `${r}, ${g}, ${b}`, t("choose")) }));
		const form = el("form", { method: "dialog" },
			el("p", { text: more ? t("manyColors", { n: more }) : t("colorsNote") }),
			el("div", { className: "colors" }, ...rows.map(({ color, share, select }) => el("div", { className: "row" },
				swatch(color), el("span", { className: "name", text: color.join(", ") }),
				el("span", { className: "share", text: t("share", { p: (100 * share).toFixed(share < 0.1 ? 1 : 0) }) }), select))),
			el("div", { className: "row end" },
				el("button", { text: t("usePhoto"), on: { click: () => close("photo") } }), done));
		form.addEventListener("change", () => { done.disabled = Boolean(more) || rows.some(({ select }) => select.value === ""); });
		form.addEventListener("submit", (e) => {
			e.preventDefault();
			close(Object.fromEntries(rows.map(({ color, select }) => [color.join(","), Number(select.value)])));
		});
		return form;
	});
}

/** {from, to}: which class becomes which. */
export function replaceClass(app) {
	return ask(t("replaceTitle"), (close) => {
		const from = classSelect(app, t("from")), to = classSelect(app, t("to"));
		const counts = app.map.counts();
		for (const option of from.options) option.disabled = !counts[option.value];
		from.value = counts[app.ink] ? app.ink : app.order.find((id) => counts[id]);
		to.value = app.ink;
		const form = el("form", { method: "dialog" },
			el("div", { className: "row wrap" }, el("span", { text: t("from") }), from, el("span", { text: t("to") }), to),
			el("div", { className: "row end" }, el("button", { type: "submit", className: "primary", text: t("apply") })));
		form.addEventListener("submit", (e) => { e.preventDefault(); close({ from: Number(from.value), to: Number(to.value) }); });
		return form;
	});
}

/** A small canvas with a map in its colours. */
function thumbnail(map, app) {
	const canvas = document.createElement("canvas"), context = canvas.getContext("2d");
	const small = map.resized(128, Math.round(128 * map.height / map.width));
	Object.assign(canvas, { width: small.width, height: small.height });
	const image = context.createImageData(small.width, small.height);
	small.data.forEach((id, i) => image.data.set([...app.classes[id].color, 255], 4 * i));
	context.putImageData(image, 0, 0);
	return canvas;
}

/** "blank", "file" or a sample's name. maps: name -> LabelMap. */
export function startFrom(app, maps) {
	return ask(t("start"), (close) => [
		el("h3", { text: t("samples") }),
		el("div", { className: "samples" }, ...[...maps].map(([name, map]) => el("button", {
			className: "choice", on: { click: () => close(name) } }, thumbnail(map, app), el("span", { text: name })))),
		choice(t("blank"), "", "blank", close),
		choice(t("openFile"), "", "file", close),
	]);
}

/** How much of its mask a picture shows. */
export function checked(app, { found, classes, segmenter }) {
	const rows = app.order.filter((id) => id in classes);
	return ask(t("check"), () => [
		el("p", { text: t("checked", { p: found, segmenter }) }),
		el("div", { className: "colors" }, ...rows.map((id) => el("div", { className: "row" },
			swatch(app.classes[id].color), el("span", { className: "name", text: app.className(id) }),
			el("meter", { min: 0, max: 100, value: classes[id], "aria-label": app.className(id) }),
			el("span", { className: "share", text: t("share", { p: Math.round(classes[id]) }) }))))]);
}

/** The list of keys. */
export function keys() {
	const rows = [["B G L R P E I H", "keyTools"], ["1 – 7", "keyGroups"], ["/", "keySearch"], ["[ ]", "keyBrush"],
		["Ctrl Z, Ctrl Shift Z, Ctrl Y", "keyUndo"], ["+ − 0", "keyZoom"], ["Space", "keyHand"], ["Enter, Esc", "keyRun"],
		["D", "keyDice"], ["V", "keyCompare"], ["N", "keyNetwork"], ["Ctrl S, Ctrl O", "keyFiles"], ["← ↑ → ↓, Enter", "keyCursor"]];
	return ask(t("keysTitle"), () => el("dl", { className: "keys" }, ...rows.flatMap(([key, words]) => [
		el("dt", {}, ...key.split(", ").map((k) => el("kbd", { text: k }))), el("dd", { text: t(words) })])));
}

