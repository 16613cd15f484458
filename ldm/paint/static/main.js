// Starts the page and connects its parts.
import * as api from "./api.js";
import { App } from "./app.js";
import { LabelMap } from "./buffer.js";
import { $, copy, download, label, menu } from "./dom.js";
import { Gallery } from "./gallery.js";
import { drawIcons } from "./icons.js";
import { listen } from "./keyboard.js";
import * as link from "./link.js";
import { Opener } from "./open.js";
import { Palette } from "./palette.js";
import { Painter } from "./pointer.js";
import { Runner, randomSeed } from "./run.js";
import { SettingsPanel, wanted } from "./settings.js";
import { Progress, Toolbar, Views, offerDraft, showError, showState, toast } from "./shell.js";
import * as store from "./store.js";
import { StylePanel } from "./style.js";
import { Results } from "./results.js";
import * as tools from "./tools.js";
import { MaskView, PictureView, Viewport, navigate } from "./view.js";
import { language, speak, t, translate } from "./words.js";

const dialogs = () => import("./dialogs.js"); // only when they are needed

/** Run `action`; an error is shown in words. */
const guarded = (action) => async (...args) => {
	try {
		await action(...args);
	} catch (e) {
		showError(e);
	}
};

async function start() {
	const speaking = speak(localStorage.getItem("iidm-language") || navigator.language).then(translate);
	drawIcons();
	const [info, client] = await Promise.all([serverState(speaking), store.clientId(), speaking]);
	const app = new App(info, client), page = build(app);
	wire(page);
	await guarded(firstMap)(page);
	app.fresh();
	page.ready = true;
	window.page = page; // for the browser's console and the tests
	page.style.thumbnails(); // after the map
	watchServer(page);
	await page.runner.resume();
}

/** The server's state; until it answers the page waits. */
async function serverState(speaking) {
	for (;;) {
		try {
			return await api.state();
		} catch (e) {
			await speaking;
			showError(e);
			await new Promise((resolve) => setTimeout(resolve, 1000));
		}
		showError(null);
	}
}

function build(app) {
	const viewport = new Viewport(...app.info.model.size);
	const page = { app, viewport, mask: new MaskView($("mask-canvas"), viewport, app), picture: new PictureView($("picture-canvas"), viewport) };
	let frame = null;
	page.redraw = () => {
		page.mask.draw();
		page.picture.draw();
		frame ??= requestAnimationFrame(() => { frame = null; showZoom(); }); // once: a size costs a layout
	};
	const showZoom = () => {
		const { size } = page.mask.size.width ? page.mask : page.picture;
		const percent = `${Math.round(100 * viewport.scaleIn(size))}%`;
		$("zoom-fit").textContent = percent;
		label($("zoom-fit"), `${percent}, ${t("zoomFit")}`);
	};
	page.painter = new Painter(page.mask, app, {
		hint: (key) => { $("status").textContent = key ? t(key) : ""; },
		moved: (at) => showClass(app, at),
		viewChanged: page.redraw,
	});
	navigate(page.picture, page.redraw);
	page.views = new Views(app, page.redraw);
	page.toolbar = new Toolbar(app, page.painter);
	page.palette = new Palette(app, (id) => page.mask.show({ highlight: id }));
	page.style = new StylePanel(app, (use) => pickFile(page, use));
	page.settings = new SettingsPanel(app);
	page.progress = new Progress(app);
	page.opener = new Opener(app, page.style, { say: toast, underlay: (bitmap) => showUnderlay(page, bitmap) });
	page.results = new Results(app, page.picture);
	page.gallery = new Gallery(app, guarded(async (entry) => {
		await page.opener.restore(entry);
		await page.results.fromHistory(entry);
	}));
	page.runner = new Runner(app, (event, data) => onJob(page, event, data));
	new ResizeObserver(([{ contentRect: { width, height } }]) => {
		const [w, h] = viewport.size; // one above the other where that makes both much larger
		$("panes").classList.toggle("stacked", Math.min(width / w, height / 2 / h) > 1.2 * Math.min(width / 2 / w, height / h));
		page.redraw();
	}).observe($("panes"));
	return page;
}

function onJob(page, event, data) {
	page.progress.event(event, data);
	if (event === "sending") showError(null);
	if (event === "preview") page.results.preview(data);
	if (event === "cancelled" || event === "failed") page.results.show();
	if (event === "failed") showError(data);
	if (event !== "done") return;
	page.results.take(data);
	page.gallery.add(data);
	refresh(page); // the seconds that this picture took are its preset's now
	if (innerWidth < 700 && document.body.dataset.view === "mask" && !page.runner.live) page.views.show("picture");
}

function showClass(app, at) {
	const id = at ? app.map.at(...at) : -1;
	$("status").textContent = id < 0 ? (app.tool === "sky" ? t("skyHint") : "") : t("at", { name: app.className(id), x: at[0], y: at[1] });
}

function showUnderlay(page, bitmap) {
	$("underlay-row").hidden = !bitmap;
	page.mask.underlay = bitmap && { bitmap, opacity: $("underlay").value / 100 };
	page.mask.draw();
}

