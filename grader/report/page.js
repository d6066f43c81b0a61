// The page of a class, over the data that stand in it. Every text becomes a text node, never markup; what is
// computed here is only counted: verdicts, scores and totals are the results' own.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const { say } = data;
const STEP = 100; // rows that are listed at a time
const FEW = 12; // students that are named at a time
const GROUPS = 5; // groups that are listed at a time
const LEVELS = ["required", "bonus", "advice"];
const STATUSES = ["error", "failed", "blocked", "skipped", "passed"]; // the order they are sorted in
const SHOWN = ["passed", "failed", "blocked", "error"]; // what is told of each check
const VERDICTS = ["ungraded", "failed", "passed"];

// --- words and numbers

const numbers = new Intl.NumberFormat(data.language, { maximumFractionDigits: 2 });
const shares = new Intl.NumberFormat(data.language, { style: "percent" });
const collator = new Intl.Collator(data.language, { numeric: true });

/** A sentence with its {values} filled in. */
function fill(text, values) {
  return text.replace(/\{(\w+)\}/g, (_, name) => {
    const value = values[name];
    return typeof value === "number" ? numbers.format(value) : value;
  });
}

/** A share in percent: neither all nor nothing where it is not quite that. */
function percent(part, whole) {
  const share = Math.round((100 * part) / whole) / 100;
  return shares.format(part && part < whole ? Math.min(Math.max(share, 0.01), 0.99) : share);
}

/** A text to search in: without regard to case and accents. */
function plain(text) {
  return text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();
}

// --- the data, unpacked

const columns = data.columns.map(([id, title, level]) => ({ id, title, level }));
const kinds = data.kinds.map(([column, title, level, status, standing, word, points, hint]) => ({
  column, title, level, status, standing, word, points, hint,
}));
const byKey = new Map();
const rows = data.rows.map(([id, name, verdict, score, max, told, facts, outcomes], place) => {
  const row = { id, name, verdict, score, max, told, facts, outcomes, place, kinds: [], shared: [] };
  row.text = plain(`${id}\n${name}`);
  for (let i = 0; i < outcomes.length; i += 2) row.kinds[kinds[outcomes[i]].column] ??= kinds[outcomes[i]];
  row.key = id;
  for (let again = 2; byKey.has(row.key); again++) row.key = `${id} ${again}`;
  byKey.set(row.key, row);
  return row;
});
const groups = data.shared.map(([who, digest, size, layers]) => {
  const group = { who: who.map((place) => rows[place]), digest, size, layers };
  for (const row of group.who) row.shared.push(group);
  return group;
});
const named = rows.some((row) => row.name);
const alone = rows.length === 1;
const full = Math.max(0, ...new Set(rows.map((row) => row.max)));

function* outcomesOf(row) {
  for (let i = 0; i < row.outcomes.length; i += 2) {
    const kind = kinds[row.outcomes[i]];
    const [title, hint, message] = [kind.title, kind.hint, row.outcomes[i + 1]].map((number) => data.texts[number]);
    yield { ...kind, title, hint, message };
  }
}

/** A score where all are out of the same points: what is plotted and sorted. */
function scaled(row) {
  return row.score === null || !row.max ? null : (row.score * full) / row.max;
}

/** Why there is no grade: each cause once. */
function causes(row) {
  const told = [...outcomesOf(row)].filter((each) => each.status === "error" && each.level === "required");
  return [...new Map(told.map((each) => [each.message, each])).values()];
}

// --- elements

