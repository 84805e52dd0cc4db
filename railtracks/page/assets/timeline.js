// What stands in place of a timeline that could not be drawn: all else of the page goes on without it.
class NoTimeline {
  constructor({ view }, error) {
    this.view = view;
    view.replaceChildren(el("p", { class: "warning", role: "status" },
      `The timeline cannot be drawn: ${error}. All that it shows is in the tree below.`));
  }

  refresh() {}
  refreshMarks() {}
  select() {}
  zoomTo() {}
  zoomBy() {}
  fit() {}
}

// The timeline: calls as slices in rows over time, or as a flame graph, drawn by flame-chart-js on a canvas.

class Timeline {
  constructor(model, app) {
    this.model = model;
    this.app = app;
    this.mode = "time";
    this.found = null;
    this.selected = null;
    this.canvas = el("canvas", {
      tabindex: "0", role: "img", id: "timeline-canvas",
      "aria-label": "Timeline of the calls. The tree below has all that it shows.",
    });
    this.tip = el("div", { class: "tip", role: "tooltip", hidden: true });
    this.holder = el("div", { class: "canvas-holder" }, this.canvas, this.tip);
    this.modes = el("div", { class: "switch", role: "group", "aria-label": "What the timeline shows" },
      ...[["time", "Timeline", "Each call over time"], ["flame", "Flame graph", "Calls with the same callers as one slice"]].map(([mode, text, title]) =>
        el("button", { type: "button", title, "data-mode": mode, "aria-pressed": String(mode === this.mode), onclick: () => this.setMode(mode) }, text)));
    this.legend = el("p", { class: "legend" });
    this.view = el("section", { class: "card timeline" },
      el("div", { class: "bar-of-tools" }, el("h2", {}, "Where the time went"), this.modes,
        el("div", { class: "zoom" }, ...[
          ["−", "Zoom out (-)", () => this.zoomBy(0.5)], ["+", "Zoom in (+)", () => this.zoomBy(2)], ["Fit", "All of it (0)", () => this.fit()],
        ].map(([text, title, onclick]) => el("button", { type: "button", title, onclick }, text)))),
      this.holder, this.legend);
    this.canvas.addEventListener("keydown", (event) => this.onKey(event));
    // In the capturing phase, before the library, which would zoom at each turn of the wheel and never let the page scroll.
    this.holder.addEventListener("wheel", (event) => this.onWheel(event), { capture: true, passive: false });
    this.canvas.addEventListener("mouseleave", () => this.showTip(null));
    this.canvas.addEventListener("dblclick", () => this.selected && this.zoomTo(this.selected));
  }

  get engine() {
    return this.chart.renderEngine;
  }

  // Begin to draw, when the page has a layout.
  start() {
    const data = this.slicesData();
    this.slices = new Slices({ data, name: "slices" });
    this.minimap = new TimeframeSelectorPlugin({ timeseries: [], settings: { styles: this.styles.timeframeSelectorPlugin }, name: "timeframeSelectorPlugin" });
    this.canvas.width = this.holder.clientWidth;
    this.canvas.height = this.height(data);
    this.chart = new FlameChartContainer({
      canvas: this.canvas,
      plugins: [this.minimap, new TimeGridPlugin({ styles: this.styles.timeGridPlugin }), this.slices],
      settings: this.settings(),
    });
    cutLabels(this.slices.renderEngine);
    makeRound(this.chart.timeGrid, true);
    makeRound(this.minimap.timeGrid, false);
    this.slices.on("select", ({ node }) => this.onSelect(node));
    this.setMinimap();
    this.drawLegend();
    new ResizeObserver(() => this.resize()).observe(this.holder);
  }

  height(data) {
    return MINIMAP + GRID + Math.max(2 * BLOCK, Math.min(data.rows * (BLOCK + 1) + 6, Math.min(MOST_HEIGHT, innerHeight * 0.55)));
  }

  resize() {
    const width = this.holder.clientWidth, height = this.height(this.slices.data);
    if (width && (width !== this.engine.width || height !== this.engine.height)) {
      const isWhole = this.isWhole;
      this.chart.resize(width, height);
      requestAnimationFrame(() => {
        if (isWhole) this.fit();
        this.setMinimap();
      });
    }
  }

  get isWhole() {
    return this.engine.zoom <= this.engine.getInitialZoom() * 1.001;
  }

  // ---- what is drawn

  colour(variable) {
    this.probe ||= this.holder.appendChild(el("span", { hidden: true }));
    this.probe.style.color = `var(${variable})`;
    return getComputedStyle(this.probe).color;
  }