/** What the page's buttons and keys do. */
function actions(page) {
	const { app, runner, viewport, toolbar, views } = page;
	const zoom = (factor) => () => { viewport.zoom(page.mask.size, factor); page.redraw(); };
	return {
		undo: () => app.step(true), redo: () => app.step(false),
		zoomIn: zoom(1.25), zoomOut: zoom(0.8), zoomFit: () => { viewport.fit(); page.redraw(); },
		generate: guarded(() => runner.generate()), cancel: guarded(() => runner.cancel()),
		escape: () => { if (runner.active) runner.cancel(); else sheet(""); return true; },
		dice: () => app.change({ seed: randomSeed() }), lock: () => app.change({ locked: !app.settings.locked }),
		compare: () => views.compare(), group: (n) => page.palette.group(n),
		thinner: () => toolbar.step(-1), thicker: () => toolbar.step(1), help: async () => (await dialogs()).keys(),
		search: () => { if (innerWidth < 700) sheet("palette"); page.palette.search.focus(); },
		network: () => {
			page.mask.show({ network: !page.mask.network });
			$("network").setAttribute("aria-pressed", String(page.mask.network));
		},
		open: () => pickFile(page, ""), bundle: guarded(() => page.results.save("bundle")),
		newMap: guarded(() => newMap(page)), link: guarded(() => copyLink(page)),
		check: guarded(() => checkPicture(page)), save: () => saveMenu(page), mapMenu: () => mapMenu(page),
		language: async () => {
			await speak(language() === "zh" ? "en" : "zh");
			localStorage.setItem("iidm-language", language());
			translate();
			showLanguage(app);
			app.emit("language");
		},
	};
}

function showLanguage(app) {
	$("language").textContent = language() === "zh" ? "English" : "中文";
	$("language").lang = language() === "zh" ? "en" : "zh";
	$("mask-canvas").setAttribute("aria-label", t("mask"));
	showInk(app);
	showState(app, true);
}

function wire(page) {
	const { app } = page, run = actions(page);
	const buttons = {
		undo: "undo", redo: "redo", "zoom-in": "zoomIn", "zoom-out": "zoomOut", "zoom-fit": "zoomFit", generate: "generate",
		cancel: "cancel", dice: "dice", "seed-lock": "lock", network: "network", open: "open", new: "newMap", link: "link",
		save: "save", "map-menu": "mapMenu", language: "language", help: "help", check: "check",
	};
	for (const [id, name] of Object.entries(buttons)) $(id).addEventListener("click", () => run[name]());
	listen(app, page.painter, run);
	app.on("pixels", (rect) => page.mask.update(rect));
	app.on("map", () => {
		$("undo").disabled = !app.undo.past.length;
		$("redo").disabled = !app.undo.future.length;
		page.drafted = false;
	});
	app.on("settings style uploaded", () => { page.drafted = false; });
	app.on("settings", () => showSeed(app));
	app.on("ink", () => showInk(app));
	$("palette").addEventListener("click", () => innerWidth < 700 && sheet(""));
	$("seed").addEventListener("change", () => app.change({ seed: Math.max(0, parseInt($("seed").value, 10) || 0), locked: true }));
	$("live").addEventListener("change", () => page.runner.setLive($("live").checked));
	$("underlay").addEventListener("input", () => showUnderlay(page, page.mask.underlay.bitmap));
	$("underlay-off").addEventListener("click", () => showUnderlay(page, null));
	$("drawer").addEventListener("click", () => sheet("side"));
	for (const node of document.querySelectorAll(".dock [data-sheet]")) node.addEventListener("click", () => sheet(node.dataset.sheet));
	files(page);
	setInterval(() => saveDraft(page), 500);
	addEventListener("pagehide", () => saveDraft(page));
	showSeed(app);
	$("undo").disabled = $("redo").disabled = true;
	showLanguage(app);
}

function showSeed({ settings }) {
	$("seed").value = settings.seed;
	$("seed-lock").setAttribute("aria-pressed", String(settings.locked));
}

/** On narrow screens, where the palette is a sheet, its button shows the class. */
function showInk(app) {
	const button = document.querySelector(".dock [data-sheet=palette]");
	button.lastElementChild.textContent = app.className(app.ink);
	button.style.setProperty("--ink", `rgb(${app.classes[app.ink].color})`);
}

/** Show one of the sheets of narrow screens; the same one again closes it. */
function sheet(name) {
	const open = name && document.body.dataset.sheet !== name ? name : "";
	document.body.dataset.sheet = open;
	$("drawer").setAttribute("aria-expanded", String(open === "side"));
	for (const node of document.querySelectorAll(".dock [data-sheet]")) node.setAttribute("aria-pressed", String(node.dataset.sheet === open));
}

