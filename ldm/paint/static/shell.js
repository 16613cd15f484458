// What surrounds the canvases: views, toolbar, brush, progress, errors, the server's state.
import { $, check, copy, el, label, radio, radios } from "./dom.js";
import { icon } from "./icons.js";
import { expected } from "./settings.js";
import { duration, t } from "./words.js";

const VIEWS = ["both", "mask", "picture", "compare"];
const TOOLS = ["brush", "fill", "line", "rect", "lasso", "eraser", "pick", "hand"];
const LARGEST = 128;

/** Both panes, one of them, or one over the other with a hairline between (compare) or in turn (blink). */
export class Views {
	constructor(app, redraw) {
		this.redraw = redraw;
		this.at = 50;
		radios($("views"), ({ dataset: { view } }) => (view === "compare" ? this.compare() : this.show(view)));
		app.on("language", () => this.build());
		const line = $("hairline");
		line.addEventListener("pointerdown", (e) => line.setPointerCapture(e.pointerId));
		line.addEventListener("pointermove", (e) => {
			const box = $("panes").getBoundingClientRect();
			if (line.hasPointerCapture(e.pointerId)) this.#move(100 * (e.clientX - box.left) / box.width);
		});
		line.addEventListener("keydown", (e) => {
			const step = { ArrowLeft: -2, ArrowRight: 2, Home: -100, End: 100 }[e.key];
			if (!step) return;
			this.#move(this.at + step);
			e.preventDefault();
		});
		this.build();
		this.show(innerWidth < 700 ? "mask" : "both");
		this.#move(50);
		setInterval(() => document.body.classList.toggle("off"), 800);
	}

	build() {
		$("views").replaceChildren(...VIEWS.map((view) => radio({ text: t(view), title: view === "compare" ? t("keyCompare") : null, data: { view } })));
		this.show(document.body.dataset.view);
	}

	show(view) {
		document.body.dataset.view = view;
		check($("views"), $("views").querySelector(`[data-view=${view === "blink" ? "compare" : view}]`));
		this.redraw();
	}

	/** The next way to compare: hairline, blink, back. */
	compare() {
		const view = document.body.dataset.view;
		if (view !== "compare" && view !== "blink") this.before = view;
		this.show({ compare: "blink", blink: this.before || "both" }[view] || "compare");
	}

	#move(percent) {
		this.at = Math.min(100, Math.max(0, percent));
		$("panes").style.setProperty("--at", `${this.at}%`);
		$("hairline").setAttribute("aria-valuenow", Math.round(this.at));
	}
}

/** The tools and the brush. */
export class Toolbar {
	constructor(app, painter) {
		this.app = app;
		this.painter = painter;
		radios($("tools"), (node) => app.set("tool", node.dataset.tool));
		app.on("language", () => this.build());
		app.on("tool brush", () => this.mark());
		$("brush").addEventListener("input", () => this.size(Math.round(LARGEST ** ($("brush").value / 100))));
		$("pressure").addEventListener("change", () => { painter.pressure = $("pressure").checked; });
		this.build();
	}

	build() {
		$("tools").replaceChildren(...TOOLS.map((tool) => {
			const node = radio({ data: { tool } }, icon(tool));
			label(node, t(tool));
			return node;
		}));
		this.mark();
	}

	/** Set the brush's diameter. */
	size(pixels) {
		this.app.set("brush", Math.min(LARGEST, Math.max(1, pixels)));
		this.painter.view.draw();
	}

	/** One size up (1) or down (-1). */
	step(by) {
		this.size(this.app.brush + by * Math.max(1, Math.round(this.app.brush / 6)));
	}

	mark() {
		const { tool, brush, factor } = this.app;
		check($("tools"), $("tools").querySelector(`[data-tool=${tool}]`));
		$("brush").value = 100 * Math.log(brush) / Math.log(LARGEST);
		$("brush").setAttribute("aria-valuetext", `${brush}`);
		$("brush-value").textContent = `${brush} px`;
		$("brush-hint").hidden = brush >= factor;
		$("brush-hint").textContent = t("brushHint", { f: Math.round(factor) });
		$("mask-canvas").dataset.tool = tool;
	}
}

/** The line of progress, the bar over the picture, Generate and Cancel. */
export class Progress {
	constructor(app) {
		this.app = app;
		app.on("settings style", () => this.running || this.idle());
		app.on("language", () => (this.running ? this.event(...this.last) : this.idle()));
		app.on("state", () => this.running || this.ended || this.idle());
		this.idle();
	}

