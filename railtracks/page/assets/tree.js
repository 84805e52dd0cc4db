// The tree of calls: a row for each call below that of its caller. Only the rows in sight are in the document.

const ROW = 26, MARGIN = 12, PRINTED = 2000;

class Tree {
  constructor(model, app) {
    this.model = model;
    this.app = app;
    this.closed = new Set(); // calls whose callees are hidden
    this.opened = new Set(); // folds that show all their calls, by the index of their first
    this.openedRests = new Set(); // folds that show all calls that did not complete, in the same way
    this.wanted = null; // the indices of the calls that a search has found
    this.selected = null;
    this.rows = [];
    this.space = el("div", { class: "space", role: "presentation" });
    this.box = el("div", {
      class: "tree", id: "tree", role: "tree", tabindex: "0", "aria-label": "Calls",
    }, this.space);
    this.count = el("span", { class: "note", role: "status" });
    this.print = el("div", { class: "print-tree", "aria-hidden": "true" });
    this.view = el("section", { class: "card calls" },
      el("div", { class: "bar-of-tools" }, el("h2", {}, "Calls"), this.count,
        el("div", { class: "zoom" },
          el("button", { type: "button", title: "Show all calls", onclick: () => this.openAll() }, "Open all"),
          el("button", { type: "button", title: "Show the top-level calls", onclick: () => this.closeAll() }, "Close all"))),
      this.box, this.print);
    this.box.addEventListener("scroll", () => this.draw());
    this.box.addEventListener("keydown", (event) => this.onKey(event));
    this.box.addEventListener("click", (event) => this.onClick(event));
    new ResizeObserver(() => this.draw()).observe(this.box);
    addEventListener("beforeprint", () => this.drawForPrint());
    matchMedia("print").addEventListener("change", (event) => event.matches && this.drawForPrint());
  }

  // ---- which rows there are

  refresh() {
    const shown = this.wanted && this.withCallers(this.wanted);
    this.rows = [];
    const stack = this.entries(this.model.roots, 0, shown).reverse();
    while (stack.length) {
      const row = stack.pop();
      this.rows.push(row);
      for (const below of this.below(row, shown).reverse()) stack.push(below); // one by one: there may be too many for arguments
    }
    this.space.style.height = `${this.rows.length * ROW}px`;
    this.box.style.height = `${Math.min(Math.max(this.rows.length, 3) * ROW + 2, Math.max(240, innerHeight * 0.7))}px`;
    const { size } = this.wanted || {};
    this.count.textContent = this.wanted
      ? `${counted(size, "call")} of ${this.model.calls.length.toLocaleString("en")}`
      : counted(this.model.calls.length, "call");
    this.draw();
  }

  withCallers(indices) {
    const shown = new Set(indices);
    for (const index of indices) {
      for (let call = this.model.get(index); call && call.parent !== null && !shown.has(call.parent); call = this.model.get(call.parent)) shown.add(call.parent);
    }
    return shown;
  }

  entries(calls, depth, shown) {
    if (shown) return calls.filter((call) => shown.has(call.index)).map((call) => ({ call, depth }));
    return foldSiblings(calls, this.model.folds).map((entry) => ({ ...entry, depth }));
  }

  below({ call, fold, depth }, shown) {
    if (call) return this.closed.has(call.index) ? [] : this.entries(call.children, depth + 1, shown);
    if (!fold) return [];
    if (this.opened.has(fold.key)) return fold.calls.map((each) => ({ call: each, depth: depth + 1, isSlowest: each === fold.slowest }));
    const showsRest = this.openedRests.has(fold.key);
    const calls = showsRest ? [...fold.shown, ...fold.rest].sort((a, b) => a.index - b.index) : fold.shown;
    const rows = calls.map((each) => ({ call: each, depth: depth + 1, isSlowest: each === fold.slowest }));
    if (fold.rest.length && !showsRest) rows.push({ rest: fold, depth: depth + 1 });
    return rows;
  }

  isOpen({ call, fold }) {
    return call ? !this.closed.has(call.index) : this.opened.has(fold.key);
  }

  hasMore({ call, fold }) {
    return fold ? true : Boolean(call && call.children.length);
  }

  toggle(row, open = !this.isOpen(row)) {
    if (!this.hasMore(row)) return;
    if (row.call) this.closed[open ? "delete" : "add"](row.call.index);
    else this.opened[open ? "add" : "delete"](row.fold.key);
    this.refresh();
  }

