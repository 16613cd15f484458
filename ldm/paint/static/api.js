// The server's HTTP API. Every request carries X-IIDM, and the token where the address had one.

const HEADERS = { "X-IIDM": "1" };

/** Take the token out of the fragment (#token=...), keep it for this tab, and send it from now on. */
function takeToken() {
	const given = new URLSearchParams(location.hash.slice(1)).get("token");
	if (given) sessionStorage.setItem("iidm-token", given);
	const token = given || sessionStorage.getItem("iidm-token");
	if (token) HEADERS.Authorization = `Bearer ${token}`;
}

/** An error in three parts: what (the file or option), is (what is wrong), possible (what to do). */
export class ApiError extends Error {
	constructor(error, status) {
		super(`${error.what}: ${error.is}`);
		Object.assign(this, { what: "", is: "", possible: "", code: "" }, error, { status });
	}
}

/** fetch() that throws ApiError; status 0 means that the server did not answer. */
export async function request(path, options = {}) {
	let response;
	try {
		response = await fetch(path, { ...options, headers: { ...HEADERS, ...options.headers } });
	} catch (e) {
		if (e.name === "AbortError") throw e;
		throw new ApiError({ what: "server", is: "no answer", code: "offline" }, 0);
	}
	if (response.ok) return response;
	const body = await response.json().catch(() => ({}));
	const fallback = { what: path.split("?")[0], is: `${response.status} ${response.statusText}`, possible: "" };
	throw new ApiError(body.error || fallback, response.status);
}

const json = async (...args) => (await request(...args)).json();
const bytes = async (...args) => new Uint8Array(await (await request(...args)).arrayBuffer());
const blob = async (...args) => (await request(...args)).blob();

function upload(path, file, query = {}) {
	const search = new URLSearchParams(query).toString();
	const headers = { "Content-Type": file.type || "application/octet-stream" };
	if (file.name) headers["X-Name"] = encodeURIComponent(file.name);
	return json(search ? `${path}?${search}` : path, { method: "POST", body: file, headers });
}

let asked = null;

/** The server's state, asked for while other modules are still on their way. */
export function state() {
	const first = asked;
	asked = null;
	return first || json("/api/state");
}

export const maskIds = (id) => bytes(`/api/masks/${id}.bin`);
export const maskPng = (id, colored) => blob(`/api/masks/${id}.png${colored ? "?colored=1" : ""}`);
export const reference = (id, type = "jpg") => blob(`/api/references/${id}.${type}`);
export const picture = (id, type) => blob(`/api/results/${id}.${type}`);
export const bundle = (id) => blob(`/api/bundles/${id}.zip`);
export const job = (id) => json(`/api/jobs/${id}`);
export const check = (id) => json(`/api/results/${id}/check`);
export const cancel = (id) => request(`/api/jobs/${id}`, { method: "DELETE" });

/** Upload the drawn map -> {id, ...}. */
export function postMap(map) {
	const headers = { "Content-Type": "application/octet-stream", "X-Size": `${map.width},${map.height}` };
	return json("/api/masks", { method: "POST", body: map.data, headers });
}

/** Upload a mask file. query: fit ("crop" or "stretch") and colors ({"r,g,b": class}). */
export function postMaskFile(file, { fit, colors } = {}) {
	return upload("/api/masks", file, { ...(fit && { fit }), ...(colors && { colors: JSON.stringify(colors) }) });
}

/** The label map of a photograph -> {id, warnings, ...}. */
export const labelPhoto = (file) => upload("/api/label", file);

/** What a bundle or a picture of ours was made from, or null. */
export const postMade = (file) => upload("/api/made", file);

/** Upload a style picture; crop: [x, y, width, height] of its pixels. */
export const postReference = (file, crop) => upload("/api/references", file, crop && { crop: crop.join(",") });

export function postJob(body) {
	return json("/api/jobs", {
		method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" },
	});
}

/** The events of a job as {id, event, data}, from the one after `last` on, until the server closes the stream. */
export async function* events(id, last, signal) {
	const headers = { Accept: "text/event-stream", ...(last && { "Last-Event-ID": last }) };
	const response = await request(`/api/jobs/${id}/events`, { headers, signal });
	const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
	let rest = "";
	try {
		for (;;) {
			const { value, done } = await reader.read();
			if (done) return;
			const blocks = (rest + value.replace(/\r/g, "")).split("\n\n");
			rest = blocks.pop();
			for (const block of blocks) {
				const event = parseEvent(block);
				if (event) yield event;
			}
		}
	} finally {
		reader.cancel().catch(() => {});
	}
}

/** One block of an event stream, or null for a comment. */
export function parseEvent(block) {
	const fields = { event: "message", data: "", id: "" };
	for (const text of block.split("\n")) {
		const at = text.indexOf(":");
		if (at > 0) fields[text.slice(0, at)] = text.slice(at + 1).replace(/^ /, "");
	}
	return fields.data ? { ...fields, data: JSON.parse(fields.data) } : null;
}

takeToken();
asked = state();
asked.catch(() => {}); // told to who waits for it
