// One job of this tab: sent, watched by its events (or by polling), cancelled, resumed after a reload.
import * as api from "./api.js";
import { wanted, wantedTree } from "./settings.js";

const KEY = "iidm-job";
const LIVE_PAUSE = 400; // ms after the last stroke
const STREAMS = 4; // of the 6 connections to a host; other tabs poll

/**
 * Runs jobs. `tell(event, data)` is called with "sending", "queued", "compiling", "step", "preview" (an
 * ImageBitmap a variation), "done", "failed" and "cancelled".
 */
export class Runner {
	constructor(app, tell) {
		this.app = app;
		this.tell = tell;
		this.job = null; // {id, request, name, ...} while one is active
		this.posted = { version: -1 }; // the map that the server has
		this.live = false;
		app.on("map style settings", () => this.live && this.#later());
		addEventListener("pagehide", () => this.watching?.abort());
	}

	get active() {
		return Boolean(this.job || this.sending);
	}

	setLive(on) {
		this.live = on;
		if (on) this.generate();
	}

	#later() {
		clearTimeout(this.timer);
		this.timer = setTimeout(() => this.live && this.generate(), LIVE_PAUSE);
	}

	/** Start a job with what the page shows; one that runs is replaced. */
	async generate() {
		if (this.sending) {
			this.again = true;
			return;
		}
		this.sending = true;
		this.tell("sending");
		try {
			await this.#stop();
			const { settings } = this.app;
			if (!settings.locked && !this.live) this.app.change({ seed: randomSeed() });
			await this.#send();
		} catch (e) {
			this.sending = false;
			this.#fail(e);
		}
		this.sending = false;
		if (this.again && !(this.again = false)) this.generate();
	}

