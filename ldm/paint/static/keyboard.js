// Keys of the whole page. Single letters do nothing while a text is typed.

const TOOLS = { b: "brush", g: "fill", l: "line", r: "rect", p: "lasso", e: "eraser", i: "pick", h: "hand" };

/** Is the event for an element that types or chooses by keys itself? */
function typing(node) {
	return node.matches?.("input:not([type=range]):not([type=checkbox]), select, textarea");
}

/** Connect the keys. actions: the page's functions, named as below; painter: the canvas's keyboard cursor. */
export function listen(app, painter, actions) {
	addEventListener("keydown", (e) => {
		if (e.defaultPrevented || document.querySelector("dialog[open]")) return;
		const used = e.ctrlKey || e.metaKey ? withControl(e, actions) : plain(e, app, painter, actions);
		if (used) e.preventDefault();
	});
	addEventListener("keyup", (e) => {
		if (e.key === " ") painter.space = false;
	});
	addEventListener("blur", () => { painter.space = false; });
}

function withControl(e, actions) {
	const key = e.key.toLowerCase();
	const action = { z: e.shiftKey ? actions.redo : actions.undo, y: actions.redo, s: actions.bundle, o: actions.open }[key];
	if (!action || (typing(e.target) && "zy".includes(key))) return false;
	action();
	return true;
}

function plain(e, app, painter, actions) {
	if (e.key === "Escape") return painter.abort() || actions.escape();
	if (typing(e.target) || e.altKey) return enterInField(e, actions);
	const canvas = e.target === painter.view.canvas;
	if (canvas && painter.key(e)) return true;
	if (e.key === "Enter" && painter.corners) { painter.close(); return true; }
	const on = e.target.closest("button, summary, a, input, [role=slider]"), radio = on?.ariaChecked === "true";
	if (on && (e.key === " " || e.key === "Enter" && !radio)) return false;
	if (e.key === "Enter") { actions.generate(); return true; }
	if (e.key === " ") { painter.space = true; return true; }
	return letter(e, app, actions);
}

function enterInField(e, actions) {
	if (e.key !== "Enter" || e.target.id !== "seed") return false;
	e.target.dispatchEvent(new Event("change"));
	actions.generate();
	return true;
}

function letter(e, app, actions) {
	const key = e.key.toLowerCase();
	if (TOOLS[key]) { app.set("tool", TOOLS[key]); return true; }
	if (/^[1-7]$/.test(key)) { actions.group(Number(key) - 1); return true; }
	const action = { "/": actions.search, "[": actions.thinner, "]": actions.thicker, "+": actions.zoomIn, "=": actions.zoomIn,
		"-": actions.zoomOut, 0: actions.zoomFit, d: actions.dice, v: actions.compare, n: actions.network, "?": actions.help }[key];
	action?.();
	return Boolean(action);
}
