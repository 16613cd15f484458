// The rounds of a job as data, as in configs/infer/*.yaml: {sampler, eta, pixels, jpeg_between_rounds, rounds}.
// No DOM here.

/** Defaults of the file and of a round; what equals them is left out of the YAML. */
const TOP = { sampler: "ddim", eta: 0, pixels: "exact", jpeg_between_rounds: 0 };
const ROUND = {
	respacing: "", start: 0, strength: 0, steps: 0, spacing: "time", guidance: 1,
	guidance_interval: [0, 1], color_transfer: "", from: "reference",
};

/** A copy with every key present. */
export function complete(tree) {
	return { ...TOP, ...tree, rounds: tree.rounds.map((r) => ({ ...ROUND, ...r })) };
}

/** Equal settings, whatever defaults are written out. */
export function same(a, b) {
	return JSON.stringify(canonical(a)) === JSON.stringify(canonical(b));
}

function canonical(tree) {
	const full = complete(tree), sorted = (o) => Object.fromEntries(Object.entries(o).sort());
	return sorted({ ...full, rounds: full.rounds.map(sorted) });
}

/** A round that says `respacing` and `start`, said by `strength` and `steps`. */
export function windowed(round) {
	const count = Number(/\d+/.exec(round.respacing)?.[0]);
	if (!count) return { ...ROUND, ...round };
	return { ...ROUND, ...round, respacing: "", start: 0, strength: round.start / count, steps: round.start };
}

/** The same settings with `count` rounds: the last one is repeated or dropped. */
export function withCount(tree, count) {
	const rounds = complete(tree).rounds.slice(0, count);
	while (rounds.length < count) {
		rounds.push({ ...windowed(rounds[rounds.length - 1]), from: "reference", color_transfer: transferOf(tree) || "exact" });
	}
	return { ...complete(tree), rounds };
}

/** The colour transfer of the later rounds. */
export const transferOf = (tree) => tree.rounds[1]?.color_transfer || "";

/** Without a style picture: the first round starts at pure noise, and no colours are transferred. */
export function withoutStyle(tree) {
	const rounds = complete(tree).rounds.map((round, i) => {
		const plain = { ...round, color_transfer: "" };
		if (i || round.from === "noise") return plain;
		return { ...windowed(plain), strength: 1, from: "noise" };
	});
	return { ...complete(tree), rounds };
}

/** Whether the first round ignores the style picture. */
export const fromNoise = (tree) => tree.rounds[0].from === "noise";

/** Network steps of all rounds. */
export function steps(tree) {
	return tree.rounds.reduce((sum, r) => sum + (r.respacing ? r.start : r.steps), 0);
}

/** Seconds that a job of `tree` takes, from a preset that was measured here; null where none was. */
export function expected(tree, presets, variations = 1) {
	const known = presets.find((p) => same(p.rounds, tree)) || presets.find((p) => p.id === "fast");
	if (known?.seconds == null) return null;
	return known.seconds * steps(tree) / steps(known.rounds) * variations;
}

/** The YAML file that tools/infer.py --rounds reads. */
export function toYaml(tree) {
	const shown = (o, defaults) => Object.entries(o).filter(([k, v]) => k in defaults && String(v) !== String(defaults[k]));
	const word = (v) => (Array.isArray(v) || typeof v === "string" && !/^[A-Za-z_][\w.-]*$/.test(v) ? JSON.stringify(v) : String(v));
	const lines = [`sampler: ${word(tree.sampler || TOP.sampler)}`];
	for (const [key, value] of shown(tree, TOP)) if (key !== "sampler") lines.push(`${key}: ${word(value)}`);
	lines.push("rounds:");
	for (const round of tree.rounds) {
		lines.push(`  - {${shown(round, ROUND).map(([k, v]) => `${k}: ${word(v)}`).join(", ")}}`);
	}
	return `${lines.join("\n")}\n`;
}
