// The icons: outlines in a square of 20.

const PATHS = {
	brush: "M17 3 9 11M8 11c-2 0-3 1.4-3 3 0 1.2-.8 2-2 2 1 .8 2.2 1 3.5 1C8.8 17 10 15.4 10 13.5 10 12 9.2 11 8 11z",
	fill: "m8 3 7 7-6 6-7-7 6-6zM5 3l3 3M2.5 9.5h12M17 12c1 1.5 1.5 2.3 1.5 3a1.5 1.5 0 0 1-3 0c0-.7.5-1.5 1.5-3z",
	line: "M4.5 15.5l11-11M2 16.5a1.5 1.5 0 1 0 3 0a1.5 1.5 0 1 0-3 0M15 3.5a1.5 1.5 0 1 0 3 0a1.5 1.5 0 1 0-3 0",
	rect: "M3 4.5h14v11h-14z",
	lasso: "M10 3c4.5 0 7.5 2 7.5 5s-3 5-7.5 5-7.5-2-7.5-5S5.5 3 10 3zM6 12.5c-1.5.5-2 2-1 3s1 1.5.5 2.5",
	eraser: "m11.5 3.5 5 5-8 8H5l-2.5-2.5zM7 8l5 5M9 16.5h8",
	pick: "m11 5 4 4M12.5 7.5l-7 7L3 17l2.5-2.5M10 10 5 15M13 4l1.5-1a1.8 1.8 0 0 1 2.5 2.5L16 7z",
	hand: "M10 2v16M2 10h16M10 2 8 4.5M10 2l2 2.5M10 18l-2-2.5M10 18l2-2.5M2 10l2.5-2M2 10l2.5 2M18 10l-2.5-2M18 10l-2.5 2",
	undo: "M7 4 3 8l4 4M3 8h9a4.5 4.5 0 0 1 0 9H8",
	redo: "m13 4 4 4-4 4M17 8H8a4.5 4.5 0 0 0 0 9h4",
	plus: "M10 4v12M4 10h12",
	minus: "M4 10h12",
	grid: "M3 3h14v14H3zM3 7.7h14M3 12.3h14M7.7 3v14M12.3 3v14",
	dice: "M3 3h14v14h-14zM7 7h.5M13 7h.5M10 10h.5M7 13h.5M13 13h.5",
	lock: "M4.5 9h11v8h-11zM7 9V6.5a3 3 0 0 1 6 0V9",
	new: "M5 2.5h7l3.5 3.5v11.5H5zM12 2.5V6h3.5M10 9v6M7 12h6",
	open: "M2.5 16V4.5h5l2 2h8V16zM10 14V9.5M8 11.2l2-2 2 2",
	save: "M10 3v10M6 9.5l4 4 4-4M3 14v3h14v-3",
	link: "m8.5 11.5 3-3M9 6.5 11.5 4a3.2 3.2 0 0 1 4.5 4.5L13.5 11M11 13.5 8.5 16A3.2 3.2 0 0 1 4 11.5L6.5 9",
	tune: "M3 5.5h7M14 5.5h3M3 14.5h3M10 14.5h7M10 5.5a2 2 0 1 0 4 0a2 2 0 1 0-4 0M6 14.5a2 2 0 1 0 4 0a2 2 0 1 0-4 0",
	more: "M4 10h.6M9.7 10h.6M15.4 10h.6",
	close: "m5 5 10 10M15 5 5 15",
	palette: "M10 2.5a7.5 7.5 0 1 0 0 15c1.2 0 1.7-.8 1.4-1.8-.4-1.3.3-2.2 1.6-2.2h2c1.5 0 2.5-1.2 2.5-3C17.5 6 14.2 2.5 10 2.5zM6 10h.5M7.5 6.5h.5M12 6h.5",
	photo: "M2.5 4h15v12h-15zM3 14l4.5-4.5 3.5 3.5 2.5-2 4 3.5M11.8 7.5a1.2 1.2 0 1 0 2.4 0a1.2 1.2 0 1 0-2.4 0",
	clock: "M2.5 10a7.5 7.5 0 1 0 15 0a7.5 7.5 0 1 0-15 0M10 5.5V10l3 2",
};

/** An icon as an SVG element. */
export function icon(name) {
	const space = "http://www.w3.org/2000/svg";
	const svg = document.createElementNS(space, "svg"), path = document.createElementNS(space, "path");
	svg.setAttribute("viewBox", "0 0 20 20");
	svg.setAttribute("aria-hidden", "true");
	path.setAttribute("d", PATHS[name]);
	svg.append(path);
	return svg;
}

/** Put an icon at the start of every element that names one: data-i. */
export function drawIcons() {
	for (const node of document.querySelectorAll("[data-i]")) node.prepend(icon(node.dataset.i));
}
