// Sorting, filtering and choosing columns of the tables that the page already has. Without this script they are whole.
// The choice is kept in the address after "#?", which also works from disk.
"use strict";

const tables = [...document.querySelectorAll("table.board")];
const form = document.getElementById("board-tools");
const UNITS = { B: 1, kB: 1e3, MB: 1e6, GB: 1e9, TB: 1e12 };
const EMPTY = { q: "", method: "", base: "", split: "", sort: "", order: "", columns: "" };
let state = { ...EMPTY };
let tell = () => {}; // the drawer's button how many filters are active

const heads = (table) => [...table.tHead.rows[0].cells];
const rowsOf = new Map(tables.map((table) => [table, [...table.tBodies[0].rows]]));
const keys = new Map(tables.flatMap(heads).map((head) => [head.dataset.key, head.textContent.trim()]));
const usual = new Set(tables.flatMap(heads).filter((head) => !("hidden" in head.dataset)).map((head) => head.dataset.key));
const sortedBy = new Map(tables.map((table) => [table, " "]));
const fixed = new Set(["tier", "model"]);

// A cell's number, with its unit; its text where it has none; null for a dash.
function value(cell) {
  const link = cell.querySelector("a");
  if (link) return link.textContent.toLowerCase();
  const words = (cell.querySelector("data") ?? cell).textContent.trim().replaceAll("−", "-").replaceAll(",", "").split(/\s+/);
  const number = parseFloat(words[0]);
  return words[0] === "–" || Number.isNaN(number) ? null : number * (UNITS[words[1]] ?? 1);
}

function compare(one, other, sign) {
  if (one === null || other === null) return (one === null) - (other === null); // absent values sort last in both directions
  return sign * (typeof one === "string" ? one.localeCompare(other) : one - other);
}

function sort(table) {
  const wanted = `${state.sort} ${state.order}`;
  if (sortedBy.get(table) === wanted) return;
  sortedBy.set(table, wanted);
  const place = heads(table).findIndex((head) => head.dataset.key === state.sort);
  const rows = rowsOf.get(table);
  const sign = state.order === "descending" ? -1 : 1;
  const sorted = place < 0 ? rows : rows
    .map((row, before) => ({ row, before, at: value(row.cells[place]) }))
    .sort((a, b) => compare(a.at, b.at, sign) || a.before - b.before)
    .map(({ row }) => row);
  table.classList.toggle("sorted", place >= 0);
  table.tBodies[0].append(...sorted);
  for (const head of heads(table)) {
    if (head.dataset.key === state.sort) head.setAttribute("aria-sort", state.order);
    else head.removeAttribute("aria-sort");
  }
}

function filter(table) {
  const words = state.q.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of rowsOf.get(table)) {
    const text = row.querySelector("th").textContent.toLowerCase();
    row.hidden = (state.method && row.dataset.method !== state.method) || (state.base && row.dataset.base !== state.base)
      || !words.every((word) => text.includes(word));
    shown += !row.hidden;
  }
  const elsewhere = state.split && state.split !== table.dataset.split;
  table.closest("section").hidden = Boolean(elsewhere);
  return elsewhere ? [0, 0] : [shown, rowsOf.get(table).length];
}

function chosenColumns() {
  return state.columns ? new Set(state.columns.split(" ")) : usual;
}

// One rule per hidden column instead of a class on every cell: a thousand rows stay quick.
function hideColumns() {
  const chosen = chosenColumns();
  const rules = tables.map((table, t) => heads(table).map((head, i) =>
    chosen.has(head.dataset.key) || fixed.has(head.dataset.key) ? "" :
      `table.board[data-place="${t}"] tr > :nth-child(${i + 1}) { display: none; }`).join("")).join("");
  if (sheet.textContent !== rules) sheet.textContent = rules; // the same rules again would lay everything out again
}

function show() {
  tables.forEach(sort);
  const counts = tables.map(filter);
  hideColumns();
  const [shown, all] = [0, 1].map((i) => counts.reduce((sum, count) => sum + count[i], 0));
  form.elements.namedItem("q").value = state.q;
  for (const name of ["method", "base", "split"]) form.elements.namedItem(name).value = state[name];
  for (const box of form.querySelectorAll("input[type=checkbox]")) box.checked = chosenColumns().has(box.value);
  tell(["q", "method", "base", "split", "columns"].filter((name) => state[name]).length);
  form.querySelector("output").textContent = shown === all ? "" : `${shown} of ${all} rows`;
}

function change(changes) {
  state = { ...state, ...changes };
  const set = Object.entries(state).filter(([, text]) => text);
  history.replaceState(null, "", set.length ? `#?${new URLSearchParams(set)}` : location.href.split("#")[0]);
  show();
}

function readAddress() {
  if (!location.hash.startsWith("#?")) return;
  const given = Object.fromEntries(new URLSearchParams(location.hash.slice(2)));
  state = Object.fromEntries(Object.keys(EMPTY).map((name) => [name, given[name] ?? ""]));
  if (!keys.has(state.sort)) state.sort = state.order = "";
  else if (state.order !== "descending") state.order = "ascending";
}

// Cycle through orders: first large scores or small costs, then the reverse, then the order of the page.
function turn(key) {
  const first = first_order.get(key);
  const second = first === "ascending" ? "descending" : "ascending";
  if (state.sort !== key) return change({ sort: key, order: first });
  return change(state.order === first ? { order: second } : { sort: "", order: "" });
}

const sheet = document.head.appendChild(document.createElement("style"));
const small = ["tier", "model", "log_loss", "brier", "ece", "drop", "seeds", "n_trainable", "size_bytes", "train_seconds", "peak_bytes"];
const first_order = new Map([...keys.keys()].map((key) => [key, small.includes(key) ? "ascending" : "descending"]));

if (form && tables.length) {
  for (const table of tables) {
    for (const head of heads(table)) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      button.addEventListener("click", () => turn(head.dataset.key));
      head.append(button);
    }
  }
  for (const [key, name] of keys) {
    if (fixed.has(key)) continue;
    const label = document.createElement("label");
    const box = Object.assign(document.createElement("input"), { type: "checkbox", name: "column", value: key });
    label.append(box, ` ${name}`);
    form.querySelector("fieldset").append(label);
  }
  form.addEventListener("input", () => {
    const boxes = [...form.querySelectorAll("input[type=checkbox]:checked")].map((box) => box.value);
    const same = boxes.length === usual.size - fixed.size && boxes.every((key) => usual.has(key));
    const named = (name) => form.elements.namedItem(name).value;
    change({ q: named("q"), method: named("method"), base: named("base"), split: named("split"), columns: same ? "" : boxes.join(" ") || "none" });
  });
  form.addEventListener("reset", (event) => { event.preventDefault(); change(EMPTY); });
  form.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", () => { readAddress(); show(); });
  form.hidden = false;
  tell = harnessDrawer(form);
  readAddress();
  show();
}