function dress(node, traits, children) {
  for (const [name, value] of Object.entries(traits)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (typeof value === "boolean") node.toggleAttribute(name, value);
    else if (value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.flat(Infinity).filter(Boolean));
  return node;
}

const make = (name, traits = {}, ...children) => dress(document.createElement(name), traits, children);
const draw = (name, traits = {}, ...children) =>
  dress(document.createElementNS("http://www.w3.org/2000/svg", name), traits, children);
const button = (traits, ...children) => make("button", { type: "button", ...traits }, ...children);
const unseen = (text) => make("span", { class: "unseen" }, text);

function mark(standing) {
  const use = draw("use", { href: `#mark-${standing}` });
  return draw("svg", { class: `mark ${standing}`, "aria-hidden": "true" }, use);
}

function link(row, text = row.id) {
  return make("a", { href: `#s/${encodeURIComponent(row.key)}` }, text);
}

function section(id, title, ...children) {
  const heading = make("h2", { id, tabindex: "-1" }, title);
  return make("section", { "aria-labelledby": id }, heading, ...children);
}

/** `list` with the first of `items`, and a button that appends as many again. */
function inSteps(list, items, step, render) {
  const label = () => fill(say.more, { count: Math.min(step, items.length - list.children.length) });
  const more = button({ class: "more", click: () => append()?.querySelector("a, button")?.focus() });
  function append() {
    const fresh = items.slice(list.children.length, list.children.length + step).map(render);
    list.append(...fresh);
    more.hidden = list.children.length >= items.length;
    more.textContent = label();
    return fresh[0];
  }
  append();
  return [list, more];
}

function people(who) {
  const item = (row) => make("li", {}, link(row, row.name ? `${row.id} (${row.name})` : row.id));
  return inSteps(make("ul", { class: "people" }), who, FEW, item);
}

/** A message: its first line is prose, what follows is quoted as it stands. */
function message(text, ...before) {
  const [first, ...rest] = text.split("\n");
  const quoted = rest.join("\n").replace(/^\n+|\s+$/g, "");
  return [make("p", {}, ...before, first), quoted && make("pre", {}, quoted)];
}

// --- the class

function overview() {
  const count = (verdict) => rows.filter((row) => row.verdict === verdict).length;
  const figure = (number, label) => [make("strong", {}, number), " ", make("span", {}, label)];
  const tile = (verdict, number, label) => {
    const traits = { class: `tile ${verdict}`, click: () => filterBy({ verdict }) };
    return make("li", {}, button(traits, figure(numbers.format(number), label)));
  };
  const middle = median();
  return make("header", {},
    make("h1", { tabindex: "-1" }, data.title),
    data.dates && make("p", { class: "soft" }, data.dates),
    make("ul", { class: "tiles" },
      tile("", rows.length, say.students),
      VERDICTS.toReversed().map((verdict) => tile(verdict, count(verdict), say.verdicts[verdict])),
      middle !== null &&
        make("li", { class: "tile" }, figure(`${numbers.format(middle)}/${numbers.format(full)}`, say.median))));
}

function median() {
  const scores = rows.map(scaled).filter((score) => score !== null).sort((a, b) => a - b);
  const middle = scores.length / 2;
  return scores.length ? (scores[Math.ceil(middle) - 1] + scores[Math.floor(middle)]) / 2 : null;
}

/** Who has no grade, and why: those with the same cause together. */
function ungraded() {
  const found = new Map();
  for (const row of rows.filter((each) => each.verdict === "ungraded")) {
    const why = causes(row);
    const key = why.map((cause) => cause.message).join("\n");
    if (!found.has(key)) found.set(key, { why, who: [] });
    found.get(key).who.push(row);
  }
  if (!found.size) return null;
  const item = ({ why, who }) => make("li", {}, why.map(cause), people(who));
  const commonest = [...found.values()].sort((a, b) => b.who.length - a.who.length);
  return make("div", { class: "notice" },
    section("ungraded", say.verdicts.ungraded, make("p", {}, say.noGrade),
      inSteps(make("ul", { class: "groups" }), commonest, GROUPS, item)));
}

function cause(told) {
  return [...message(told.message || told.title), told.hint && message(told.hint, make("b", {}, say.mend), " ")];
}

/** Scores by bins: of one point where there are some twenty to be had. */
function bins() {
  const sizes = [0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 50, 100];
  const size = sizes.find((each) => full / each <= 25) ?? full / 20;
  const count = Math.floor(full / size + 1e-9) + 1;
  const found = Array.from({ length: count }, (_, i) => ({ from: i * size, passed: 0, failed: 0 }));
  let exact = true;
  for (const row of rows) {
    const score = scaled(row);
    if (score === null) continue;
    const bin = found[Math.min(Math.floor(score / size + 1e-9), found.length - 1)];
    bin[row.verdict]++;
    exact &&= Math.abs(score - bin.from) < 1e-9;
  }
  return { size, exact, found };
}

function scores() {
  const { size, exact, found } = bins();
  const graded = rows.filter((row) => scaled(row) !== null);
  if (!graded.length) return section("scores", say.scores, make("p", { class: "soft" }, say.noScore));
  for (const bin of found) {
    bin.count = bin.passed + bin.failed;
    const range = bin === found.at(-1) ? say.atLeast : say.between;
    bin.name = exact ? numbers.format(bin.from) : fill(range, { low: bin.from, high: bin.from + size });
  }
  const without = rows.length - graded.length;
  const figure = make("div", { class: "plot" });
  new ResizeObserver(() => figure.replaceChildren(plot(figure.clientWidth, found, exact))).observe(figure);
  const verdicts = ["passed", "failed"];
  const head = [say.score, ...verdicts.map((verdict) => say.verdicts[verdict])];
  return section("scores", say.scores,
    make("p", { class: "legend" }, verdicts.map((verdict) => make("span", { class: verdict }, say.verdicts[verdict]))),
    figure,
    without > 0 && make("p", { class: "soft" }, fill(say.withoutScore, { count: without })),
    rows.some((row) => row.max !== full) && make("p", { class: "soft" }, fill(say.scaled, { full })),
    make("details", {},
      make("summary", {}, say.asTable),
      make("table", { class: "small" },
        make("thead", {}, make("tr", {}, head.map((text) => make("th", { scope: "col" }, text)))),
        make("tbody", {}, found.filter((bin) => bin.count).map((bin) => make("tr", {},
          make("th", { scope: "row" }, bin.name),
          verdicts.map((verdict) => make("td", {}, numbers.format(bin[verdict])))))))));
}

/** The bins as bars, those who failed below those who passed. */
function plot(width, found, exact) {
  const [height, left, bottom, over] = [200, 38, 24, 8];
  const most = Math.max(...found.map((bin) => bin.count));
  const tick = niceTick(most);
  const limit = Math.ceil(most / tick) * tick;
  const y = (count) => over + (height - over - bottom) * (1 - count / limit);
  const pitch = (width - left) / found.length;
  const wide = Math.max(pitch - Math.max(pitch * 0.18, 1), 1);
  const every = [1, 2, 5, 10].find((each) => pitch * each >= 30) ?? 10;
  const lines = Array.from({ length: limit / tick + 1 }, (_, i) => i * tick);
  const told = (bin) => `${bin.name}: ${numbers.format(bin.count)}`;
  const bar = (i, from, to, verdict) => to > from &&
    draw("rect", { class: verdict, x: left + i * pitch, y: y(to), width: wide, height: y(from) - y(to) });
  const labels = { role: "img", "aria-labelledby": "plot-title", "aria-describedby": "plot-told" };
  return draw("svg", { viewBox: `0 0 ${width} ${height}`, width, height, ...labels },
    draw("title", { id: "plot-title" }, say.scores),
    draw("desc", { id: "plot-told" }, `${say.plot} ${found.filter((bin) => bin.count).map(told).join("; ")}`),
    lines.map((count) => [
      draw("line", { x1: left, x2: width, y1: y(count), y2: y(count) }),
      draw("text", { x: left - 8, y: y(count) + 4, "text-anchor": "end" }, numbers.format(count)),
    ]),
    found.map((bin, i) => [
      draw("g", {}, draw("title", {}, told(bin)), bar(i, 0, bin.failed, "failed"), bar(i, bin.failed, bin.count, "passed")),
      i % every === 0 && draw("text",
        { x: left + i * pitch + (exact ? wide / 2 : 0), y: height - 6, "text-anchor": "middle" },
        numbers.format(bin.from)),
    ]));
}

/** The distance of at most five lines, in whole students. */
function niceTick(most) {
  for (let unit = 1; ; unit *= 10) {
    for (const factor of [1, 2, 5]) if (most / (unit * factor) <= 5) return unit * factor;
  }
}

function checks() {
  const counts = columns.map(() => Object.fromEntries(STATUSES.map((status) => [status, 0])));
  for (const row of rows) for (const kind of row.kinds) if (kind) counts[kind.column][kind.status]++;
  const head = [say.check, "", ...SHOWN.map((status) => say.statuses[status])];
  return section("checks", say.checks,
    make("p", { class: "soft" }, say.rate),
    make("table", { class: "rates" },
      make("thead", {}, make("tr", {}, head.map((text) => (text ? make("th", { scope: "col" }, text) : make("td"))))),
      LEVELS.map((level) => {
        const places = [...columns.keys()].filter((place) => columns[place].level === level);
        return places.length > 0 && make("tbody", {},
          make("tr", {}, make("th", { scope: "rowgroup", colspan: head.length }, say.levels[level])),
          places.map((place) => rate(place, counts[place])));
      })));
}

/** How a check went: the share that passed, and a way to those who did not. */
function rate(place, count) {
  const { id, title, level } = columns[place];
  const judged = count.passed + count.failed + count.blocked;
  const bar = make("span", { class: "bar", "aria-hidden": "true" });
  for (const status of [...SHOWN, "skipped"].filter((each) => count[each])) {
    const part = make("i", { class: status === "failed" && level !== "required" ? "missed" : status });
    part.style.flexGrow = count[status];
    bar.append(part);
  }
  const some = (status) => {
    const number = numbers.format(count[status]);
    const name = `${number} · ${id}: ${say.statuses[status]}`;
    const click = () => filterBy({ check: place, status });
    return count[status] > 0 && button({ class: "count", "aria-label": name, click }, number);
  };
  return make("tr", {},
    make("th", { scope: "row" }, title, " ", make("code", {}, id)),
    make("td", {}, bar),
    make("td", {}, make("strong", {}, judged ? percent(count.passed, judged) : "–")),
    SHOWN.slice(1).map((status) => make("td", {}, some(status))));
}

function copies() {
  if (!groups.length) return null;
  return section("copies", say.copies, make("p", { class: "soft" }, say.copiesFact), sharing(groups));
}

/** What is shared, and with whom but `row`. */
function sharing(groups, row) {
  const item = (group) => make("li", {}, common(group), people(group.who.filter((other) => other !== row)));
  return inSteps(make("ul", { class: "groups" }), groups, GROUPS, item);
}

/** What a group shares. */
function common({ digest, size, layers }) {
  const count = layers.length;
  return [
    make("p", {}, make("b", {}, digest ? say.sameImage : say.sameLayers), " ", count > 0 && fill(say.layers, { count, size })),
    digest && make("p", {}, make("code", {}, digest)),
    count > 0 && make("details", {}, make("summary", {}, say.layerList),
      make("ul", { class: "plain" }, layers.map((number) => make("li", {}, make("code", {}, data.texts[number]))))),
  ];
}

// --- the table

const heads = [
  { label: say.student, key: (row) => row.id },
  ...(named ? [{ label: say.name, key: (row) => row.name }] : []),
  { label: say.verdict, key: (row) => VERDICTS.indexOf(row.verdict) },
  { label: say.score, key: (row) => scaled(row) ?? -1, always: (row) => row.score === null },
  ...columns.map(({ id, title }, place) => {
    const key = ({ kinds: { [place]: kind } }) => (kind ? STATUSES.indexOf(kind.status) : STATUSES.length);
    return { label: id, title, place, key };
  }),
];
const order = { head: null, down: false };
const found = make("p", { role: "status" });
const grid = make("table", { class: "grid" }, make("thead", {}, make("tr", {}, heads.map(headOf))), make("tbody"));
const scroller = make("div", { class: "scroller", role: "region", "aria-labelledby": "students", tabindex: "0" }, grid);
const more = make("div");

function field(label, control) {
  control.id = `wanted-${label}`;
  return make("div", {}, make("label", { for: control.id }, label), control);
}

function choice(options) {
  const item = ([value, text]) => make("option", { value }, text);
  return make("select", { change: apply }, [["", say.any], ...options].map(item));
}

const wanted = {
  text: make("input", { type: "search", input: apply, autocomplete: "off", spellcheck: "false" }),
  verdict: choice(VERDICTS.map((verdict) => [verdict, say.verdicts[verdict]])),
  check: choice(columns.map(({ id }, place) => [place, id])),
  status: choice(STATUSES.toReversed().map((status) => [status, say.statuses[status]])),
};

function students() {
  return section("students", say.students,
    make("div", { role: "search", class: "filters" },
      field(say.search, wanted.text), field(say.verdict, wanted.verdict),
      field(say.check, wanted.check), field(say.status, wanted.status),
      button({ click: clear }, say.clear)),
    found, scroller, more);
}

/** Exactly these filters. */
function setFilters(values) {
  for (const [name, control] of Object.entries(wanted)) control.value = values[name] ?? "";
  apply();
}

function clear() {
  setFilters({});
  sortBy(null);
}

/** These filters, and on to the table. */
function filterBy(values) {
  setFilters(values);
  const heading = document.getElementById("students");
  heading.focus({ preventScroll: true });
  heading.scrollIntoView();
}

function matching() {
  const text = plain(wanted.text.value.trim());
  const [verdict, check, status] = [wanted.verdict.value, wanted.check.value, wanted.status.value];
  const asked = (kind) => kind?.status === status;
  const holds = ({ kinds }) => !status || (check ? asked(kinds[check]) : kinds.some(asked));
  return rows.filter((row) => row.text.includes(text) && (!verdict || row.verdict === verdict) && holds(row));
}

/** Unless asked otherwise, those without a grade are first, and the roster's order is kept. */
function sorted(some) {
  const { key, always } = order.head ?? { key: (row) => Number(row.verdict !== "ungraded") };
  const sign = order.down ? -1 : 1;
  const compare = (a, b) => (typeof a === "string" ? collator.compare(a, b) : a - b);
  return some
    .map((row) => [always?.(row) ? 0 : 1, key(row), row])
    .sort(([a, x, one], [b, y, two]) => a - b || sign * compare(x, y) || one.place - two.place)
    .map(([, , row]) => row);
}

let listed = rows;

function apply() {
  listed = sorted(matching());
  const [body, next] = inSteps(make("tbody"), listed, STEP, rowOf);
  const tell = () => {
    const count = { count: listed.length, total: rows.length, listed: body.children.length };
    found.textContent = fill(next.hidden ? say.found : say.foundFirst, count);
  };
  next.addEventListener("click", tell);
  grid.tBodies[0].replaceWith(body);
  grid.setAttribute("aria-rowcount", listed.length + 1);
  more.replaceChildren(next);
  scroller.scrollTop = 0;
  tell();
}

function headOf(head) {
  const sort = button({ click: () => sortBy(head), title: head.title }, make("span", {}, head.label));
  head.cell = make("th", { scope: "col", class: head.place === undefined ? "" : "upright" }, sort);
  return head.cell;
}

/** By `head`, the other way round if it was by that already; by none, as at first. */
function sortBy(head) {
  order.down = head !== null && order.head === head && !order.down;
  order.head = head;
  for (const each of heads) each.cell.removeAttribute("aria-sort");
  head?.cell.setAttribute("aria-sort", order.down ? "descending" : "ascending");
  apply();
}

function rowOf(row) {
  const place = listed.indexOf(row);
  return make("tr", { "aria-rowindex": place + 2 },
    make("th", { scope: "row" }, link(row)),
    named && make("td", { class: "name" }, row.name),
    make("td", {}, chip(row)),
    make("td", { class: row.score === null ? "none" : "score" }, row.told ?? say.noScore),
    columns.map(({ id }, column) => {
      const kind = row.kinds[column];
      if (!kind) return make("td");
      const traits = { class: kind.standing, title: `${id}: ${kind.word}` };
      return make("td", traits, mark(kind.standing), unseen(kind.word));
    }));
}

function chip(row) {
  const standing = row.verdict === "ungraded" ? "error" : row.verdict;
  return make("span", { class: `chip ${standing}` }, mark(standing), say.verdicts[row.verdict]);
}

// --- a student

function student(row) {
  const told = [...outcomesOf(row)];
  return [
    alone ? null : turn(row),
    make("header", {},
      make("h1", { tabindex: "-1" }, row.name || row.id),
      make("p", { class: "soft" }, row.name ? `${row.id} · ${data.title}` : data.title),
      make("p", { class: "verdict" }, chip(row), make("strong", {}, row.told ?? say.noScore))),
    row.verdict === "ungraded" &&
      make("div", { class: "notice" }, section("why", say.why, make("p", {}, say.noGrade), causes(row).map(cause))),
    LEVELS.map((level) => {
      const some = told.filter((each) => each.level === level);
      return some.length > 0 && section(`level-${level}`, say.levels[level], make("ul", { class: "outcomes" }, some.map(outcome)));
    }),
    row.shared.length > 0 &&
      section("shares", say.copies, make("p", { class: "soft" }, say.copiesFact), sharing(row.shared, row)),
    section("graded", say.graded, facts(row)),
  ];
}

/** The way back, and to who is next in the table as it is sorted and filtered. */
function turn(row) {
  const place = listed.indexOf(row);
  const near = (other, text) => (place >= 0 && other ? link(other, text) : "");
  return make("nav", { "aria-label": say.students },
    make("a", { href: "#" }, say.back), near(listed[place - 1], say.previous), near(listed[place + 1], say.next));
}

function outcome(each) {
  return make("li", { class: each.standing },
    mark(each.standing),
    make("h3", {}, each.title, " ", make("code", {}, columns[each.column].id)),
    make("p", { class: "word" }, each.word, each.points && make("span", {}, each.points)),
    make("div", { class: "told" },
      each.message && message(each.message),
      each.hint && make("div", { class: "hint" }, message(each.hint, make("b", {}, say.mend), " "))));
}

function facts(row) {
  const list = make("dl");
  for (let i = 0; i < row.facts.length; i += 2) {
    list.append(make("dt", {}, data.texts[row.facts[i]]), make("dd", {}, data.texts[row.facts[i + 1]]));
  }
  return list;
}

// --- one address for each view

const views = { class: document.getElementById("class"), student: document.getElementById("student") };
let left = {}; // how the class was left: what had the focus, how far it was scrolled

/** The row that the address names. */
function asked() {
  if (alone) return rows[0];
  try {
    return byKey.get(decodeURIComponent(location.hash.replace(/^#s\//, "")));
  } catch {
    return undefined; // no address of ours
  }
}

function route() {
  const row = asked();
  const before = views.class.hidden ? "student" : "class";
  if (row && before === "class") {
    left = { focus: document.activeElement, page: scrollY, x: scroller.scrollLeft, y: scroller.scrollTop };
  }
  views.class.hidden = Boolean(row);
  views.student.hidden = !row;
  document.title = row ? `${row.name || row.id} · ${data.title}` : data.title;
  if (row) {
    views.student.replaceChildren();
    dress(views.student, {}, student(row));
    scrollTo(0, 0);
    views.student.querySelector("h1").focus({ preventScroll: true });
  } else if (before === "student") {
    scroller.scrollTo(left.x, left.y);
    scrollTo(0, left.page);
    const focus = left.focus?.matches("a, button") ? left.focus : views.class.querySelector("h1");
    focus.focus({ preventScroll: true });
  }
}

/** The texts as a list; those of a large class come deflated. */
async function unpacked(texts) {
  if (typeof texts !== "string") return texts;
  const bytes = Uint8Array.from(atob(texts), (char) => char.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).json();
}

async function start() {
  data.texts = await unpacked(data.texts);
  if (!rows.length) {
    views.class.append(make("h1", {}, document.title), make("p", {}, say.empty));
    return;
  }
  if (!alone) {
    const pair = make("div", { class: "pair" }, scores(), checks(), copies());
    dress(views.class, {}, [overview(), ungraded(), pair, students()]);
    apply();
  }
  history.scrollRestoration = "manual"; // a view's own place is put back above
  addEventListener("hashchange", route);
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !views.student.hidden && !alone) location.hash = "";
  });
  route();
}

start();
