// What the browser keeps: the history in IndexedDB, drafts in localStorage, the tab's name in sessionStorage.

const KEPT = 60;
let opened;

function database() {
	opened ??= new Promise((resolve, reject) => {
		const open = indexedDB.open("iidm-paint", 1);
		open.onupgradeneeded = () => open.result.createObjectStore("history", { keyPath: "id" });
		open.onsuccess = () => resolve(open.result);
		open.onerror = () => reject(open.error);
	});
	return opened;
}

async function run(mode, action) {
	const store = (await database()).transaction("history", mode).objectStore("history");
	const asked = action(store);
	return new Promise((resolve, reject) => {
		asked.onsuccess = () => resolve(asked.result);
		asked.onerror = () => reject(asked.error);
	});
}

/** All entries, the newest first. */
export async function entries() {
	const all = await run("readonly", (store) => store.getAll());
	return all.sort((a, b) => b.time - a.time);
}

/** Keep an entry {id, time, star, ...}; the oldest ones without a star beyond the last 60 go. */
export async function keep(entry) {
	await run("readwrite", (store) => store.put(entry));
	const old = (await entries()).filter((e) => !e.star).slice(KEPT);
	for (const { id } of old) await remove(id);
}

export const remove = (id) => run("readwrite", (store) => store.delete(id));

/** A random name of 32 hex digits (crypto.randomUUID needs https or this machine). */
export function newId() {
	return [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");
}

/** The name of this tab; a duplicated tab gets one of its own. */
export async function clientId() {
	let id = sessionStorage.getItem("iidm-client");
	if (!id || await inUse(id)) id = newId();
	sessionStorage.setItem("iidm-client", id);
	channel().onmessage = ({ data }) => {
		if (data.ask === id) channel().postMessage({ mine: id });
	};
	return id;
}

let shared;
const channel = () => (shared ??= new BroadcastChannel("iidm-paint"));

function inUse(id) {
	return new Promise((resolve) => {
		channel().onmessage = ({ data }) => data.mine === id && resolve(true);
		channel().postMessage({ ask: id });
		setTimeout(resolve, 40, false);
	});
}

const DRAFT = "iidm-draft-";
const DRAFTS = 6;

/** Keep this tab's draft; of all tabs' drafts the newest 6 stay. */
export function keepDraft(client, draft) {
	try {
		localStorage.setItem(DRAFT + client, JSON.stringify({ ...draft, time: Date.now() }));
		for (const other of drafts().slice(DRAFTS)) localStorage.removeItem(DRAFT + other.client);
	} catch { /* storage is full or forbidden: the page works without drafts */ }
}

/** All drafts, the newest first: {client, time, ...}. */
export function drafts() {
	const found = [];
	for (let i = 0; i < localStorage.length; i++) {
		const key = localStorage.key(i);
		if (!key.startsWith(DRAFT)) continue;
		try {
			found.push({ ...JSON.parse(localStorage.getItem(key)), client: key.slice(DRAFT.length) });
		} catch { /* not ours */ }
	}
	return found.sort((a, b) => b.time - a.time);
}
