// What kind of file a user gives, and what our own files hold: zip bundles, and the note in a result picture.
import { inflate } from "./link.js";

const MOST = 64 * 2 ** 20;          // bytes that one entry of a bundle may unpack to
const text = new TextDecoder();

/** "png", "jpeg", "webp", "zip" or "" by the first bytes. */
export function kindOf(bytes) {
	const head = String.fromCharCode(...bytes.subarray(0, 12));
	if (head.startsWith("\x89PNG\r\n\x1a\n")) return "png";
	if (head.startsWith("\xff\xd8\xff")) return "jpeg";
	if (head.startsWith("RIFF") && head.endsWith("WEBP")) return "webp";
	return head.startsWith("PK\x03\x04") ? "zip" : "";
}

/** The files of a zip: a Map from name to bytes. Throws RangeError where it is damaged. */
export async function unzip(bytes) {
	const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
	const files = new Map();
	for (const entry of directory(view, bytes)) {
		const start = entry.offset + 30 + view.getUint16(entry.offset + 26, true) + view.getUint16(entry.offset + 28, true);
		const data = bytes.subarray(start, start + entry.packed);
		if (entry.size > MOST) throw new RangeError(`${entry.name} is too large`);
		files.set(entry.name, entry.method ? await inflate(data) : data);
	}
	return files;
}

function* directory(view, bytes) {
	let end = bytes.length - 22;
	while (end >= 0 && view.getUint32(end, true) !== 0x06054b50) end--;
	if (end < 0) throw new RangeError("the zip file is cut off");
	let at = view.getUint32(end + 16, true);
	for (let n = view.getUint16(end + 10, true); n > 0; n--) {
		if (view.getUint32(at, true) !== 0x02014b50) throw new RangeError("the zip file is damaged");
		const nameLength = view.getUint16(at + 28, true);
		yield {
			method: view.getUint16(at + 10, true), packed: view.getUint32(at + 20, true),
			size: view.getUint32(at + 24, true), offset: view.getUint32(at + 42, true),
			name: text.decode(bytes.subarray(at + 46, at + 46 + nameLength)),
		};
		at += 46 + nameLength + view.getUint16(at + 30, true) + view.getUint16(at + 32, true);
	}
}

/** What a PNG says about itself: {colorType, note}; note is the object under "iidm", or null. */
export function readPng(bytes) {
	const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
	const found = { colorType: bytes[25], note: null };
	for (let at = 8; at + 12 <= bytes.length;) {
		const length = view.getUint32(at), type = text.decode(bytes.subarray(at + 4, at + 8));
		if (type === "iTXt" || type === "tEXt") {
			found.note ??= noteOf(text.decode(bytes.subarray(at + 8, at + 8 + length)));
		}
		if (type === "IDAT" && found.note) break;
		at += 12 + length;
	}
	return found;
}

function noteOf(chunk) {
	return chunk.startsWith("iidm\0") ? parsed(chunk.slice(chunk.indexOf("{"))) : null;
}

/** The object that a JPEG's EXIF user comment holds, or null. */
export function readJpegNote(bytes) {
	const head = text.decode(bytes.subarray(0, 2 ** 16));
	return parsed(/ASCII\0{3}(\{[ -~]*\})/.exec(head)?.[1]);
}

function parsed(json) {
	try {
		return JSON.parse(json);
	} catch {
		return null;
	}
}
