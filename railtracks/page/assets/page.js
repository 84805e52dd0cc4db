// The page as a whole: search, keys, theme, and updates from a server.

const KEYS = [
  ["/", "search"], ["f, F", "next failure, the one before"], ["Esc", "close details, clear the search"],
  ["↑ ↓", "move in the tree"], ["← →", "close, open"], ["Enter", "open details"], ["z", "show the selected call in the timeline"],
  ["+ − 0", "zoom in, zoom out, all of it"], ["t", "light or dark"], ["?", "these keys"],
];

class App {
  constructor(data) {
    this.data = data;
    this.model = new Model(data);
    this.selected = null;
    this.setTheme(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
    this.timeline = new Timeline(this.model, this);
    this.tree = new Tree(this.model, this);
    this.details = new Details(this.model, this);
    this.build();
    this.tree.refresh();
    document.addEventListener("keydown", (event) => this.onKey(event));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", ({ matches }) => this.setTheme(matches ? "dark" : "light"));
    if (data.live) this.listen();
    this.draw((timeline) => timeline.start());
  }

  build() {
    this.search = el("input", { type: "search", id: "search", placeholder: "Search calls  /", "aria-label": "Search the names, arguments and errors of calls", oninput: () => this.onSearch() });
    this.only = el("input", { type: "checkbox", id: "only-unusual", onchange: () => this.onSearch() });
    this.help = el("dialog", { class: "help", "aria-label": "Keys" }, el("h2", {}, "Keys"),
      el("dl", { class: "keys" }, ...KEYS.map(([key, text]) => el("div", {}, el("dt", {}, el("kbd", {}, key)), el("dd", {}, text)))),
      el("form", { method: "dialog" }, el("button", { class: "close" }, "Close")));
    this.summary = el("div", { class: "summary" });
    this.head = el("div", {});
    this.asked = el("div", { class: "asked" });
    this.actions = el("span", { class: "actions" });
    this.messages = el("div", { class: "messages", role: "status" });
    const list = this.data.live && this.data.live.list;
    document.getElementById("page").replaceChildren(
      el("header", { class: "top" },
        el("h1", {}, list ? el("a", { class: "list", href: list }, "← All runs") : "", this.model.run.title),
        el("div", { class: "tools" },
          this.actions,
          this.search,
          el("label", { class: "only", for: "only-unusual" }, this.only, "not completed"),
          el("button", { type: "button", title: "Light or dark (t)", id: "theme", onclick: () => this.toggleTheme() }, "◐"),
          el("button", { type: "button", title: "Keys (?)", id: "keys", onclick: () => this.help.showModal() }, "?"))),
      this.head, this.asked, this.messages, this.summary, this.timeline.view,
      el("div", { class: "columns" }, this.tree.view, this.details.view),
      this.footer(), this.help);
    this.drawSummary();
  }

  drawSummary() {
    this.head.replaceChildren(headView(this.model));
    this.drawActions();
    this.summary.replaceChildren(...[
      ...problemsView(this.model, this), slowestView(this.model, this), pathView(this.model, this), nodesView(this.model, this),
    ].filter(Boolean));
  }

  // Draw what can be done with the run, unless it is there already: somebody may be typing an answer.
  drawActions() {
    const { actions = {}, notice = null } = this.data.live || {};
    const drawn = JSON.stringify([actions, notice, this.model.run.questions]);
    if (drawn === this.drawnActions) return;
    this.drawnActions = drawn;
    this.asked.replaceChildren(...this.questions());
    this.actions.replaceChildren(...Object.entries(actions).filter(([name]) => name !== "answer").map(([name, url]) =>
      this.actionButton(name, url)));
    this.say(notice && notice.text, "notice", notice && notice.failed ? "bad" : "", notice && notice.output);
  }

  // Cancelling cannot be undone. So its button asks first, and a second click on it, but no double click, is the answer.
  actionButton(name, url) {
    const text = name[0].toUpperCase() + name.slice(1);
    const button = el("button", { type: "button", "data-action": name, "aria-live": "polite" }, text);
    const ask = (isAsking) => {
      button.classList.toggle("asking", isAsking);
      button.textContent = isAsking ? "Cancel this run?" : text;
    };
    button.addEventListener("click", (event) => {
      if (name === "cancel" && !button.classList.contains("asking")) return ask(true);
      if (name === "cancel" && event.detail > 1) return undefined;
      ask(false);
      return this.act(url, {});
    });
    if (name === "cancel") button.addEventListener("blur", () => ask(false));
    return button;
  }

  questions() {
    const url = this.data.live && this.data.live.actions && this.data.live.actions.answer;
    return this.model.run.questions.map(([id, text]) => {
      const field = el("input", { type: "text", placeholder: "JSON, or else text", "aria-label": `Answer to: ${text}` });
      const form = el("form", { onsubmit: (event) => { event.preventDefault(); this.act(url, { question: id, value: field.value }); } }, field, el("button", {}, "Answer"));
      return el("div", { class: "question" }, el("b", {}, "It waits for an answer: "), text, url ? form : el("code", {}, ` railtracks answer ${this.model.run.id} ${id} VALUE`));
    });
  }

  footer() {
    const { data } = this;
    const log = data.log ? this.logNote(data.log) : "The lines of the log are not here: railtracks view RUN --log FILE adds them.";
    return el("footer", {}, el("p", {},
      `Arguments and results of more than ${data.maxText.toLocaleString("en")} characters are cut, tracebacks of more than ${data.maxTraceback.toLocaleString("en")}, and secrets are masked. `,
      "railtracks show RUN --json prints all that is on record. ", log));
  }

  logNote(log) {
    const others = log.run.length
      ? el("details", {}, el("summary", {}, `${counted(log.run.length, "line")} of the log about the run as a whole`), el("pre", {}, log.run.join("\n")))
      : "";
    return el("span", {}, log.note, others);
  }

  // Have the timeline do something. Should it fail, the page says so, and does without it.
  draw(action) {
    try {
      action(this.timeline);
    } catch (error) {
      this.timeline = new NoTimeline(this.timeline, error);
      reportError(error);
    }
  }

  // ---- what is selected and searched

  // Show the details of a call.
  select(call, isToBeRevealed = true, isOpened = isToBeRevealed) {
    this.selected = call;
    this.details.show(call);
    this.tree.select(call, isToBeRevealed);
    this.draw((timeline) => timeline.select(call, true));
    if (call && isOpened && innerWidth < 900) this.details.view.focus({ preventScroll: true });
  }

  searchFor(text) {
    this.search.value = text;
    if (!text) this.only.checked = false;
    this.onSearch();
    if (text) this.tree.view.scrollIntoView({ block: "nearest" });
  }

  onSearch() {
    const found = this.model.search(this.search.value, this.only.checked);
    this.tree.wanted = found;
    this.timeline.found = this.search.value.trim() ? found : null;
    this.tree.box.scrollTop = 0;
    this.tree.refresh();
    this.draw((timeline) => timeline.refreshMarks());
  }

  nextFailure(step) {
    const failures = this.model.calls.filter((call) => call.more.isFailure);
    if (!failures.length) return;
    const at = this.selected ? failures.findIndex((call) => call.index >= this.selected.index) : -1;
    const isOn = at >= 0 && failures[at] === this.selected;
    let next;
    if (step > 0) next = at < 0 ? 0 : isOn ? at + 1 : at;
    else next = at < 0 ? failures.length - 1 : at - 1;
    this.select(failures[(next + failures.length) % failures.length]);
    this.tree.scrollPage();
  }

  // ---- keys and theme

  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || this.help.open) return;
    const isTyping = event.target instanceof HTMLInputElement && event.target.type !== "checkbox";
    if (event.key === "Escape") {
      if (isTyping && !this.search.value) event.target.blur();
      else if (isTyping || (this.search.value && !this.selected)) this.searchFor("");
      else if (this.selected) this.select(null);
      return;
    }
    if (isTyping) {
      if (event.key === "Enter" && event.target === this.search) this.openFirstFound();
      return;
    }
    const actions = {
      "/": () => this.search.focus(), f: () => this.nextFailure(1), F: () => this.nextFailure(-1), "?": () => this.help.showModal(),
      t: () => this.toggleTheme(), z: () => this.selected && this.timeline.zoomTo(this.selected),
      "+": () => this.timeline.zoomBy(2), "=": () => this.timeline.zoomBy(2), "-": () => this.timeline.zoomBy(0.5), 0: () => this.timeline.fit(),
    };
    if (!actions[event.key]) return;
    event.preventDefault();
    actions[event.key]();
  }

  openFirstFound() {
    const [first] = this.tree.wanted || [];
    if (first === undefined) return;
    this.select(this.model.get(first));
    this.tree.scrollPage();
    this.tree.box.focus({ preventScroll: true });
  }

  setTheme(theme) {
    document.documentElement.dataset.theme = theme;
    if (this.timeline && this.timeline.chart) this.draw((timeline) => timeline.refresh());
  }

  toggleTheme() {
    this.setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
  }

  // ---- from and to a server

  update(change) {
    if (change.live) Object.assign(this.data.live, change.live);
    const before = this.model.run.status;
    this.model.update(change);
    if (this.model.run.status !== before) this.say("", "action"); // what it said is done
    if (this.selected) this.selected = this.model.get(this.selected.index);
    this.drawSummary();
    this.tree.selected = this.selected ? { call: this.selected } : this.tree.selected;
    this.tree.wanted = this.model.search(this.search.value, this.only.checked);
    this.timeline.found = this.search.value.trim() ? this.tree.wanted : null;
    this.timeline.selected = this.selected;
    this.tree.refresh();
    this.draw((timeline) => timeline.refresh());
    if (this.selected && this.details.call !== this.selected) this.details.show(this.selected);
  }

  // Collect updates while the page is busy with the one before: with 100,000 calls that takes a second.
  updateSoon({ run, calls, live }) {
    this.say("", "connection");
    if (live) Object.assign(this.data.live, live);
    const rows = this.waiting ? this.waiting.calls : [];
    const isScheduled = Boolean(this.waiting);
    this.waiting = { run: run || (this.waiting || {}).run, calls: [...rows, ...(calls || [])] };
    if (isScheduled) return;
    setTimeout(() => {
      const change = this.waiting, began = performance.now();
      this.waiting = null;
      this.update(change);
      this.pause = Math.max(100, 4 * (performance.now() - began));
    }, this.pause || 0);
  }

  // Browsers keep six connections to a server at most. So a page that nobody sees gives its own back.
  listen() {
    let source = null;
    const connect = () => {
      if (source || document.hidden) return;
      source = new EventSource(this.data.live.events);
      source.addEventListener("update", (event) => this.updateSoon(JSON.parse(event.data)));
      source.addEventListener("reset", () => location.reload());
      source.addEventListener("problem", (event) => this.say(JSON.parse(event.data).message, "connection", "warning"));
      source.addEventListener("open", () => this.say("", "connection"));
      source.addEventListener("error", (event) => this.say(event.target.readyState === EventSource.CLOSED
        ? "The server refuses to send more. This is what it had sent. Open the address that `railtracks ui` printed."
        : "The server does not answer. This is what it had sent; the page tries again.", "connection", "warning"));
    };
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) return connect();
      source?.close();
      source = null;
    });
    connect();
  }

  async act(url, body) {
    const { status } = this.model.run;
    try {
      const answer = await fetch(url, {
        method: "POST", headers: { "Content-Type": "application/json", ...(this.data.live.headers || {}) }, body: JSON.stringify(body),
      });
      const text = await answer.text();
      if (answer.ok && this.model.run.status !== status) return; // the page shows already what it did
      this.say(messageIn(text) || (answer.ok ? "Done." : `The server answered ${answer.status}.`), "action", answer.ok ? "" : "bad");
    } catch (error) {
      this.say(`The server cannot be reached: ${error.message}`, "action", "bad");
    }
  }

  // Show a message in place of the one of its kind before; "" for none. With it may stand what a program has printed.
  say(text, kind, tone = "", output = "") {
    for (const old of this.messages.querySelectorAll(`[data-kind="${kind}"]`)) old.remove();
    if (!text) return;
    const printed = output ? el("pre", { tabindex: "0" }, output) : null;
    this.messages.append(el("div", { class: `message ${tone}`, "data-kind": kind }, el("p", {}, text), printed));
  }
}

function messageIn(text) {
  try {
    const { message } = JSON.parse(text);
    return typeof message === "string" ? message : text;
  } catch {
    return text;
  }
}

const app = new App(JSON.parse(document.getElementById("data").textContent));
performance.mark("railtracks-ready");
window.railtracks = { update: (change) => app.update(change), app };
