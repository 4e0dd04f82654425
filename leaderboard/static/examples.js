"use strict";
// The examples of a split and the models' answers: filters and page are in the address.

(async () => {
  const page = harnessPage;
  const { el, score, count } = page;
  const form = document.getElementById("choice"), answer = document.getElementById("answer");
  const PER_PAGE = 50, MOST_MODELS = 50; // models whose answers may be shown side by side
  const FIELDS = ["split", "a", "b", "show", "label", "least", "most", "search", "sort", "all", "words"].filter((name) => form[name]);
  let suite, asked = 0, at = 0, only = null; // only: the id of the example that the address links to
  const OF_PAIRS = {
    "any": "all pairs", "a-wrong": "A's pair breaks", "a-right": "A's pair holds", "disagree": "it holds for one of A and B",
    "only-a": "it holds for A alone", "only-b": "it holds for B alone", "both-wrong": "it breaks for A and B", "surest-wrong": null, "all-wrong": null,
  };
  let usual = null; // texts of these options for examples with labels

  const splitOf = (id) => suite.splits.find((split) => split.id === id) ?? suite.splits[0];
  const wrong = (side, i) => side.share[i] < 0.5, isRight = (side, i) => side.share[i] > 0.5;

  const SHOWN = {
    "any": () => true,
    "a-right": (i, { a }) => isRight(a, i),
    "a-wrong": (i, { a }) => wrong(a, i),
    "disagree": (i, { a, b }) => (isRight(a, i) && wrong(b, i)) || (wrong(a, i) && isRight(b, i)),
    "only-a": (i, { a, b }) => isRight(a, i) && wrong(b, i),
    "only-b": (i, { a, b }) => wrong(a, i) && isRight(b, i),
    "both-wrong": (i, { a, b }) => wrong(a, i) && wrong(b, i),
    "all-wrong": (i, { everybody }) => everybody.has(i),
    "explained": (i, { words, rows }) => (rows.pairs ? rows.pairs.members.get(rows.pairs.of[i]) : [i]).some((one) => words.examples.has(one)),
  };
  const SIGNS = [["wrong", "right", "half right"], ["breaks", "holds", "holds in half"]];
  const sign = (rows, side, i) => SIGNS[rows.pairs ? 1 : 0][wrong(side, i) ? 0 : isRight(side, i) ? 1 : 2];
  const missed = (side, rows, i) => (rows.labels[i] ? 1 - side.score[i] : side.score[i]);
  const SORTED = {
    "split": null,
    "surest-wrong": (i, { a, rows }) => -missed(a, rows, i),
    "farthest": (i, { a, b }) => -Math.abs(a.score[i] - b.score[i]),
    "longest": (i, { rows }) => -rows.words[i],
    "all-wrong": (i, { everybody }) => -(everybody.get(i) ?? 0),
  };

  function fill(wanted) {
    const split = splitOf(wanted.split);
    page.options(form.split, suite.splits.map((one) => [one.id, one.id]));
    const models = split.models.map(([id]) => [id, id]);
    page.options(form.a, models);
    page.options(form.b, models);
    for (const name of FIELDS) {
      const field = form[name], value = wanted[name] ?? "";
      if (field.type === "checkbox") field.checked = value === "on";
      else if (field.type === "select-one") field.value = Array.from(field.options).some((one) => one.value === value) ? value : field.options[0].value;
      else field.value = value;
    }
    form.split.value = split.id;
    const first = split.pairs[0] ?? [models[0][0], models.at(-1)[0]];
    if (!models.some(([id]) => id === wanted.a)) form.a.value = first[0];
    if (!models.some(([id]) => id === wanted.b)) form.b.value = first[1];
    form.search.disabled = suite.texts === null;
    form.label.disabled = !split.labelled;
    only = wanted.id ?? null;
    const options = [...form.show.options, ...form.sort.options];
    usual ??= options.map((one) => one.textContent);
    options.forEach((one, k) => {
      const spoken = split.labelled ? usual[k] : OF_PAIRS[one.value];
      one.textContent = spoken ?? usual[k];
      one.disabled = spoken === null;
      if (one.disabled && one.selected) one.parentElement.selectedIndex = 0;
    });
    form.all.disabled = models.length > MOST_MODELS;
    at = Math.max(0, Number.parseInt(wanted.page ?? "1", 10) - 1 || 0);
  }

  const chosen = () => Object.fromEntries(FIELDS.map((name) => [name, form[name].type === "checkbox" ? (form[name].checked ? "on" : "") : form[name].value]));

  const tell = harnessDrawer(form);
  const INACTIVE = { show: "any", label: "any", least: "", most: "", search: "", all: "" };
  const active = (wanted) => Object.entries(INACTIVE).filter(([name, value]) => wanted[name] !== value).length;

  async function show() {
    const turn = ++asked, wanted = chosen();
    tell(active(wanted));
    answer.setAttribute("aria-busy", "true");
    try {
      const split = splitOf(wanted.split);
      const others = wanted.all ? split.models.map(([id]) => id).filter((id) => id !== wanted.a && id !== wanted.b) : [];
      const explainer = wanted.words === "b" ? wanted.b : wanted.a;
      const [rows, words, a, b, ...rest] = await Promise.all([
        page.examples(split), page.explained(split, explainer), ...[wanted.a, wanted.b, ...others].map((id) => page.predictions(split, id, suite)),
      ]);
      const found = only !== null ? Array.from(rows.all.filter((i) => rows.ids[i] === only)) : await filtered(split, wanted, { rows, a, b, words, everybody: new Map(rows.consensus) });
      const pages = Math.max(1, Math.ceil(found.length / PER_PAGE));
      if (turn !== asked) return; // the choice has changed meanwhile
      at = Math.min(at, pages - 1);
      const visible = found.slice(at * PER_PAGE, (at + 1) * PER_PAGE);
      const shown = rows.pairs ? visible.map((i) => rows.pairs.members.get(rows.pairs.of[i])) : visible.map((i) => [i]);
      const texts = await Promise.all(shown.map((many) => Promise.all(many.map((i) => page.text(split, i, suite)))));
      if (turn !== asked) return;
      page.remember({ ...wanted, ...(only === null ? {} : { id: only }), ...(at ? { page: String(at + 1) } : {}) });
      const sides = [[wanted.a, a], ...(wanted.b === wanted.a ? [] : [[wanted.b, b]]), ...others.map((id, k) => [id, rest[k]])];
      answer.replaceChildren(
        el("p", { class: "summary", id: "found", role: "status" }, `${count(found.length)} of ${rows.pairs ? `${count(rows.pairs.firsts.length)} pairs` : `${count(split.n)} examples`}${only === null ? "" : ", the linked one"}${pages > 1 ? `, page ${at + 1} of ${pages}` : ""}`),
        ...(wanted.words && wanted.words !== "none" ? legend(words, explainer) : []),
        ...(only === null ? [] : [el("p", {}, el("button", { type: "button", onclick: () => { only = null; show(); } }, "Show all"))]),
        listing(split, rows, visible, texts, sides, wanted.words === "none" ? null : words), ...(pages > 1 ? [pager(pages)] : []));
    } catch (error) {
      page.fail(answer, error);
    } finally {
      if (turn === asked) answer.removeAttribute("aria-busy");
    }
  }

  async function filtered(split, wanted, all) {
    const { rows } = all, shown = SHOWN[wanted.show], by = SORTED[wanted.sort];
    const least = Number(wanted.least || 0), most = wanted.most === "" ? Infinity : Number(wanted.most);
    let found = Array.from(rows.pairs ? rows.pairs.firsts : rows.all).filter((i) =>
      shown(i, all) && rows.words[i] >= least && rows.words[i] <= most && (rows.pairs || wanted.label === "any" || wanted.label === page.word(rows.labels[i])));
    const words = wanted.search.trim().toLocaleLowerCase();
    if (words && suite.texts !== null) {
      const of = (i) => (rows.pairs ? rows.pairs.members.get(rows.pairs.of[i]) : [i]);
      const texts = await Promise.all(found.map((i) => Promise.all(of(i).map((one) => page.text(split, one, suite)))));
      found = found.filter((i, k) => texts[k].flat().join("\n").toLocaleLowerCase().includes(words));
    }
    if (by) {
      const places = new Map(found.map((i) => [i, by(i, all)]));
      found.sort((i, k) => places.get(i) - places.get(k));
    }
    return found;
  }

  // How words are marked, and how it was computed.
  function legend(words, model) {
    if (!words.examples.size) return [el("p", { class: "summary legend" }, `No example of ${model} was scored without its words here; harness evaluate --explain does it.`)];
    const [least, , most] = page.LEVELS, run = words.seed === null ? model : `${model} (seed ${words.seed})`;
    return [el("p", { class: "summary legend" },
      page.mark("Towards positive", most), " and ", page.mark("towards negative", -most),
      `: words that moved the score of ${run} that way. Each word, or each run of words of a text of more than 32, was left out once and the rest scored again; the mark is stronger the more the log-odds change, from ${page.LEVELS.join(", ")}. ${count(words.examples.size)} examples were explained: flips against the base, the most confident errors, and a few at random.`)];
  }

  const SPOKEN = 5, LONGEST_WORDS = 40; // pieces that are named beside a text, and characters of each

  // The words that moved a score most, as text.
  function moved(text, [whole, pieces]) {
    const fields = text.map((one) => Array.from(one));
    const strongest = pieces.filter(([, , , , change]) => page.level(change) > 0).sort((one, other) => Math.abs(other[4]) - Math.abs(one[4])).slice(0, SPOKEN);
    if (!strongest.length) return el("p", { class: "moved" }, `No single word moved its score of ${score(whole)}.`);
    const named = strongest.flatMap(([field, from, to, without], k) => {
      const letters = fields[field].slice(from, to), cut = letters.length > LONGEST_WORDS;
      return [k ? ", " : "", el("bdi", {}, `“${letters.slice(0, LONGEST_WORDS).join("")}${cut ? "…" : ""}”`), ` ${score(without)}`];
    });
    return el("p", { class: "moved" }, `Score ${score(whole)}; without `, ...named, ".");
  }

  function listing(split, rows, visible, texts, sides, words) {
    const models = { a: form.a.value, b: form.b.value };
    const cell = ([id, side], i) => {
      const scores = rows.pairs ? rows.pairs.members.get(rows.pairs.of[i]).map((one) => score(side.score[one])).join(" \u2192 ") : page.scored("", side.score[i]);
      return el("td", { class: wrong(side, i) ? "said wrong" : "said", "data-label": id }, scores, el("span", { class: "ci" }, ` ${sign(rows, side, i)}`));
    };
    const differ = (i) => sides.some(([, side]) => wrong(side, i)) && sides.some(([, side]) => isRight(side, i));
    const first = (i, k) => (rows.pairs ? [page.pairOf(rows, rows.pairs.members.get(rows.pairs.of[i]), texts[k], sides.slice(0, 2), words?.examples)] : described(texts[k][0], words?.examples.get(i)));
    const heads = rows.pairs ? ["Pair", "Words"] : ["Example", "Label", "Words"];
    const caption = rows.pairs
      ? "Each model's mean scores of a pair's texts, over its seeds, and whether the pair holds for most of them; an edge marks pairs that hold for some models only"
      : "Each model's mean probability of the positive class over its seeds, and whether most of them are right; an edge marks examples on which models disagree";
    return el("div", { class: "scroll", role: "region", "aria-label": rows.pairs ? "Pairs" : "Examples", tabindex: "0" },
      el("table", { class: "grid browser" },
        el("caption", {}, caption),
        el("thead", {}, el("tr", {}, ...heads.map((head, k) => el("th", { scope: "col", class: k ? null : "name" }, head)), ...sides.map(([id]) => el("th", { scope: "col", class: "model" }, id)))),
        el("tbody", {}, ...visible.map((i, k) => el("tr", { class: differ(i) ? "differ" : null },
          el("th", { scope: "row", class: "name example" }, ...first(i, k), el("p", { class: "fine" }, page.idOf(rows.ids[i], split.id, models, texts[k][0] === null), differ(i) ? el("span", { class: "badge" }, "models disagree") : "")),
          ...(rows.pairs ? [] : [el("td", { "data-label": "Label" }, page.word(rows.labels[i]))]), el("td", { "data-label": "Words" }, count(rows.words[i])), ...sides.map((side) => cell(side, i)))))));
  }

  const described = (text, explained) => (text === null || !explained ? [page.review(text)] : [page.review(text, explained[1]), moved(text, explained)]);

  function pager(pages) {
    const step = (to, text) => el("button", { type: "button", disabled: to < 0 || to >= pages, onclick: () => { at = to; show().then(() => answer.scrollIntoView()); } }, text);
    return el("nav", { class: "pager", "aria-label": "Pages of examples" }, step(0, "First"), step(at - 1, "Previous"), step(at + 1, "Next"), step(pages - 1, "Last"));
  }

  try {
    suite = await page.load("suite");
    document.getElementById("app").hidden = false;
    fill(page.state());
    form.addEventListener("submit", (event) => event.preventDefault());
    let waiting;
    form.addEventListener("input", (event) => {
      at = 0;
      only = null;
      if (event.target === form.split) fill({ ...chosen(), split: form.split.value });
      clearTimeout(waiting);
      waiting = setTimeout(show, event.target.type === "search" || event.target.type === "number" ? 200 : 0);
    });
    window.addEventListener("hashchange", () => { fill(page.state()); show(); });
    await show();
  } catch (error) {
    document.getElementById("app").hidden = false;
    page.fail(answer, error);
  }
})();
