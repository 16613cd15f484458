// What the page knows, and who wants to hear of changes. No DOM here.
import { LabelMap, whole } from "./buffer.js";
import { Undo } from "./undo.js";
import { language } from "./words.js";

/** The order of the palette's groups and of the classes in them. */
const ORDER = [1, 0, 7, 2, 3, 8, 20, 16, 6, 10, 9, 4, 12, 22, 19, 23, 5, 13, 11, 27, 17, 25, 24, 21, 18, 26, 15, 14, 28];
export const GROUPS = ["far", "water", "ground", "plants", "built", "moving", "rest"];
const SKY = 1, GROUND = 12;

/**
 * The page's state. Events: "pixels" (a rectangle of the map changed), "map" (a change is committed), "tool",
 * "ink", "style", "settings", "result", "language", "state" (the server's), "uploaded" (the style).
 */
export class App {
	constructor(info, client) {
		this.client = client;
		this.hears = new Map();
		this.map = LabelMap.horizon(...info.model.size, SKY, GROUND, Math.round(info.model.size[1] * 0.45));
		this.undo = new Undo(this.map);
		this.origin = this.map.data.slice();        // what the eraser brings back
		this.version = 0;                           // grows with each committed change
		this.name = "image";                        // the second half of the seed: the mask file's stem
		this.tool = "brush";
		this.ink = GROUND;
		this.brush = Math.max(1, Math.round(info.model.size[0] * 0.06));
		this.style = { kind: "none" };
		this.settings = { preset: "fast", custom: null, seed: 7, locked: true, variations: 1 };
		this.result = null;                         // {results: [{id, seed, blob, bitmap}], index, settings}
		this.take(info);
	}

	/** Use the server's state. */
	take(info) {
		this.info = info;
		this.classes = [];
		for (const c of info.model.classes) this.classes[c.id] = c;
		this.order = [...this.classes.keys()].sort((a, b) => ORDER.indexOf(a) - ORDER.indexOf(b));
		this.emit("state");
	}

	on(names, handler) {
		for (const name of names.split(" ")) this.hears.set(name, [...(this.hears.get(name) || []), handler]);
	}

	emit(name, detail) {
		for (const handler of this.hears.get(name) || []) handler(detail);
	}

	/** A class's name in the page's language. */
	className(id) {
		return this.classes[id]?.[language()] ?? "";
	}

	/** Network pixels: how many of the map's pixels one of its own covers. */
	get factor() {
		return this.info.model.size[0] / this.info.model.latent[0];
	}

	set(name, value, event = name) {
		this[name] = value;
		this.emit(event);
	}

	/** The map changed in `rect`, but the stroke goes on. */
	touch(rect) {
		if (rect) this.emit("pixels", rect);
	}

	/** Make what changed in `rect` one step of undo. */
	commit(rect = whole(this.map)) {
		if (rect && this.undo.commit(rect)) this.#changed();
	}

	/** Undo or redo. */
	step(back) {
		if (back ? this.undo.undo() : this.undo.redo()) {
			this.emit("pixels", whole(this.map));
			this.#changed();
		}
	}

	/** Show another map (of any size) as one step of undo; the eraser returns to it. */
	load(map, name) {
		const { width, height } = this.map;
		this.map.data.set(map.width === width && map.height === height ? map.data : map.resized(width, height).data);
		this.origin = this.map.data.slice();
		this.name = name || "image";
		this.emit("pixels", whole(this.map));
		this.commit();
	}

	/** Forget the steps so far: the page begins with what it shows. */
	fresh() {
		this.undo = new Undo(this.map);
		this.emit("map");
	}

	/** What the active tool paints with: a class, or for the eraser the map that was loaded. */
	get paint() {
		return this.tool === "eraser" ? this.origin : this.ink;
	}

	change(settings) {
		Object.assign(this.settings, settings);
		this.emit("settings");
	}

	preset(id = this.settings.preset) {
		return this.info.presets.find((p) => p.id === id) || this.info.presets[0];
	}

	#changed() {
		this.version++;
		this.emit("map");
	}
}