	/** What the job is made from, for the history. */
	#snapshot() {
		const { settings, style, name, map } = this.app;
		return { name, map: map.clone(), style: { ...style }, settings: structuredClone(settings), rounds: structuredClone(wantedTree(this.app)) };
	}

	async #send(again = true) {
		const snapshot = this.#snapshot(), { settings } = snapshot;
		try {
			const mask = await this.#mask(), reference = await this.#reference();
			snapshot.mask = mask;
			const request = {
				client: this.app.client, mask, reference, seed: settings.seed, name: snapshot.name,
				variations: settings.variations, rounds: wanted(this.app),
			};
			const { id, position, seconds } = await api.postJob(request);
			this.#watch({ id, ...snapshot });
			this.tell("queued", { position, seconds });
		} catch (e) {
			if (e.status !== 404 || !again) throw e;
			this.posted.version = -1; // the server forgot them: upload again
			if (this.app.style.kind === "upload") this.app.style.id = null;
			await this.#send(false);
		}
	}

	/** The map's id on the server; it is uploaded if it changed. */
	async #mask() {
		const { version, info, map } = this.app;
		if (this.posted.version !== version || this.posted.server !== info.server) {
			const { id } = await api.postMap(map);
			this.posted = { version, server: info.server, id };
		}
		return this.posted.id;
	}

	async #reference() {
		const { style } = this.app;
		if (style.kind === "none") return null;
		if (style.kind === "upload" && (!style.id || style.server !== this.app.info.server)) {
			style.id = (await api.postReference(style.blob, style.box)).id;
			style.server = this.app.info.server;
			this.app.emit("uploaded");
		}
		return style.id;
	}

	/** The map's id, for downloads. */
	maskId() {
		return this.#mask();
	}

	async cancel() {
		if (!this.job) return;
		await this.#stop();
		this.tell("cancelled");
	}

	async #stop() {
		const job = this.job;
		if (!job) return;
		this.#end();
		await api.cancel(job.id).catch(() => {}); // it may be done by now
	}

	/** Take up a job of before a reload. */
	async resume() {
		const id = sessionStorage.getItem(KEY);
		if (!id) return false;
		const state = await api.job(id).catch(() => null);
		if (!state || ["failed", "cancelled"].includes(state.state)) {
			sessionStorage.removeItem(KEY);
			return false;
		}
		this.#watch({ id, ...this.#snapshot() });
		this.tell("queued", { position: state.position || 0, seconds: state.seconds });
		return true;
	}

	#watch(job) {
		this.job = job;
		sessionStorage.setItem(KEY, job.id);
		this.watching = new AbortController();
		this.#follow(job, this.watching.signal).catch((e) => e.name === "AbortError" || (this.job === job && this.#fail(e)));
	}

	#end() {
		this.watching?.abort();
		this.job = null;
		sessionStorage.removeItem(KEY);
	}

	/** Events while a stream can be had, else the job's state each second. */
	async #follow(job, signal) {
		const release = await streamSlot();
		try {
			let last = "", misses = 0;
			while (this.job === job && misses < 5) {
				const before = last;
				if (release) last = await this.#stream(job, last, signal);
				if (this.job === job) misses = await this.#poll(job) || (release && last !== before) ? 0 : misses + 1;
				await pause(release ? 300 : 1000);
			}
			if (this.job === job) this.#fail(new api.ApiError({ what: "server", is: "no answer", code: "offline" }, 0));
		} finally {
			release?.();
		}
	}

	async #stream(job, last, signal) {
		try {
			for await (const { id, event, data } of api.events(job.id, last, signal)) {
				last = id || last;
				if (this.job !== job) return last;
				await this.#handle(job, event, data);
			}
		} catch (e) {
			if (e.name === "AbortError" || e.status) throw e; // status 0 and broken streams: poll, then resume
		}
		return last;
	}

	/** Whether the server answered. */
	async #poll(job) {
		let state;
		try {
			state = await api.job(job.id);
		} catch (e) {
			if (e.status) throw e;
			return false;
		}
		if (this.job !== job) return true;
		if (state.preview) await this.#handle(job, "preview", { png: state.preview });
		if (state.state === "running" && state.progress) await this.#handle(job, "step", state.progress);
		if (state.state === "done") await this.#handle(job, "done", { results: state.results, seconds: state.seconds });
		if (state.state === "failed") await this.#handle(job, "failed", state.error);
		if (state.state === "cancelled") await this.#handle(job, "cancelled", {});
		return true;
	}

	async #handle(job, event, data) {
		if (event === "preview") {
			const images = await Promise.all(data.png.map(decodePng));
			if (this.job === job) this.tell("preview", images);
		} else if (event === "done") await this.#done(job, data);
		else if (event === "failed") this.#fail(new api.ApiError(data, 500));
		else if (event === "cancelled") {
			this.#end();
			this.tell("cancelled");
		} else if (event !== "closing") this.tell(event, data);
	}

	async #done(job, { results, seconds }) {
		const pictures = await Promise.all(results.map(async ({ id, seed }) => {
			const blob = await api.picture(id, "png");
			return { id, seed, blob, bitmap: await createImageBitmap(blob) };
		}));
		if (this.job !== job) return;
		this.#end();
		this.tell("done", { job, results: pictures, seconds });
	}

	#fail(error) {
		this.#end();
		this.tell("failed", error);
	}
}

/** A seed of up to 6 digits. */
export const randomSeed = () => crypto.getRandomValues(new Uint32Array(1))[0] % 1000000;

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function decodePng(base64) {
	return createImageBitmap(new Blob([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], { type: "image/png" }));
}

/** One of the few streams that all tabs may have: a function that gives it back, or null. */
async function streamSlot() {
	if (!navigator.locks) return () => {}; // http to another machine has no locks
	for (let n = 0; n < STREAMS; n++) {
		const release = await new Promise((resolve) => {
			navigator.locks.request(`iidm-stream-${n}`, { ifAvailable: true }, (lock) => (
				lock ? new Promise((free) => resolve(free)) : resolve(null)));
		});
		if (release) return release;
	}
	return null;
}
