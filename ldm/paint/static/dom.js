// Small helpers to build and find elements.

/** The element with this id. */
export const $ = (id) => document.getElementById(id);

/**
 * A new element; a button does not submit. props: attributes; `on` {event: handler}, `text`, `data` {name: value}
 * and properties such as `value` are set as such; false and null leave an attribute out.
 */
export function el(tag, props = {}, ...children) {
	const { on = {}, text, data = {}, ...rest } = props;
	const node = document.createElement(tag);
	if (tag === "button") node.type = "button";
	for (const [name, value] of Object.entries(rest)) {
		if (["checked", "value", "disabled", "hidden", "className"].includes(name)) node[name] = value;
		else if (value !== false && value != null) node.setAttribute(name, value === true ? "" : value);
	}
	for (const [name, value] of Object.entries(data)) node.dataset[name] = value;
	for (const [name, handler] of Object.entries(on)) node.addEventListener(name, handler);
	if (text != null) node.textContent = text;
	node.append(...children.filter((child) => child != null));
	return node;
}

/** A button of a radio group. */
export const radio = (props, ...children) => el("button", { role: "radio", ...props }, ...children);

/** Give a button a name that is also its tooltip. */
export function label(node, name) {
	node.setAttribute("aria-label", name);
	node.title = name;
}

/**
 * Make the children with role=radio of `group` a radio group: one tab stop, arrows move and choose.
 * `choose(node)` is called for the node that the user picks.
 */
export function radios(group, choose) {
	group.addEventListener("click", (e) => {
		const node = e.target.closest("[role=radio]");
		if (node && !node.disabled) choose(node);
	});
	group.addEventListener("keydown", (e) => {
		const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[e.key];
		if (!step || !e.target.matches("[role=radio]")) return;
		const all = [...group.querySelectorAll("[role=radio]")].filter((n) => !n.hidden && n.offsetParent);
		const next = all[(all.indexOf(e.target) + step + all.length) % all.length];
		e.preventDefault();
		e.stopPropagation();
		next.focus();
		choose(next);
	});
}

/** Mark one radio of a group as the chosen one; it is the group's tab stop. */
export function check(group, chosen) {
	const all = [...group.querySelectorAll("[role=radio]")];
	for (const node of all) {
		node.setAttribute("aria-checked", String(node === chosen));
		node.tabIndex = node === chosen || (!chosen && node === all[0]) ? 0 : -1;
	}
}

/** A menu under `button` with items [label, action]; it closes by Esc, a click elsewhere, or a choice. */
export function menu(button, items) {
	const list = el("div", { role: "menu", className: "menu-list" });
	const close = (focus) => {
		list.remove();
		removeEventListener("pointerdown", outside, true);
		button.setAttribute("aria-expanded", "false");
		if (focus) button.focus();
	};
	const outside = (e) => {
		if (!list.contains(e.target)) close(false);
	};
	for (const [name, action, disabled] of items) {
		const run = () => { close(true); action(); };
		list.append(el("button", { role: "menuitem", text: name, disabled: Boolean(disabled), on: { click: run } }));
	}
	list.addEventListener("keydown", (e) => moveInMenu(e, list, close));
	document.body.append(list);
	place(list, button.getBoundingClientRect());
	button.setAttribute("aria-expanded", "true");
	list.querySelector("button:enabled")?.focus();
	addEventListener("pointerdown", outside, true);
}

function moveInMenu(e, list, close) {
	const all = [...list.querySelectorAll("button:enabled")];
	const step = { ArrowDown: 1, ArrowUp: -1 }[e.key];
	if (step) all[(all.indexOf(document.activeElement) + step + all.length) % all.length]?.focus();
	if (e.key === "Escape" || e.key === "Tab") close(true);
	if (step || e.key === "Escape" || e.key === "Tab") e.preventDefault();
	e.stopPropagation();
}

function place(list, at) {
	const width = list.offsetWidth, height = list.offsetHeight;
	list.style.left = `${Math.max(8, Math.min(at.left, innerWidth - width - 8))}px`;
	list.style.top = `${at.bottom + height + 8 > innerHeight ? Math.max(8, at.top - height - 4) : at.bottom + 4}px`;
}

/** Save a blob under a name. */
export function download(blob, name) {
	const url = URL.createObjectURL(blob);
	el("a", { href: url, download: name }).click();
	setTimeout(() => URL.revokeObjectURL(url), 10000);
}

/** Copy text; where the clipboard is not allowed (http to another machine), by a selected text area. */
export async function copy(text) {
	try {
		await navigator.clipboard.writeText(text);
		return true;
	} catch {
		const area = el("textarea", { value: text, className: "unseen" });
		document.body.append(area);
		area.select();
		const done = document.execCommand("copy");
		area.remove();
		return done;
	}
}