  openRest(fold) {
    this.openedRests.add(fold.key);
    this.selected = { call: fold.rest[0] };
    this.refresh();
  }

  openAll() {
    this.closed.clear();
    for (const calls of [this.model.roots, ...this.model.calls.map((call) => call.children)]) {
      for (const { fold } of calls.length < this.model.folds.from ? [] : foldSiblings(calls, this.model.folds)) if (fold) this.opened.add(fold.key);
    }
    this.refresh();
  }

  closeAll() {
    this.opened.clear();
    this.openedRests.clear();
    this.closed = new Set(this.model.calls.filter((call) => call.children.length).map((call) => call.index));
    this.refresh();
  }

  // ---- drawing

  draw() {
    const first = Math.max(0, Math.floor(this.box.scrollTop / ROW) - MARGIN);
    const last = Math.min(this.rows.length, Math.ceil((this.box.scrollTop + this.box.clientHeight) / ROW) + MARGIN);
    const drawn = [];
    for (let at = first; at < last; at++) drawn.push(this.rowView(this.rows[at], at));
    this.space.replaceChildren(...drawn);
    const at = this.selectedAt();
    if (at >= first && at < last) this.box.setAttribute("aria-activedescendant", `row-${at}`);
    else this.box.removeAttribute("aria-activedescendant");
  }

  rowView(row, at) {
    const { call, fold, rest, depth, isSlowest } = row;
    const isSelected = Boolean(this.selected) && this.isSame(row, this.selected);
    const view = el("div", {
      class: `row ${call ? call.status.toLowerCase() : "fold"}${isSelected ? " selected" : ""}`,
      role: "treeitem", id: `row-${at}`, "data-at": String(at), "aria-level": String(depth + 1), "aria-selected": String(isSelected),
      "aria-expanded": !rest && this.hasMore(row) ? String(this.isOpen(row)) : null,
      "data-index": call ? String(call.index) : null,
    });
    view.style.top = `${at * ROW}px`;
    const twisty = el("span", { class: "twisty", "aria-hidden": "true" }, !rest && this.hasMore(row) ? (this.isOpen(row) ? "▾" : "▸") : "");
    twisty.style.marginLeft = `${Math.min(depth, 24) * 16}px`;
    view.append(twisty, ...(call ? this.callCells(call, isSlowest) : [this.foldCell(fold || rest, rest)]));
    return view;
  }

  foldCell(fold, isRest) {
    if (isRest) {
      const how = fold.rest.every((call) => call.status === FAILED) ? "failed" : "that did not complete, or in which one did not";
      return el("span", { class: "what" }, el("button", { type: "button", class: "call-link", tabindex: "-1", title: "Show them" }, `… ${fold.rest.length.toLocaleString("en")} more ${how}`));
    }
    return el("span", { class: "what" }, el("b", {}, fold.name), ` ${fold.summary}`);
  }

  callCells(call, isSlowest) {
    const own = call.own === null ? "" : `own ${duration(call.own / 1000)}`;
    const left = (100 * call.start) / (this.model.latest || 1);
    const bar = el("span", { class: `bar ${call.status.toLowerCase()}` });
    bar.style.left = `${left}%`;
    bar.style.width = `${Math.max(0.7, (100 * ((call.end ?? this.model.latest) - call.start)) / (this.model.latest || 1))}%`;
    return [
      statusMark(call.status),
      el("span", { class: "what" }, el("b", {}, call.name), el("span", { class: call.args.length > 12 ? "arguments long" : "arguments" }, `(${call.args})`),
        el("span", { class: call.error || (call.status === COMPLETED && !call.shownStatus) ? "status hidden" : "status" }, call.statusText),
        call.error ? el("span", { class: "error", title: call.error }, call.reason) : null,
        isSlowest ? el("span", { class: "note" }, "slowest") : null),
      el("span", { class: "time" }, el("span", { class: "own" }, own), duration(call.seconds)),
      el("span", { class: "track", "aria-hidden": "true" }, call.isReused ? null : bar),
    ];
  }

  drawForPrint() {
    const lines = this.rows.slice(0, PRINTED).map((row, at) => {
      const view = this.rowView(row, at);
      for (const name of ["id", "role", "aria-level", "aria-selected", "aria-expanded"]) view.removeAttribute(name);
      return view;
    });
    const left = this.rows.length - lines.length;
    this.print.replaceChildren(...lines, left > 0 ? el("p", {}, `… and ${counted(left, "more row")}, which are not printed`) : "");
  }

