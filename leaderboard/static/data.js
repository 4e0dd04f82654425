"use strict";
// Shared by the compare page and the example browser: data files, numbers as text, elements, the address.

const harnessPage = (() => {
  const waiting = new Map(), loaded = new Map();
  const base = document.currentScript.dataset.files; // where the suite's data files lie, relative to the page

  window.harnessData = (name, value) => waiting.get(name)?.(value);

  // A data file by name. It is a script of one call: a page opened from disk may load scripts, but not fetch.
  function load(name) {
    if (!loaded.has(name)) {
      loaded.set(name, new Promise((resolve, reject) => {
        waiting.set(name, resolve);
        const script = document.createElement("script");
        script.src = base + name.split("/").map(encodeURIComponent).join("/") + ".js";
        script.onerror = () => {
          loaded.delete(name);
          reject(new Error(`${name}.js cannot be read; render the site again with harness site`));
        };
        script.onload = () => script.remove();
        document.head.append(script);
      }));
    }
    return loaded.get(name);
  }

  const bytes = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));

  function bits(text, n) {
    const packed = bytes(text);
    return Uint8Array.from({ length: n }, (_, i) => (packed[i >> 3] >> (i & 7)) & 1);
  }

  function numbers(text, size) { // little-endian, `size` bytes each
    const view = new DataView(bytes(text).buffer);
    const read = size === 2 ? (i) => view.getUint16(2 * i, true) : (i) => view.getUint32(4 * i, true);
    return Uint32Array.from({ length: view.byteLength / size }, (_, i) => read(i));
  }

  // A split's examples, as arrays over them.
  async function examples(split) {
    const raw = await load(`${split.id}/examples`);
    raw.ready ??= {
      ids: raw.ids,
      labels: split.labelled ? bits(raw.labels, split.n) : new Int8Array(split.n).fill(-1),
      pairs: raw.pairs === null ? null : grouped(raw.pairs),
      changes: raw.changes,
      clusters: raw.clusters === null ? null : numbers(raw.clusters, 4),
      words: numbers(raw.words, 2),
      slices: raw.slices.map(([name, mask]) => [name, bits(mask, split.n)]),
      consensus: raw.consensus,
      all: Uint32Array.from({ length: split.n }, (_, i) => i),
    };
    return raw.ready;
  }

  // Positions by the number of their pair.
  function grouped(numbers) {
    const found = new Map();
    numbers.forEach((number, i) => found.set(number, [...(found.get(number) ?? []), i]));
    return { of: numbers, members: found, firsts: Array.from(found.values(), (positions) => positions[0]) };
  }

  // A model's predictions on a split: for each seed labels, scores and correctness; over seeds mean score and accuracy.
  // Where nothing is labelled, an answer is right if its pair holds.
  async function predictions(split, model, suite) {
    const [raw, rows] = await Promise.all([load(`${split.id}/predictions/${model}`), examples(split)]);
    raw.ready ??= (() => {
      const seeds = raw.runs.map(([runId, seed, answers], k) => {
        const packed = numbers(answers, 2);
        const predicted = Uint8Array.from(packed, (one) => one >> 15);
        return {
          runId, seed, predicted,
          scores: Float64Array.from(packed, (one) => (one & 0x7fff) / suite.steps),
          right: raw.holds === null ? predicted.map((one, i) => Number(one === rows.labels[i])) : bits(raw.holds[k], split.n),
        };
      });
      const over = (name) => Float64Array.from(rows.labels, (_, i) => seeds.reduce((sum, one) => sum + one[name][i], 0) / seeds.length);
      return { seeds, metrics: new Map(raw.metrics.map(([name, ...values]) => [name, values])), score: over("scores"), share: over("right") };
    })();
    return raw.ready;
  }

  // Title and content of an example, or null where the suite stores no texts.
  async function text(split, position, suite) {
    if (suite.texts === null) return null;
    const page = Math.floor(position / suite.texts);
    return (await load(`${split.id}/texts-${page}`))[position - page * suite.texts];
  }

  // A model's scores without each word, by position of the example; none where it was not asked for.
  async function explained(split, model) {
    if (!split.words.includes(model)) return { seed: null, examples: new Map() };
    const raw = await load(`${split.id}/words/${model}`);
    return { seed: raw.seed, examples: new Map(raw.examples.map(([position, ...rest]) => [position, rest])) };
  }

  // Numbers as leaderboard/pages/formats.py writes them, halves to the even digit.
  const MINUS = "\u2212", ABSENT = "\u2013";

  function score(value) {
    if (value === null || value === undefined || Number.isNaN(value)) return ABSENT;
    let text = Math.abs(value).toFixed(3);
    if (Number.isInteger(value * 16) && !Number.isInteger(value * 8)) {
      const below = Math.floor(Math.abs(value) * 1000);
      text = ((below + (below % 2)) / 1000).toFixed(3);
    }
    return value < 0 && Number(text) !== 0 ? MINUS + text : text;
  }

  function signed(value) {
    const text = score(value);
    return value > 0 && Number(text) !== 0 ? "+" + text : text;
  }

  const interval = (low, high, format = score) => (low === null || low === undefined ? "" : `[${format(low)}, ${format(high)}]`);
  const pValue = (value) => (value === null || value === undefined ? ABSENT : value < 0.001 ? "< 0.001" : score(value));
  const count = (value) => value.toLocaleString("en-US");

  // An element. Strings become text, whatever they hold; nothing here ever parses markup.
  function el(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children);
    return element;
  }

  // A table from cells: strings or elements. The first cell of a row is its head.
  function table(caption, heads, rows, label) {
    const cell = (one, first) => (first ? el("th", { scope: "row", class: "name" }, one) : el("td", {}, one));
    return el("div", { class: "scroll", role: "region", "aria-label": label ?? caption, tabindex: "0" },
      el("table", { class: "grid compact" },
        el("caption", {}, caption),
        el("thead", {}, el("tr", {}, ...heads.map((head, i) => el("th", { scope: "col", class: i ? null : "name" }, head)))),
        el("tbody", {}, ...rows.map((row) => el("tr", {}, ...row.map((one, i) => cell(one, i === 0)))))));
  }

  const LONGEST = 600; // characters shown at first

  const LEVELS = [0.1, 0.5, 1.5]; // changes of log-odds from which a word is marked, and marked more strongly

  const level = (change) => LEVELS.filter((least) => Math.abs(change) >= least).length;

  function mark(text, change, title) {
    return el("mark", { class: `toward-${change > 0 ? "positive" : "negative"} level-${level(change)}`, title }, text);
  }

  // The first characters of a field, with the pieces marked that moved the score.
  function marked(letters, field, pieces, end) {
    const parts = [];
    let at = 0;
    for (const [of, from, to, without, change] of pieces) {
      if (of !== field || from >= end || level(change) === 0) continue;
      parts.push(letters.slice(at, from).join(""), mark(letters.slice(from, Math.min(to, end)).join(""), change, `without it ${score(without)}`));
      at = Math.min(to, end);
    }
    return [...parts, letters.slice(at, end).join("")];
  }

  // A review's text, isolated in its own direction; a long one is shortened until it is expanded.
  function review(words, pieces = []) {
    if (words === null) return el("p", { class: "nothing" }, "The suite does not store this text.");
    const [title, content] = words;
    const letters = Array.from(content), cut = letters.length > LONGEST;
    const body = el("p", { class: "content", dir: "auto" }, ...marked(letters, 1, pieces, cut ? LONGEST : letters.length), cut ? "…" : "");
    const heading = Array.from(title);
    const parts = title ? [el("p", { class: "title", dir: "auto" }, ...marked(heading, 0, pieces, heading.length)), body] : [body];
    if (cut) {
      const more = el("button", { type: "button", onclick: () => { body.replaceChildren(...marked(letters, 1, pieces, letters.length)); more.remove(); } }, `Show all ${count(letters.length)} characters`);
      parts.push(more);
    }
    return el("div", { class: "review" }, ...parts);
  }

  function options(select, pairs) {
    select.replaceChildren(...pairs.map(([value, text]) => el("option", { value }, text)));
  }

  const state = () => Object.fromEntries(new URLSearchParams(location.hash.slice(1)));

  function remember(values) {
    const kept = Object.entries(values).filter(([, value]) => value !== "" && value !== null);
    history.replaceState(null, "", "#" + new URLSearchParams(kept));
  }

  function fail(place, error) {
    place.replaceChildren(el("p", { class: "missing", role: "alert" }, error.message));
  }

  const word = (label) => (label < 0 ? ABSENT : label ? "positive" : "negative");

  const RULES = { "0": "", "1": "must score higher than the original", "-1": "must score lower than the original" };

  // The texts of a pair below each other, each with its part and the sides' answers to it.
  function pairOf(rows, positions, texts, sides, explained = new Map()) {
    const directed = positions.some((i) => rows.changes[i] !== 0);
    return el("ol", { class: "pair" }, ...positions.map((i, k) => el("li", {},
      el("span", { class: "badge" }, directed ? RULES[rows.changes[i]] || "original" : k ? "must get the same answer" : "original"),
      texts[k] === null ? el("code", {}, rows.ids[i]) : review(texts[k], explained.get(i)?.[1]),
      el("p", { class: "fine" }, ...sides.flatMap(([id, side], n) => [n ? " · " : "", `${id} ${score(side.score[i])} ${word(Number(side.score[i] > 0.5))}`])))));
  }

  const LINKED = "Link to this example";

  // The id of an example as a link to it; beside a text only its icon is seen.
  function idOf(id, split, choice, seen) {
    const fragment = new URLSearchParams(Object.entries({ split, ...choice, id }).filter(([, value]) => value));
    return el("a", { class: "linked", href: `#${fragment}`, title: seen ? LINKED : `${LINKED}: ${id}` }, el("span", { class: "sr" }, `${LINKED} `), el("code", { class: seen ? null : "sr" }, id));
  }

  // A score as a bar from 0 to 1, with the line of the other class at a half.
  const scored = (name, value) => el("span", { class: "scored" }, name, el("span", { class: "meter", style: `--p:${(100 * value).toFixed(1)}`, "aria-hidden": "true" }), " ", score(value));

  return { load, examples, predictions, explained, mark, level, LEVELS, text, score, scored, signed, interval, pValue, count, el, table, review, options, state, remember, fail, word, pairOf, idOf, ABSENT };
})();