  readColours() {
    const isDark = document.documentElement.dataset.theme === "dark";
    const variables = {
      failed: "--slice-failed", cancelled: "--slice-cancelled", open: "--slice-open", suspended: "--slice-suspended",
      failedEdge: "--failed", path: "--path", found: "--found", selected: "--text", text: "--text", dim: "--dim",
      panel: "--panel", line: "--line",
    };
    this.colours = Object.fromEntries(Object.entries(variables).map(([name, variable]) => [name, this.colour(variable)]));
    this.styles = stylesIn(this.colours);
    this.hues = new Map(this.model.names.map((name, at) => {
      const hue = (((at + 1) * 137.5) % 240) + 80; // from green to violet: red and amber are for what went wrong
      return [name, isDark ? `hsl(${hue} 32% ${27 + (at % 3) * 4}%)` : `hsl(${hue} 52% ${80 - (at % 3) * 4}%)`];
    }));
  }

  colourOf(call) {
    return this.colours[call.status.toLowerCase()] || this.hues.get(call.name);
  }

  slicesData() {
    this.readColours();
    const isTime = this.mode === "time", hueOf = (name) => this.hues.get(name);
    const nodes = isTime ? callSlices(this.model, (call) => this.colourOf(call)) : flameSlices(this.model.flame(), hueOf);
    this.nodes = isTime ? new Map(nodes.map((node) => [node.source.call.index, node])) : new Map();
    const rows = isTime ? this.model.rowCount : nodes.reduce((most, node) => Math.max(most, node.level + 1), 1);
    const latest = isTime ? this.model.latest : nodes.reduce((most, node) => Math.max(most, node.end), 0);
    nodes.sort((a, b) => a.level - b.level || a.source.start - b.source.start);
    return { nodes, rows, latest, marks: this.marks(), colours: this.colours };
  }

  marks() {
    if (this.mode !== "time") return {};
    const all = (indices) => [...indices].map((index) => this.nodes.get(index)).filter(Boolean);
    return {
      failed: this.model.timed.filter((call) => call.kind === FAILED).map((call) => this.nodes.get(call.index)),
      path: all(this.model.run.path.map(([index]) => index)),
      found: this.found ? all(this.found) : [],
      selected: this.selected ? this.nodes.get(this.selected.index) : null,
    };
  }

  settings() {
    return { options: { tooltip: (region, _, mouse) => this.showTip(region, mouse), timeUnits: "ms" }, styles: this.styles };
  }

  setMinimap() {
    const points = this.mode === "time" ? this.model.concurrency(Math.min(600, Math.max(50, Math.floor(this.engine.width / 2)))) : [];
    const style = { type: "line", lineWidth: 1, lineColor: this.colours.path, fillColor: this.colours.line };
    this.minimap.setTimeseries(points.length ? [{ name: "at once", points, min: 0, style }] : []);
    this.engine.render();
  }

  // Draw anew what has changed: the calls, the theme, or the mode. The part of time that is shown stays.
  refresh(keepsView = true) {
    const isWhole = this.isWhole || !keepsView;
    const { positionX, zoom } = this.engine;
    const data = this.slicesData();
    this.slices.replace(data);
    this.chart.setSettings(this.settings());
    const height = this.height(data);
    if (height !== this.engine.height) this.engine.resize(this.engine.width, height);
    if (isWhole) this.fit();
    else {
      this.engine.setZoom(zoom);
      this.engine.setPositionX(positionX);
    }
    this.setMinimap();
    this.drawLegend();
  }

  refreshMarks() {
    this.slices.data.marks = this.marks();
    this.engine.render();
  }

  setMode(mode) {
    this.mode = mode;
    for (const button of this.modes.children) button.setAttribute("aria-pressed", String(button.dataset.mode === mode));
    this.slices.positionY = 0;
    this.refresh(false);
  }

  drawLegend() {
    const key = (colour, text) => {
      const box = el("span", { class: "key" });
      box.style.background = colour;
      return el("span", {}, box, text);
    };
    const names = this.model.names.slice(0, 8).map((name) => key(this.hues.get(name), name));
    const has = (status) => this.model.calls.some((call) => call.status === status);
    const statuses = ["Failed", "Cancelled", "Open", "Suspended"].filter(has).map((status) => key(this.colours[status.toLowerCase()], status.toLowerCase()));
    const left = this.model.names.length - names.length;
    const path = this.mode === "time" && this.model.run.path.length ? [key(this.colours.path, "critical path")] : [];
    const hint = el("span", { class: "note" }, "Ctrl and the wheel zoom; drag to move");
    this.legend.replaceChildren(...names, left > 0 ? `… ${left} more` : "", ...statuses, ...path, hint);
  }

