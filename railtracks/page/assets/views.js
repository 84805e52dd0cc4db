// The top of the page: how the run ended, what failed, and where the time went.

const ICONS = { Completed: "✓", Failed: "✕", Cancelled: "⊘", Open: "…", Suspended: "❚❚" };

// Make an element. Children that are not elements become text, whatever is in them.
function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}

function statusMark(status) {
  return el("span", { class: `mark ${status.toLowerCase()}`, "aria-hidden": "true" }, ICONS[status] || "?");
}

function callLink(call, app) {
  const link = { type: "button", class: "call-link of-call", title: call.title, onclick: () => app.select(call, true) };
  return el("button", link, el("span", { class: "name" }, call.name), el("span", { class: "arguments" }, `(${call.args})`));
}

function section(title, note, ...children) {
  return el("section", { class: "card" }, el("h2", {}, title, note && el("span", { class: "note" }, note)), ...children.filter(Boolean));
}

function headView(model) {
  const { run } = model;
  const facts = [];
  const began = new Date(run.started * 1000);
  if (run.started) facts.push(["began", began.toLocaleString("sv-SE")]);
  if (run.seconds !== null) facts.push(["took", duration(run.seconds)]);
  const counts = Object.entries(run.calls).map(([status, number]) => `${number.toLocaleString("en")} ${status.toLowerCase()}`);
  facts.push(["calls", `${run.count.toLocaleString("en")}${counts.length > 1 ? `: ${counts.join(", ")}` : ""}`]);
  const reused = model.calls.length - model.timed.length;
  if (reused) facts.push(["reused", `${reused.toLocaleString("en")}, whose times do not count`]);
  if (run.cached) facts.push(["cached", `${run.cached.toLocaleString("en")}, which did not run`]);
  if (run.maxConcurrency > 1) facts.push(["at once", `at most ${run.maxConcurrency.toLocaleString("en")}`]);
  if (run.processorSeconds !== null) facts.push(["processor", duration(run.processorSeconds)]);
  if (run.memoryBytes !== null) facts.push(["memory", `${Math.round(run.memoryBytes / 2 ** 20).toLocaleString("en")} MiB at most`]);
  return el(
    "div", { class: `head ${run.status.toLowerCase()}` },
    el("p", { class: "headline", role: "status" }, statusMark(run.status), el("span", { id: "headline" }, run.headline)),
    el("dl", { class: "facts" }, ...facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))),
    run.damage && el("p", { class: "warning" }, `A part of the record is damaged: ${run.damage}`),
    run.topics.length ? el("p", {}, `It waits for messages: ${run.topics.join(", ")}`) : null,
  );
}

// List the calls in which something went wrong first, each with its reason.
function problemsView(model, app) {
  const { run } = model;
  const list = (indices, total, reason) => {
    const shown = indices.slice(0, 200).map((index) => model.get(index)).filter(Boolean);
    const items = shown.map((call) =>
      el("li", {}, statusMark(call.status), el("div", {}, callLink(call, app), el("p", { class: `reason ${call.status.toLowerCase()}` }, reason(call)))));
    const left = total - shown.length;
    return el("ul", { class: "problems", tabindex: "0" }, ...items, left > 0 ? el("li", {}, `… and ${left.toLocaleString("en")} more`) : null);
  };
  const cards = [];
  const passed = (run.calls[FAILED] || 0) - run.failureCount; // these did not fail by themselves
  if (run.failureCount) {
    cards.push(section(
      "What failed, and why", `${run.failureCount.toLocaleString("en")}${passed > 0 ? ` (${passed.toLocaleString("en")} more passed it on)` : ""}`,
      list(run.failures, run.failureCount, (call) => call.error || call.statusText)));
  }
  if (run.cancelledCount) {
    cards.push(section(
      "What was cancelled, and why", `${run.cancelledCount.toLocaleString("en")}`,
      list(run.cancelled, run.cancelledCount, (call) => `${call.statusText}. ${call.more.why || ""}`)));
  }
  const open = model.calls.filter((call) => call.status === OPEN || call.status === "Suspended");
  if (open.length) {
    const innermost = open.filter((call) => !call.children.some((child) => child.end === null || child.status === "Suspended"));
    const title = open.some((call) => call.status === OPEN) ? "What has not ended" : "What waits";
    cards.push(section(
      title, innermost.length.toLocaleString("en"),
      list(innermost.map((call) => call.index), innermost.length, (call) => call.more.why || call.statusText)));
  }
  if (!cards.length) cards.push(section("What failed, and why", null, el("p", { class: "good" }, statusMark(COMPLETED), "Nothing: all calls completed.")));
  return cards;
}

// A list of calls with the time that each took, as bars.
function barsView(model, app, pairs, whole) {
  const longest = Math.max(...pairs.map(([, seconds]) => seconds), 1e-9);
  return el("ol", { class: "bars" }, ...pairs.map(([index, seconds]) => {
    const call = model.get(index);
    if (!call) return null;
    const bar = el("span", { class: `bar ${call.status.toLowerCase()}` });
    bar.style.width = `${(100 * seconds) / longest}%`;
    const share = whole ? ` ${Math.round((100 * seconds) / whole)}%` : "";
    return el("li", {}, callLink(call, app), el("span", { class: "track" }, bar), el("span", { class: "number" }, `${duration(seconds)}${share}`));
  }));
}

function slowestView(model, app) {
  if (!model.run.slowest.length) return null;
  return section("Slowest calls", "own time", barsView(model, app, model.run.slowest.slice(0, 8)));
}

function pathView(model, app) {
  const { run } = model;
  const longest = [...run.path].sort((a, b) => b[1] - a[1]).slice(0, 8);
  if (!longest.length) return null;
  const left = run.path.length - longest.length;
  return section(
    "Critical path", `what the run waited for, ${counted(run.path.length, "call")}`,
    barsView(model, app, longest, run.pathSeconds),
    left > 0 && el("p", { class: "dim" }, `… and ${left.toLocaleString("en")} more`),
    el("p", { class: "hint" }, "Only a call on it that becomes faster makes the run end earlier. The timeline underlines it."),
  );
}

function nodesView(model, app) {
  const titles = ["node", "calls", "failed", "total", "mean", "p50", "p95", "longest"];
  const rows = model.run.nodes.slice(0, 50).map(([name, calls, failed, ...times]) =>
    el("tr", {},
      el("th", { scope: "row" }, el("button", { type: "button", class: "call-link", title: "Search for its calls", onclick: () => app.searchFor(name) }, name)),
      el("td", {}, calls.toLocaleString("en")),
      el("td", { class: failed ? "bad" : "" }, failed.toLocaleString("en")),
      ...times.map((seconds) => el("td", {}, duration(seconds)))));
  return section("By node", null, el("div", { class: "scroll" },
    el("table", {}, el("thead", {}, el("tr", {}, ...titles.map((title) => el("th", { scope: "col" }, title)))), el("tbody", {}, ...rows))));
}
