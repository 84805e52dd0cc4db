// The list of runs: it is kept up to date, and used with the keyboard. Without this script it can still be read.
"use strict";

const list = document.getElementById("list");
const search = document.getElementById("search");
const live = document.getElementById("live");
const chosen = new Map(); // the runs to compare, by identifier, with their flows, in the order in which they were checked

// ---- up to date

let source = null;

function connect() {
  if (source || document.hidden) return;
  source = new EventSource(list.dataset.events);
  source.addEventListener("open", () => setLive("on", "live"));
  source.addEventListener("error", (event) => {
    const isOver = event.target.readyState === EventSource.CLOSED; // refused, as by a server that was started anew
    setLive("off", isOver ? "Open the address that `railtracks ui` printed" : "not connected");
  });
  source.addEventListener("update", (event) => showRows(JSON.parse(event.data).rows));
  source.addEventListener("problem", (event) => setLive("off", JSON.parse(event.data).message));
}

function disconnect() {
  if (source) source.close();
  source = null;
}

// A browser keeps six connections to a server. So a page that nobody sees gives its own back.
document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));

function setLive(kind, text) {
  live.className = `live ${kind}`;
  live.textContent = text;
}

function showRows(html) {
  setLive("on", "live");
  if (html === undefined) return; // only a problem has passed
  const focused = list.contains(document.activeElement) ? document.activeElement.id : "";
  list.innerHTML = html; // made by the server, which has escaped whatever stands in a run
  for (const box of boxes()) box.checked = chosen.has(box.value);
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  showSeconds();
}

function showSeconds() {
  for (const cell of list.querySelectorAll("[data-since]")) {
    cell.textContent = duration(Math.max(0, Date.now() / 1000 - Number(cell.dataset.since)));
  }
  for (const cell of list.querySelectorAll("[data-began]")) {
    cell.textContent = age(Date.now() / 1000 - Number(cell.dataset.began));
  }
}

// As the server writes it.
function age(seconds) {
  for (const [limit, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (seconds >= limit) return `${Math.floor(seconds / limit).toLocaleString("en")} ${unit}`;
  }
  return "< 1 min";
}

function duration(seconds) {
  const whole = Math.floor(seconds);
  const two = (number) => String(number).padStart(2, "0");
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`;
}

// ---- comparison

function boxes() {
  return list.querySelectorAll("input[name=run]");
}

function choose(box) {
  if (box.checked) chosen.set(box.value, box.dataset.flow);
  else chosen.delete(box.value);
  while (chosen.size > 2) chosen.delete(chosen.keys().next().value);
  for (const each of boxes()) each.checked = chosen.has(each.value);
  showChosen();
}

function showChosen() {
  const names = [...chosen.keys()];
  const sameFlow = new Set(chosen.values()).size === 1;
  let text = "Check two runs of a flow to compare them.";
  if (names.length === 1) text = `${names[0]} and …: check another run of ${chosen.get(names[0]) || "no flow"}.`;
  if (names.length === 2) text = sameFlow ? `${names[0]} and ${names[1]}` : "These are not runs of one flow.";
  document.getElementById("chosen").textContent = text;
  document.getElementById("compare").disabled = names.length !== 2 || !sameFlow;
}

list.addEventListener("change", (event) => {
  if (event.target.name === "run") choose(event.target);
});

// A run that was checked may be on another page of the list by now, so the form sends what was chosen.
document.getElementById("comparison").addEventListener("submit", (event) => {
  event.preventDefault();
  const query = new URLSearchParams([...chosen.keys()].map((name) => ["run", name]));
  location.assign(`${event.target.action}?${query}`);
});

// ---- filters

const filters = document.getElementById("filters");
let typing = 0;

function applyFilters() {
  const query = new URLSearchParams([...new FormData(filters)].filter(([, value]) => value));
  const target = `${filters.getAttribute("action")}${query.size ? `?${query}` : ""}`;
  if (target === location.pathname + location.search) return;
  history.replaceState(null, "", target);
  list.dataset.events = target.replace(/\/(\?|$)/, "/events$1");
  const before = source; // closed after the new one is there, so that the server need not read the list anew
  source = null;
  connect();
  before?.close();
}

filters.addEventListener("change", applyFilters);
filters.addEventListener("submit", (event) => {
  event.preventDefault();
  applyFilters();
  links()[0]?.focus();
});
search.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(applyFilters, 200);
});

// ---- keyboard

function links() {
  return [...list.querySelectorAll("td.run a")];
}

function move(step) {
  const all = links();
  const at = all.findIndex((link) => link.closest("tr").contains(document.activeElement));
  const next = all[at < 0 ? (step > 0 ? 0 : all.length - 1) : Math.min(Math.max(at + step, 0), all.length - 1)];
  next?.focus();
  next?.closest("tr").scrollIntoView({ block: "nearest" });
}

function check() {
  const box = document.activeElement.closest?.("tr")?.querySelector("input[name=run]");
  if (!box) return;
  box.checked = !box.checked;
  choose(box);
}

const help = document.getElementById("keys");
document.getElementById("help").hidden = false;
document.getElementById("help").addEventListener("click", () => help.showModal());

const keys = {
  j: () => move(1),
  ArrowDown: () => move(1),
  k: () => move(-1),
  ArrowUp: () => move(-1),
  x: check,
  c: () => document.getElementById("compare").click(),
  n: () => document.getElementById("next")?.click(),
  p: () => document.getElementById("previous")?.click(),
  "/": () => search.focus(),
  "?": () => help.showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || help.open) return;
  const target = event.target;
  if (target === search) {
    if (event.key === "Escape") search.blur();
    if (event.key === "ArrowDown") links()[0]?.focus();
    return;
  }
  if (target.tagName === "SELECT" || !keys[event.key]) return;
  event.preventDefault();
  keys[event.key]();
});

for (const box of boxes()) if (box.checked) chosen.set(box.value, box.dataset.flow); // as a browser has restored them
showChosen();
showSeconds();
setInterval(showSeconds, 1000);
connect();
