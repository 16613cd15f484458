// The page's words in the language that is spoken; words-en.js and words-zh.js hold them.

let spoken = "en", words = {};

/** "en" or "zh". */
export const language = () => spoken;

/** Speak a language: "zh..." or any other, which is English. */
export async function speak(tag) {
	spoken = /^zh/i.test(tag) ? "zh" : "en";
	words = (await import(`./words-${spoken}.js`)).default;
	document.documentElement.lang = { en: "en", zh: "zh-CN" }[spoken];
}

/** The words for a key, with {name} replaced from `values`. */
export function t(key, values = {}) {
	return (words[key] ?? key).replace(/\{(\w+)\}/g, (all, name) => values[name] ?? all);
}

/** Fill every element that names its words: data-t text, data-l label and tooltip or placeholder, data-a label. */
export function translate(root = document) {
	for (const node of root.querySelectorAll("[data-t]")) node.textContent = t(node.dataset.t);
	for (const node of root.querySelectorAll("[data-l]")) {
		node.setAttribute("aria-label", t(node.dataset.l));
		node[node.type === "search" ? "placeholder" : "title"] = t(node.dataset.l);
	}
	for (const node of root.querySelectorAll("[data-a]")) node.setAttribute("aria-label", t(node.dataset.a));
	document.title = t("title");
}

/** A duration in words. */
export function duration(seconds) {
	if (seconds >= 90) return t("minutes", { n: Math.round(seconds / 60) });
	return t("seconds", { n: seconds < 10 ? (Math.round(seconds * 10) / 10).toFixed(1) : Math.round(seconds) });
}
