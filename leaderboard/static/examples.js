"use strict";
// The examples of a split and the models' answers: filters and page are in the address.

(async () => {
  const page = harnessPage;
  const { el, score, count } = page;
  const form = document.getElementById("choice"), answer = document.getElementById("answer");
  const PER_PAGE = 50, MOST_MODELS = 50; // models whose answers may be shown side by side
  const FIELDS = ["split", "a", "b", "show", "label", "least", "most", "search", "sort", "all"];
  let suite, asked = 0, at = 0;

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
  };
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
    form.all.disabled = models.length > MOST_MODELS;
    at = Math.max(0, Number.parseInt(wanted.page ?? "1", 10) - 1 || 0);
  }

  const chosen = () => Object.fromEntries(FIELDS.map((name) => [name, form[name].type === "checkbox" ? (form[name].checked ? "on" : "") : form[name].value]));

  async function show() {
    const turn = ++asked, wanted = chosen();
    answer.setAttribute("aria-busy", "true");
    try {
      const split = splitOf(wanted.split);
      const others = wanted.all ? split.models.map(([id]) => id).filter((id) => id !== wanted.a && id !== wanted.b) : [];
      const [rows, a, b, ...rest] = await Promise.all([
        page.examples(split), ...[wanted.a, wanted.b, ...others].map((id) => page.predictions(split, id, suite)),
      ]);
      const found = await filtered(split, wanted, { rows, a, b, everybody: new Map(rows.consensus) });
      const pages = Math.max(1, Math.ceil(found.length / PER_PAGE));
      if (turn !== asked) return; // the choice has changed meanwhile
      at = Math.min(at, pages - 1);
      const visible = found.slice(at * PER_PAGE, (at + 1) * PER_PAGE);
      const texts = await Promise.all(visible.map((i) => page.text(split, i, suite)));
      if (turn !== asked) return;
      page.remember({ ...wanted, ...(at ? { page: String(at + 1) } : {}) });
      const sides = [[wanted.a, a], ...(wanted.b === wanted.a ? [] : [[wanted.b, b]]), ...others.map((id, k) => [id, rest[k]])];
      answer.replaceChildren(
        el("p", { class: "summary", id: "found", role: "status" }, `${count(found.length)} of ${count(split.n)} examples${pages > 1 ? `, page ${at + 1} of ${pages}` : ""}`),
        listing(rows, visible, texts, sides), ...(pages > 1 ? [pager(pages)] : []));
    } catch (error) {
      page.fail(answer, error);
    } finally {
      if (turn === asked) answer.removeAttribute("aria-busy");
    }
  }

  async function filtered(split, wanted, all) {
    const { rows } = all, shown = SHOWN[wanted.show], by = SORTED[wanted.sort];
    const least = Number(wanted.least || 0), most = wanted.most === "" ? Infinity : Number(wanted.most);
    let found = Array.from(rows.all.filter((i) =>
      shown(i, all) && rows.words[i] >= least && rows.words[i] <= most && (wanted.label === "any" || wanted.label === page.word(rows.labels[i]))));
    const words = wanted.search.trim().toLocaleLowerCase();
    if (words && suite.texts !== null) {
      const texts = await Promise.all(found.map((i) => page.text(split, i, suite)));
      found = found.filter((i, k) => texts[k].join("\n").toLocaleLowerCase().includes(words));
    }
    if (by) {
      const places = new Map(found.map((i) => [i, by(i, all)]));
      found.sort((i, k) => places.get(i) - places.get(k));
    }
    return found;
  }

  function listing(rows, visible, texts, sides) {
    const cell = ([, side], i) => {
      const sign = wrong(side, i) ? "wrong" : isRight(side, i) ? "right" : "half right";
      return el("td", { class: sign === "wrong" ? "said wrong" : "said" }, score(side.score[i]), el("span", { class: "ci" }, ` ${sign}`));
    };
    return el("div", { class: "scroll", role: "region", "aria-label": "Examples", tabindex: "0" },
      el("table", { class: "grid browser" },
        el("caption", {}, "Each model's mean probability of the positive class over its seeds, and whether most of them are right"),
        el("thead", {}, el("tr", {}, ...["Example", "Label", "Words"].map((head, k) => el("th", { scope: "col", class: k ? null : "name" }, head)), ...sides.map(([id]) => el("th", { scope: "col", class: "model" }, id)))),
        el("tbody", {}, ...visible.map((i, k) => el("tr", {},
          el("th", { scope: "row", class: "name example" }, page.review(texts[k]), el("code", {}, rows.ids[i])),
          el("td", {}, page.word(rows.labels[i])), el("td", {}, count(rows.words[i])), ...sides.map((side) => cell(side, i)))))));
  }

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
