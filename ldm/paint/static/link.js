// The map and the settings as text: for links (the address's fragment) and for drafts.
import { LabelMap, decodeRuns, encodeRuns } from "./buffer.js";

/** Longer fragments are refused: mail programs and chats cut them. */
export const LONGEST = 8192;

async function through(bytes, stream) {
	return new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(stream)).arrayBuffer());
}

/** Raw deflate of bytes. */
export const deflate = (bytes) => through(bytes, new CompressionStream("deflate-raw"));
/** The inverse of deflate. Throws TypeError where the bytes are damaged. */
export const inflate = (bytes) => through(bytes, new DecompressionStream("deflate-raw"));

function toText(bytes) {
	let text = "";
	for (const byte of bytes) text += String.fromCharCode(byte);
	return btoa(text).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}

function fromText(text) {
	return Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
}

/** A map as text: "WxH.<deflated runs in base64>". */
export async function mapToText(map) {
	return `${map.width}x${map.height}.${toText(await deflate(encodeRuns(map.data)))}`;
}

/** The map of a text of mapToText. Throws where it is damaged or its size is unlikely. */
export async function textToMap(text) {
	const match = /^(\d{1,5})x(\d{1,5})\.([\w-]+)$/.exec(text);
	const [width, height] = match ? [+match[1], +match[2]] : [0, 0];
	if (!width || !height || width * height > 2 ** 24) throw new RangeError("the map's text is damaged");
	const runs = await inflate(fromText(match[3]));
	return new LabelMap(width, height, decodeRuns(runs, width * height));
}

/** The fragment of a link: m map, r style, p preset or rounds as JSON, s seed, n variations. */
export async function toFragment({ map, style, rounds, seed, variations }) {
	const fields = new URLSearchParams({ m: await mapToText(map) });
	if (style) fields.set("r", style);
	fields.set("p", typeof rounds === "string" ? rounds : JSON.stringify(rounds));
	fields.set("s", String(seed));
	if (variations > 1) fields.set("n", String(variations));
	return fields.toString();
}

/** What a fragment holds: {map, style, rounds, seed, variations}, or null where it is not a link of this page. */
export async function fromFragment(fragment) {
	const fields = new URLSearchParams(fragment.replace(/^#/, ""));
	if (!fields.has("m")) return null;
	const rounds = fields.get("p") || "fast";
	return {
		map: await textToMap(fields.get("m")),
		style: fields.get("r"),
		rounds: rounds.startsWith("{") ? JSON.parse(rounds) : rounds,
		seed: Number(fields.get("s")) || 0,
		variations: Number(fields.get("n")) || 1,
	};
}