  // ---- moving

  fit() {
    this.engine.setZoom(this.engine.getInitialZoom());
    this.engine.setPositionX(this.engine.min);
    this.engine.render();
  }

  zoomBy(factor) {
    const { engine } = this;
    const before = engine.getRealView(), start = engine.positionX;
    if (factor < 1 && engine.zoom * factor <= engine.getInitialZoom()) return this.fit();
    engine.setZoom(engine.zoom * factor);
    engine.setPositionX(Math.max(engine.min, Math.min(start + (before - engine.getRealView()) / 2, engine.max - engine.getRealView())));
    engine.render();
  }

  // Show a call as wide as half of the timeline.
  zoomTo(call) {
    const node = this.nodes.get(call.index);
    if (!node) return;
    const span = Math.max(node.source.duration * 2, 0.01);
    const width = Math.min(span, this.engine.max - this.engine.min);
    const start = Math.max(this.engine.min, Math.min(node.source.start - (width - node.source.duration) / 2, this.engine.max - width));
    this.chart.setZoom(start, start + width);
    this.reveal(call);
  }

  reveal(call) {
    const node = this.nodes.get(call.index);
    if (!node) return;
    const y = node.level * (BLOCK + 1), { height } = this.slices.renderEngine;
    if (y < this.slices.positionY) this.slices.setPositionY(y);
    else if (y + BLOCK > this.slices.positionY + height) this.slices.setPositionY(y + BLOCK + 4 - height);
    const view = this.engine.getRealView(), { start, duration: long } = node.source;
    if (start + long < this.engine.positionX || start > this.engine.positionX + view) {
      this.engine.setPositionX(Math.max(this.engine.min, Math.min(start - view / 4, this.engine.max - view)));
    }
    this.engine.render();
  }

  onWheel(event) {
    if (event.ctrlKey || event.metaKey) return; // the library zooms
    event.stopPropagation();
    const before = this.slices.positionY;
    if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      this.engine.tryToChangePosition((event.deltaX || event.deltaY) / this.engine.zoom);
      event.preventDefault();
    } else {
      this.slices.setPositionY(before + event.deltaY);
      if (this.slices.positionY !== before) event.preventDefault(); // otherwise the page scrolls
    }
    this.engine.render();
  }

  onKey(event) {
    const step = this.engine.getRealView() / 8;
    const actions = {
      ArrowLeft: () => this.engine.tryToChangePosition(-step),
      ArrowRight: () => this.engine.tryToChangePosition(step),
      ArrowUp: () => this.slices.setPositionY(this.slices.positionY - 3 * BLOCK),
      ArrowDown: () => this.slices.setPositionY(this.slices.positionY + 3 * BLOCK),
      "+": () => this.zoomBy(2), "=": () => this.zoomBy(2), "-": () => this.zoomBy(0.5), 0: () => this.fit(),
    };
    if (event.ctrlKey || event.metaKey || event.altKey || !actions[event.key]) return;
    event.preventDefault();
    event.stopPropagation();
    actions[event.key]();
    this.engine.render();
  }

  // ---- the mouse

  onSelect(node) {
    if (!node) return;
    if (node.source.call) this.app.select(node.source.call, true);
    else this.app.searchFor(node.source.slice.name);
  }

  select(call, isToBeRevealed) {
    this.selected = call;
    this.refreshMarks();
    if (call && isToBeRevealed && this.mode === "time") this.reveal(call);
  }

  showTip(region, mouse) {
    const source = region && region.data && region.data.source;
    this.tip.hidden = !source;
    if (!source) return;
    const { call, slice } = source;
    const lines = call
      ? [call.title, `${call.statusText}  ${duration(call.seconds)}${call.own === null ? "" : ` (own ${duration(call.own / 1000)})`}`, call.error]
      : [source.name, `${duration(slice.duration / 1000)} in all, ${duration(slice.own / 1000)} own${slice.failed ? `, ${slice.failed} failed` : ""}`];
    this.tip.replaceChildren(...lines.filter(Boolean).map((line) => el("div", {}, line)));
    const isRight = mouse.x > this.holder.clientWidth / 2;
    this.tip.style.left = isRight ? "" : `${mouse.x + 14}px`;
    this.tip.style.right = isRight ? `${this.holder.clientWidth - mouse.x + 14}px` : "";
    this.tip.style.top = `${Math.max(0, mouse.y - 10)}px`;
  }
}