	/** Not running: what a job would take. */
	idle() {
		this.ended = false;
		const seconds = expected(this.app), { custom, preset } = this.app.settings;
		const name = t(custom ? "custom" : preset);
		this.#show(seconds == null ? name : `${name} · ${t("about", { s: duration(seconds) })}`, null);
	}

	#show(text, part) {
		this.running = part !== null;
		if ($("progress").textContent !== text) $("progress").textContent = text;
		$("bar").hidden = part === null;
		$("bar").firstElementChild.style.width = `${100 * (part || 0)}%`;
		$("bar").setAttribute("aria-valuenow", Math.round(100 * (part || 0)));
		$("generate").hidden = this.running;
		$("cancel").hidden = !this.running;
	}

	/** An event of the runner. */
	event(name, data = {}) {
		this.last = [name, data];
		if (name === "sending") this.#show(t("sending"), 0);
		if (name === "queued") {
			const time = data.seconds == null ? "…" : duration(data.seconds);
			this.#show(data.position > 0 ? t("queued", { n: data.position, s: time }) : t("next"), 0);
		}
		if (name === "compiling") this.#show(t("compiling", { m: Math.max(1, Math.round(data.minutes || 1)) }), 0);
		if (name === "step") {
			const { round, rounds, step, steps, seconds } = data;
			this.#show(t("stepping", { round, rounds, step, steps, s: duration(seconds ?? 0) }), (round - 1 + step / steps) / rounds);
		}
		if (name === "done") this.#show(data.seconds == null ? "" : t("done", { s: duration(data.seconds) }), null);
		if (name === "cancelled") this.#show(t("cancelled"), null);
		if (name === "failed") this.idle();
		this.ended = name === "done" || name === "cancelled";
	}
}

/** An error where it belongs: what: what is wrong; what to do. No error hides it. */
export function showError(error) {
	const box = $("error");
	box.hidden = !error;
	if (!error) return;
	const offline = error.code === "offline" || error.status === 0 && !error.possible;
	const lines = offline ? [t("offline"), t("offlineDo")]
		: [error.what ? `${error.what}: ${error.is}` : error.message, error.possible || ""];
	const details = el("button", { className: "quiet", text: t("details") });
	details.addEventListener("click", async () => {
		if (await copy(JSON.stringify({ ...error, message: error.message, stack: error.stack, page: location.origin }, null, 1))) details.textContent = t("copied");
	});
	const leave = el("button", { className: "icon quiet", on: { click: () => showError(null) } }, icon("close"));
	label(leave, t("close"));
	box.replaceChildren(el("p", {}, el("b", { text: lines[0] }), lines[1] ? el("span", { text: ` ${lines[1]}` }) : null), details, leave);
}

let fading;

/** A line that goes by itself, or `stays` until the next one. */
export function toast(text, stays) {
	clearTimeout(fading);
	$("toast").textContent = text;
	$("toast").hidden = !text;
	if (!stays) fading = setTimeout(() => { $("toast").hidden = true; }, 5000);
}

/** The model's name and state in the header, and a banner where something is amiss. */
export function showState(app, reachable) {
	const { model, worker } = app.info, [w, h] = model.size;
	const state = reachable ? worker.state : "offline";
	const words = { starting: "starting", compiling: "compilingModel", ready: "ready", silent: "silent", dead: "dead" }[state];
	$("worker").dataset.state = state;
	const line = `${model.name} · ${w} × ${h}${words ? ` · ${t(words)}` : ""}`;
	if ($("worker").textContent !== line) $("worker").textContent = line;
	const banner = { dead: t("deadBanner"), silent: t("silentBanner"), offline: t("offline"),
		compiling: t("compilingBanner", { message: worker.message || "" }) }[state]
		|| (app.info.warnings || []).join(" ");
	if ($("banner").dataset.from === "draft" && !banner) return;
	$("banner").dataset.from = "state";
	$("banner").hidden = !banner;
	if ($("banner").textContent !== banner) $("banner").textContent = banner;
}

/** Offer another tab's draft: resolves to whether it is wanted. */
export function offerDraft(time) {
	return new Promise((resolve) => {
		const box = $("banner"), words = t("drafts", { time: new Date(time).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }) });
		const answer = (yes) => () => { box.hidden = true; box.dataset.from = ""; resolve(yes); };
		box.dataset.from = "draft";
		box.replaceChildren(el("span", { text: words }),
			el("button", { text: t("continueDraft"), on: { click: answer(true) } }),
			el("button", { text: t("startNew"), on: { click: answer(false) } }));
		box.hidden = false;
	});
}
