"use strict";
// Any two models of a suite on one split: the choice is in the address, `#split=…&a=…&b=…`.

(async () => {
  const page = harnessPage, stats = harnessStats;
  const { el, table, score, signed, interval, pValue, count } = page;
  const form = document.getElementById("choice"), answer = document.getElementById("answer"), missing = document.getElementById("missing");
  const FLIPS = 10; // shown at first, in each direction
  let suite, asked = 0;

  const splitOf = (id) => suite.splits.find((split) => split.id === id) ?? suite.splits[0];

  // Fill the form from the address, or with the usual choice: an adapter against its base.
  function fill(wanted) {
    const split = splitOf(wanted.split);
    page.options(form.split, suite.splits.map((one) => [one.id, one.id]));
    form.split.value = split.id;
    const models = split.models.map(([id, what, ...badges]) => [id, [`${id}: ${what}`, ...badges].join(" · ")]);
    page.options(form.a, models);
    page.options(form.b, models);
    const known = (id) => models.some(([one]) => one === id);
    const first = split.pairs[0] ?? [models[0][0], models.at(-1)[0]];
    form.a.value = known(wanted.a) ? wanted.a : first[0];
    form.b.value = known(wanted.b) ? wanted.b : first[1];
    const gone = [wanted.split !== split.id && wanted.split, ...[wanted.a, wanted.b].filter((id) => !known(id))].filter(Boolean);
    missing.textContent = gone.length ? `The link names ${gone.join(" and ")}, which this site does not have (any more) or which has no runs on ${split.id}. Shown instead: ${form.a.value} against ${form.b.value} on ${split.id}.` : "";
    missing.hidden = !gone.length;
  }

  async function show() {
    const turn = ++asked;
    const chosen = { split: form.split.value, a: form.a.value, b: form.b.value };
    page.remember(chosen);
    answer.setAttribute("aria-busy", "true");
    try {
      const split = splitOf(chosen.split);
      const [rows, a, b] = await Promise.all([
        page.examples(split), page.predictions(split, chosen.a, suite), page.predictions(split, chosen.b, suite),
      ]);
      if (turn !== asked) return; // the choice has changed meanwhile
      const sides = { split, rows, a: { id: chosen.a, ...a }, b: { id: chosen.b, ...b } };
      const there = chosen.a === chosen.b ? [] : await elsewhere(split, chosen);
      if (turn !== asked) return;
      answer.replaceChildren(...(chosen.a === chosen.b ? [same()] : parts(sides, there)));
    } catch (error) {
      page.fail(answer, error);
    } finally {
      answer.removeAttribute("aria-busy");
    }
  }

  const same = () => el("p", { class: "summary" }, "Both sides are the same model. Choose another one.");
  function parts(sides, there) {
    if (!sides.split.labelled) return [pairs(sides)];
    const overall = overallOf(sides), bySlice = slicesOf(sides);
    return [difference(sides, overall), drawn(sides, overall, bySlice, there), shared(sides), alone(sides), tests(sides), slices(bySlice), flips(sides)];
  }

  // The overall difference of the same two models on every other split that both have runs on.
  async function elsewhere(here, { a, b }) {
    const has = (split) => [a, b].every((id) => split.models.some(([one]) => one === id));
    return Promise.all(suite.splits.filter((split) => split !== here && split.labelled && has(split)).map(async (split) => {
      const [rows, one, other] = await Promise.all([page.examples(split), page.predictions(split, a, suite), page.predictions(split, b, suite)]);
      return { name: split.id, n: split.n, found: overallOf({ split, rows, a: { id: a, ...one }, b: { id: b, ...other } }).at(-1)[1] };
    }));
  }

  // A split without labels: how many of its pairs hold, and those that hold for one side only.
  function pairs({ split, rows, a, b }) {
    const { firsts, members, of } = rows.pairs;
    const share = (side) => firsts.reduce((sum, i) => sum + side.share[i], 0) / firsts.length;
    const held = table(`Pairs of ${split.id} that hold, mean over seeds; of ${count(firsts.length)}`, ["Model", "Share"], [a, b].map((side) => [side.id, score(share(side))]));
    const list = (title, show, one, other) => {
      const found = firsts.filter((i) => one.share[i] > 0.5 && other.share[i] < 0.5), items = el("ul", { class: "examples" });
      const add = async () => items.append(...await Promise.all(found.slice(0, FLIPS).map(async (i) => {
        const positions = members.get(of[i]), texts = await Promise.all(positions.map((k) => page.text(split, k, suite)));
        return el("li", {}, page.pairOf(rows, positions, texts, [["A", a], ["B", b]]));
      })));
      add().catch((error) => page.fail(items, error));
      const browser = `../examples/index.html#${new URLSearchParams({ split: split.id, a: a.id, b: b.id, show })}`;
      return el("div", { id: show }, el("h3", {}, title), el("p", { class: "summary" }, `${count(found.length)} pairs. `, el("a", { href: browser }, "Browse them")), items);
    };
    return section("Pairs", el("p", { class: "summary" }, "These rows have no labels, so no answer is right or wrong. A pair holds if its texts get the same answer or, where the suite states a direction, if the score moves that way."),
      held, el("div", { class: "columns" }, list("Holds for A alone", "only-a", a, b), list("Holds for B alone", "only-b", b, a)));
  }
  const right = (side) => side.seeds.map((seed) => seed.right);
  const seedName = (seed) => (seed === null ? page.ABSENT : String(seed));

  function section(title, ...children) {
    return el("section", {}, el("h2", {}, title), ...children);
  }

  // The precomputed comparison, oriented as a minus b; null where this pair was not precomputed.
  function beforehand({ split, a, b }) {
    const found = split.pairs.find(([one, other]) => (one === a.id && other === b.id) || (one === b.id && other === a.id));
    if (!found) return null;
    const [one, , value, low, high, p, adjusted, [ofA, ofB, tests]] = found;
    return one === a.id ? { value, interval: [low, high], p, adjusted, shared: [ofA, ofB], tests }
      : { value: -value, interval: [-high, -low], p, adjusted, shared: [ofB, ofA], tests };
  }

  // Metric, difference and how it was computed: the primary metric where this pair was precomputed, accuracy otherwise.
  function overallOf(sides) {
    const { rows, a, b } = sides;
    const known = beforehand(sides), name = suite.metrics.find(([id]) => id === suite.primary)[1];
    const found = [];
    if (known) found.push([name, known, "As computed by harness compare."]);
    if (!known || suite.primary !== "accuracy") {
      const computed = stats.difference(right(a), right(b), rows.clusters, rows.all, suite.resamples);
      const units = rows.clusters === null ? "examples" : "clusters";
      const how = !computed ? "A single cluster gives no interval."
        : computed.exact ? "Computed in this page: Tango's interval and McNemar's exact test, as in harness compare."
        : `Computed in this page by a bootstrap of ${count(suite.resamples)} resamples over ${units} and seeds. It draws its own resamples: harness compare may differ in the last digits.`;
      found.push(["Accuracy", computed, how]);
    }
    return found;
  }

  // A minus B in accuracy: overall, by slice and on every other split, each with its interval beside the line of no difference.
  function drawn({ split, a, b }, overall, bySlice, there) {
    const tested = (one) => one !== null && one !== undefined;
    const lines = [[split.id, split.n, overall.at(-1)[1]], ...bySlice.map((one) => [one.name, one.n, one.tested]),
      ...there.map((one) => [one.name, one.n, one.found])].filter(([, , found]) => tested(found));
    const ends = lines.flatMap(([, , found]) => [...found.interval, found.value, 0]);
    const low = Math.min(...ends), high = Math.max(...ends), room = 0.04 * (high - low) || 0.05;
    const at = (value) => (100 * (value - low + room) / (high - low + 2 * room)).toFixed(1);
    const bar = ({ value, interval: [from, to] }) => el("div", { class: from > 0 ? "zeroed plain pass" : to < 0 ? "zeroed plain fail" : "zeroed plain", style: `--l:${at(from)};--h:${at(to)};--p:${at(value)};--z:${at(0)}`, "aria-hidden": "true" },
      el("span", { class: "bar zero" }));
    const shown = table(`Accuracy, ${a.id} minus ${b.id}: ${split.id} as a whole, its slices, and the other splits; right of the line ${a.id} is higher`, ["Part", "n", "Drawn", "A \u2212 B", "95 % interval"],
      lines.map(([name, n, found]) => [name, count(n), bar(found), signed(found.value), interval(...found.interval, signed)]));
    shown.id = "drawn";
    return section("Where they differ", shown);
  }

  function difference(sides, found) {
    const { split, a, b } = sides;
    const rowsOf = found.map(([metric, one]) => one
      ? [metric, el("strong", {}, signed(one.value)), interval(...one.interval, signed), pValue(one.p), "adjusted" in one ? pValue(one.adjusted) : page.ABSENT]
      : [metric, page.ABSENT, "", page.ABSENT, page.ABSENT]);
    const shown = table(`${a.id} minus ${b.id} on ${split.id}, paired by example`, ["Metric", "Difference", "95 % interval", "p", "p, Holm"], rowsOf);
    shown.id = "difference";
    const of = split.clusters === null ? `${count(split.n)} examples` : `${count(split.n)} examples in ${count(split.clusters)} clusters`;
    return section("Difference", el("p", { class: "summary" }, `${of}. ${[...new Set(found.map(([, , how]) => how))].join(" ")}`), shown);
  }

  // Slices and words that are more frequent among flips than chance explains, found when the site was rendered.
  function shared(sides) {
    const title = "Why did it change?", known = beforehand(sides);
    const say = (text) => Object.assign(section(title, el("p", { class: "summary" }, text)), { id: "shared" });
    if (!known) return say("Not computed for this pair; harness compare names what the examples share that only one side gets right.");
    if (!known.tests) return say("No example is right on one side only, so there is nothing to explain.");
    const over = `exact tests of ${count(known.tests)} ${suite.texts === null ? "slices" : "slices, words and pairs of words"}, corrected (Benjamini\u2013Hochberg)`;
    if (!known.shared.flat().length) return say(`Nothing is more frequent among the examples that only one side gets right than chance explains; ${over}.`);
    const of = (n, all) => `${count(n)} of ${count(all)}`;
    const lines = known.shared.flatMap((found, i) => found.map(([name, changed, nChanged, others, nOthers, p]) => [
      ["only A", "only B"][i], name, of(changed, nChanged), of(others, nOthers), pValue(p)]));
    const made = say(`More frequent among the examples that only one side gets right than among the others that it gets right; ${over}.`);
    made.append(table("Shared by the examples that only one side gets right", ["Right", "More frequent", "Among these", "Among the others", "p, BH"], lines));
    return made;
  }

  function alone({ a, b }) {
    const cell = (values) => (values
      ? el("div", { class: "stacked" }, el("span", { class: "value" }, score(values[0])), " ", el("span", { class: "ci" }, interval(values[1], values[2])))
      : page.ABSENT);
    const rows = suite.metrics.map(([id, name]) => [name, cell(a.metrics.get(id)), cell(b.metrics.get(id))]);
    return section("Each model alone", el("p", { class: "summary" }, "Means over seeds with 95 % intervals. Judge whether the two differ by the difference above, not by the overlap of these intervals."),
      table("Every metric", ["Metric", a.id, b.id], rows));
  }

  function tests({ split, rows, a, b }) {
    const paired = a.seeds.length === b.seeds.length && a.seeds.every((one) => b.seeds.some((other) => other.seed === one.seed));
    const pairs = a.seeds.flatMap((one) => b.seeds.filter((other) => !paired || other.seed === one.seed).map((other) => [one, other]));
    const counts = pairs.map(([one, other]) => stats.disagreements(one.right, other.right, rows.all));
    const pValues = counts.map((pair) => stats.mcnemar(...pair)), adjusted = stats.holm(pValues);
    const lines = pairs.map(([one, other], i) => [
      `${seedName(one.seed)} / ${seedName(other.seed)}`, count(counts[i][0]), count(counts[i][1]), pValue(pValues[i]), pValue(adjusted[i]),
    ]);
    const note = split.clusters === null ? "" : " It assumes independent examples; these come in clusters, so its p-values are too small.";
    const shown = table("McNemar's exact test, run by run", ["Seeds, A / B", "Only A right", "Only B right", "p", "p, Holm"], lines);
    shown.id = "mcnemar";
    return section("Run by run", el("p", { class: "summary" }, `Computed in this page from the two runs' predictions.${note}`), shown);
  }

  function slicesOf({ rows, a, b }) {
    const found = rows.slices.map(([name, mask]) => {
      const chosen = rows.all.filter((i) => mask[i]);
      const none = chosen.length < suite.fewest;
      const share = (side) => side.seeds.reduce((sum, seed) => sum + chosen.reduce((all, i) => all + seed.right[i], 0), 0) / chosen.length / side.seeds.length;
      const tested = none ? null : stats.difference(right(a), right(b), rows.clusters, chosen, suite.resamples);
      return { name, n: chosen.length, a: tested ? share(a) : null, b: tested ? share(b) : null, tested };
    });
    const tested = found.filter((one) => one.tested);
    stats.benjaminiHochberg(tested.map((one) => one.tested.p)).forEach((p, i) => { tested[i].adjusted = p; });
    return found;
  }

  function slices(found) {
    const lines = found.map((one) => [
      one.name, count(one.n), score(one.a), score(one.b),
      one.tested ? signed(one.tested.value) : page.ABSENT, one.tested ? interval(...one.tested.interval, signed) : "",
      pValue(one.adjusted), one.adjusted < suite.alpha ? "yes" : one.tested ? "no" : page.ABSENT,
    ]);
    const shown = table("Accuracy by slice", ["Slice", "n", "A", "B", "A \u2212 B", "95 % interval", "p, BH", "Differ"], lines);
    shown.id = "slices";
    return section("Slices", el("p", { class: "summary" }, "Computed in this page. p is adjusted over these slices by Benjamini and Hochberg; families overlap each other."), shown);
  }

  // Examples that most of one side's seeds get right and most of the other's wrong, the farthest mean scores first.
  function flips({ split, rows, a, b }) {
    const distance = (i) => Math.abs(a.score[i] - b.score[i]);
    const listed = (one, other) => Array.from(rows.all.filter((i) => one.share[i] > 0.5 && other.share[i] < 0.5)).sort((i, k) => distance(k) - distance(i));
    const undecided = rows.all.filter((i) => a.share[i] === 0.5 || b.share[i] === 0.5).length;
    const half = undecided ? ` ${count(undecided)} examples are on neither list: just half of a side's seeds get them right.` : "";
    const browser = (show) => `../examples/index.html#${new URLSearchParams({ split: split.id, a: a.id, b: b.id, show })}`;
    const list = (title, id, found, show) => {
      const items = el("ul", { class: "examples" }), more = el("button", { type: "button" });
      const add = async (upTo) => {
        const start = items.children.length, next = found.slice(start, upTo);
        const texts = await Promise.all(next.map((i) => page.text(split, i, suite)));
        items.append(...next.map((i, k) => flip(rows, i, texts[k], a, b)));
        more.textContent = `Show more of ${count(found.length)}`;
        more.hidden = items.children.length >= found.length;
      };
      more.onclick = () => add(items.children.length + 5 * FLIPS).catch((error) => page.fail(items, error));
      add(FLIPS).catch((error) => page.fail(items, error));
      return el("div", { id }, el("h3", {}, title), el("p", { class: "summary" }, `${count(found.length)} examples. `, el("a", { href: browser(show) }, "Browse them")), items, more);
    };
    return section("Flips", el("p", { class: "summary" }, `Examples that most of one side's seeds get right and most of the other side's wrong, the farthest mean scores first.${half}`),
      el("div", { class: "columns" }, list("Only A right", "only-a", listed(a, b), "only-a"), list("Only B right", "only-b", listed(b, a), "only-b")));
  }

  function flip(rows, i, words, a, b) {
    return el("li", {}, page.review(words),
      el("p", { class: "fine" }, el("span", { class: "badge" }, page.word(rows.labels[i])), " ", page.scored("A ", a.score[i]), " ", page.scored("B ", b.score[i]), " ", el("code", {}, rows.ids[i])));
  }

  try {
    suite = await page.load("suite");
    document.getElementById("app").hidden = false;
    fill(page.state());
    form.addEventListener("submit", (event) => event.preventDefault());
    form.split.addEventListener("change", () => { fill({ split: form.split.value, a: form.a.value, b: form.b.value }); show(); });
    for (const select of [form.a, form.b]) select.addEventListener("change", show);
    document.getElementById("swap").addEventListener("click", () => { [form.a.value, form.b.value] = [form.b.value, form.a.value]; show(); });
    window.addEventListener("hashchange", () => { fill(page.state()); show(); });
    await show();
  } catch (error) {
    document.getElementById("app").hidden = false;
    page.fail(answer, error);
  }
})();