/** Files by the dialog, dropped, and pasted. */
function files(page) {
	const open = guarded((file, use) => { showError(null); return page.opener.file(file, use); });
	$("file").addEventListener("change", () => {
		const [file] = $("file").files;
		$("file").value = "";
		if (file) open(file, page.fileUse);
	});
	addEventListener("dragover", (e) => { e.preventDefault(); document.body.classList.add("dropping"); });
	addEventListener("dragleave", (e) => e.relatedTarget || document.body.classList.remove("dropping"));
	addEventListener("drop", (e) => {
		e.preventDefault();
		document.body.classList.remove("dropping");
		const [file] = e.dataTransfer.files;
		if (file) open(file, e.target.closest?.("#style-card") ? "style" : "");
	});
	addEventListener("paste", (e) => {
		const [file] = e.clipboardData.files;
		if (file) open(file, "style");
	});
}

function pickFile(page, use) {
	page.fileUse = use;
	$("file").click();
}

async function newMap(page) {
	const { app, opener } = page, [width, height] = app.info.model.size;
	const maps = new Map();
	await Promise.all(app.info.samples.map(async ({ name, mask }) => {
		maps.set(name, new LabelMap(width, height, await api.maskIds(mask)));
	}));
	const chosen = await (await dialogs()).startFrom(app, new Map(app.info.samples.map(({ name }) => [name, maps.get(name)])));
	if (chosen === "file") pickFile(page, "");
	else if (chosen === "blank") app.load(LabelMap.horizon(width, height, 1, 12, Math.round(height * 0.45)), "image");
	else if (chosen) await opener.sample(chosen);
}

function mapMenu({ app }) {
	const apply = (rect) => { app.touch(rect); app.commit(rect); };
	menu($("map-menu"), [
		[t("replace"), async () => {
			const answer = await (await dialogs()).replaceClass(app);
			if (answer) apply(tools.replaceClass(app.map, answer.from, answer.to));
		}],
		[t("mirror"), () => apply(tools.mirror(app.map))],
		[t("skyAbove"), () => { app.set("tool", "sky"); $("status").textContent = t("skyHint"); }],
	]);
}

function saveMenu(page) {
	const { results, app, runner } = page, have = Boolean(app.result);
	const save = (what) => guarded(() => results.save(what));
	const mask = (colored) => guarded(async () => download(await api.maskPng(await runner.maskId(), colored),
		`${app.name}${colored ? "-colours" : ""}.png`));
	menu($("save"), [
		[t("savePng"), save("png"), !have], [t("saveJpg"), save("jpg"), !have], [t("saveBundle"), save("bundle"), !have],
		[t("saveMask"), mask(false)], [t("saveColored"), mask(true)],
	]);
}

async function checkPicture({ app, results }) {
	toast(t("checking"), true);
	const found = await results.check().finally(() => toast(""));
	await (await dialogs()).checked(app, found);
}

async function copyLink({ app }) {
	const { style, settings, map } = app;
	const fragment = await link.toFragment({
		map, style: style.kind === "sample" ? `sample:${style.name}` : "", rounds: wanted(app), seed: settings.seed, variations: settings.variations,
	});
	if (fragment.length > link.LONGEST) return toast(t("linkLong"));
	const done = await copy(`${location.origin}${location.pathname}#${fragment}`);
	if (done) toast(t(style.kind === "upload" ? "linkStyle" : "linkCopied"));
}

/** Keep the tab's draft, if it changed. */
async function saveDraft(page) {
	if (page.drafted || !page.ready) return;
	page.drafted = true;
	const { app } = page, { style, settings, name, client } = app;
	const { kind, name: of, id } = style;
	store.keepDraft(client, { map: await link.mapToText(app.map), name, settings, style: { kind, name: of, id } });
}

/** Go on with a draft. A photograph comes back from the server, if it still has it. */
async function takeDraft({ app, style }, draft) {
	app.load(await link.textToMap(draft.map), draft.name);
	app.change(draft.settings);
	const { kind, name, id } = draft.style;
	const blob = kind === "upload" && id && await api.reference(id, "png").catch(() => null);
	if (blob) await style.upload(blob, name);
	else if (kind !== "none" && !style.sample(name)) {
		style.sample(app.info.samples[0].name);
		toast(t("photoLost"));
	}
}

/** The first map: a link's, this tab's draft, or a sample; another tab's draft is offered. */
async function firstMap(page) {
	const { app, opener } = page, drafts = store.drafts(), own = drafts.find((d) => d.client === app.client);
	const given = await link.fromFragment(location.hash).catch(() => toast(t("linkBad")));
	if (location.hash) history.replaceState(null, "", location.pathname);
	if (given) return opener.link(given);
	if (own) return takeDraft(page, own);
	if (app.info.samples.length) await opener.sample((app.info.samples.find((s) => s.name === "lake") || app.info.samples[0]).name);
	if (drafts.length) offerDraft(drafts[0].time).then((yes) => yes && guarded(takeDraft)(page, drafts[0]));
}

/** Ask the server for its state now and then, more often while it is not ready. */
async function watchServer(page) {
	for (;;) {
		const ready = page.app.info.worker.state === "ready";
		await new Promise((resolve) => setTimeout(resolve, ready ? 10000 : 2000));
		if (!document.hidden) await refresh(page);
	}
}

async function refresh({ app }) {
	const info = await api.state().catch(() => null);
	if (info && JSON.stringify(info) !== JSON.stringify(app.info)) app.take(info);
	showState(app, Boolean(info));
}

start();