  // ---- moving

  isSame(row, other) {
    return row.call ? row.call.index === (other.call && other.call.index) : !other.call && (row.fold || row.rest) && (other.fold || other.rest) && (row.fold || row.rest).key === (other.fold || other.rest).key && Boolean(row.rest) === Boolean(other.rest);
  }

  selectedAt() {
    return this.selected ? this.rows.findIndex((row) => this.isSame(row, this.selected)) : -1;
  }

  // Make a call the selected one, and show its row: what hides it is opened.
  select(call, isToBeRevealed) {
    this.selected = call ? { call } : null;
    if (call && isToBeRevealed && this.selectedAt() < 0) this.open(call);
    if (call && isToBeRevealed) this.scrollTo(this.selectedAt());
    this.draw();
  }

  open(call) {
    if (this.wanted && !this.wanted.has(call.index)) this.app.searchFor("");
    for (let each = call; each; each = this.model.get(each.parent)) {
      if (each !== call) this.closed.delete(each.index);
      const caller = this.model.get(each.parent);
      const siblings = caller ? caller.children : this.model.roots;
      const { fold } = foldSiblings(siblings, this.model.folds).find((entry) => entry.fold && entry.fold.calls.includes(each)) || {};
      if (fold && !fold.shown.includes(each)) (fold.rest.includes(each) ? this.openedRests : this.opened).add(fold.key);
    }
    this.refresh();
  }

  scrollTo(at) {
    if (at < 0) return;
    const top = at * ROW, height = this.box.clientHeight;
    if (top < this.box.scrollTop || top + ROW > this.box.scrollTop + height) this.box.scrollTop = top - height / 3;
  }

  // Scroll the page until the selected row is in sight: below the head that stays, and above the details of a phone.
  scrollPage() {
    const row = this.box.querySelector(".row.selected");
    if (!row) return;
    const { top, bottom } = row.getBoundingClientRect();
    const head = document.querySelector(".top");
    const upper = getComputedStyle(head).position === "sticky" ? head.offsetHeight : 0;
    const lower = this.app.details.view.getBoundingClientRect().top || innerHeight;
    if (top < upper) scrollBy(0, top - upper - ROW);
    else if (bottom > lower) scrollBy(0, bottom - lower + ROW);
  }

  moveTo(at) {
    const row = this.rows[Math.max(0, Math.min(at, this.rows.length - 1))];
    if (!row) return;
    this.selected = row;
    if (row.call) this.app.select(row.call, false);
    this.scrollTo(this.rows.indexOf(row));
    this.draw();
  }

  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const at = this.selectedAt(), row = this.rows[at], page = Math.floor(this.box.clientHeight / ROW) - 1;
    const actions = {
      ArrowDown: () => this.moveTo(at + 1),
      ArrowUp: () => this.moveTo(at < 0 ? 0 : at - 1),
      PageDown: () => this.moveTo(at + page),
      PageUp: () => this.moveTo(at - page),
      Home: () => this.moveTo(0),
      End: () => this.moveTo(this.rows.length - 1),
      ArrowRight: () => row && (this.hasMore(row) && !this.isOpen(row) ? this.toggle(row, true) : this.moveTo(at + 1)),
      ArrowLeft: () => row && (this.hasMore(row) && this.isOpen(row) ? this.toggle(row, false) : this.moveToCaller(at)),
      Enter: () => this.act(row),
      " ": () => this.act(row),
    };
    if (!actions[event.key]) return;
    event.preventDefault();
    actions[event.key]();
  }

  moveToCaller(at) {
    const { depth } = this.rows[at];
    for (let above = at - 1; above >= 0; above--) if (this.rows[above].depth < depth) return this.moveTo(above);
  }

  act(row) {
    if (!row) return;
    if (row.call) this.app.select(row.call, false, true);
    else if (row.rest) this.openRest(row.rest);
    else this.toggle(row, true);
  }

  onClick(event) {
    const view = event.target.closest("[data-at]");
    if (!view) return;
    const row = this.rows[Number(view.dataset.at)];
    this.selected = row;
    if (event.target.closest(".twisty") && this.hasMore(row)) this.toggle(row);
    else if (row.call) this.app.select(row.call, false, true);
    else if (row.rest) this.openRest(row.rest);
    else this.toggle(row);
  }
}
