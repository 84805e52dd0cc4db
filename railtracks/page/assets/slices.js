// What flame-chart-js is given, and what it does not do as it comes: slices in rows that are given, a grid at round times.

const { FlameChartContainer, FlameChartPlugin, TimeGridPlugin, TimeframeSelectorPlugin } = flameChartJs;
const BLOCK = 19, MINIMAP = 44, GRID = 22, MOST_HEIGHT = 420, NEAR = 4, TICK = 90;

// Slices in the rows that the model has given them. The library would take the depth in a tree as the row, and draw
// calls that run at the same time over each other.
class Slices extends FlameChartPlugin {
  parseData() {
    this.flatTree = this.data.nodes || [];
    this.calcMinMax();
  }

  calcMinMax() {
    this.min = 0;
    this.max = this.data.latest || 1;
  }

  get contentHeight() {
    return (this.data.rows || 1) * (BLOCK + 1);
  }

  setPositionY(y) {
    this.positionY = Math.max(0, Math.min(y, this.contentHeight - this.renderEngine.height));
  }

  replace(data) {
    this.data = data;
    this.parseData();
    this.initData();
    this.renderEngine.recalcMinMax();
    this.setPositionY(this.positionY);
  }

  // Find the slice under the mouse. Where slices are narrower than a pixel, that is one near it, a marked one first.
  findNodeInCluster(region) {
    const exact = super.findNodeInCluster(region);
    if (exact) return exact;
    if (!region || region.type !== "cluster") return null;
    const mouse = this.interactionsEngine.getMouse();
    let best = null, least = Infinity;
    for (const node of region.data.nodes) {
      const { x, w } = this.calcRect(node.source.start, node.source.duration, node.level);
      const distance = Math.max(0, x - mouse.x, mouse.x - x - w);
      if (distance < least) [best, least] = [node, distance];
    }
    return best && least <= NEAR ? { data: best, type: "node" } : null;
  }

  render() {
    super.render();
    const { width, height } = this.renderEngine;
    const { marks, colours } = this.data;
    const strip = (nodes, shape) => {
      for (const node of nodes || []) {
        const { x, y, w } = this.calcRect(node.source.start, node.source.duration, node.level);
        if (x + w >= -2 && x <= width && y + BLOCK > 0 && y < height) this.renderEngine.addRect(shape(x, y, w), 1);
      }
    };
    strip(marks.failed, (x, y, w) => ({ color: colours.failedEdge, x, y, w: Math.max(w, 2), h: w < 6 ? BLOCK : 3 }));
    strip(marks.path, (x, y, w) => ({ color: colours.path, x, y: y + BLOCK - 3, w: Math.max(w, 1), h: 3 }));
    strip(marks.found, (x, y, w) => ({ color: colours.found, x, y, w: Math.max(w, 2), h: w < 6 ? BLOCK : 4 }));
    if (marks.selected) {
      const { x, y, w } = this.calcRect(marks.selected.source.start, marks.selected.source.duration, marks.selected.level);
      this.renderEngine.addStroke({ color: colours.selected, x: x - 1, y: y + 1, w: Math.max(w, 3) + 2, h: BLOCK - 2 }, 3);
    }
  }
}

// Return a slice for each call, in the row that the model has given it.
function callSlices({ timed, latest }, colourOf) {
  return timed.map((call, index) => {
    const end = call.end ?? latest;
    const source = { start: call.start, duration: end - call.start, name: call.title, color: colourOf(call), type: call.name, call };
    return { source, end, parent: null, level: call.row, index };
  });
}

// Return the slices of a flame graph, each below that of its callers.
function flameSlices(tops, hueOf) {
  const nodes = [];
  const add = (slices, level) => {
    for (const slice of slices) {
      const source = { ...slice, name: `${slice.name} × ${slice.calls}`, slice, color: hueOf(slice.name) };
      nodes.push({ source, end: slice.start + slice.duration, parent: null, level, index: nodes.length });
      add(slice.children, level + 1);
    }
  };
  add(tops, 0);
  return nodes;
}

// Return what the library wants to know of colours and fonts.
function stylesIn({ text, dim, panel, line }) {
  const font = "11px system-ui, sans-serif";
  return {
    main: {
      blockHeight: BLOCK, font, fontColor: text, backgroundColor: panel, tooltipHeaderFontColor: text,
      tooltipBodyFontColor: dim, tooltipBackgroundColor: panel,
    },
    timeGrid: { color: line },
    timeGridPlugin: { font, fontColor: dim },
    timeframeSelectorPlugin: {
      height: MINIMAP, font: "10px system-ui, sans-serif", fontColor: dim, backgroundColor: panel, overlayColor: "rgb(128 136 150 / 30%)",
      bottomLineColor: line, knobColor: dim, knobStrokeColor: panel,
    },
  };
}

// Have the labels of slices cut at their end. The library would take out their middle. A slice that has no room for the
// name of its call has no label.
function cutLabels(engine) {
  const renderTexts = engine.renderTexts.bind(engine);
  const widthOf = (text) => engine.ctx.measureText(text).width;
  const fit = (text, room) => {
    const width = widthOf(text);
    if (width <= room) return text;
    const [name] = text.split(/\(| × /);
    if (widthOf(name) > room) return "";
    for (let end = Math.ceil((text.length * room) / width); end > name.length; end--) {
      const cut = `${text.slice(0, end)}…`;
      if (widthOf(cut) <= room) return cut;
    }
    return name;
  };
  engine.renderTexts = (texts) => renderTexts(texts.map((each) => ({ ...each, text: fit(each.text, each.textMaxWidth) })));
}

// Have a grid of the library stand at round times, with units that people use.
function makeRound(grid, hasLabels) {
  grid.recalc = function recalc() {
    const { renderEngine } = this;
    const least = renderEngine.pixelToTime(TICK);
    const power = 10 ** Math.floor(Math.log10(least || 1));
    this.delta = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= least);
    this.start = Math.floor((renderEngine.positionX - renderEngine.min) / this.delta);
    this.end = Math.ceil(renderEngine.getRealView() / this.delta) + this.start + 1;
    this.accuracy = Math.max(0, -Math.floor(Math.log10(this.delta) + 1e-9));
  };
  grid.renderTimes = function renderTimes(renderEngine = this.renderEngine) {
    if (!hasLabels) return;
    const [factor, unit] = this.delta >= 100 ? [1e3, "s"] : this.delta >= 0.1 ? [1, "ms"] : [1e-3, "µs"];
    const digits = Math.max(0, -Math.floor(Math.log10(this.delta / factor) + 1e-9));
    renderEngine.setCtxValue("fillStyle", renderEngine.styles.fontColor);
    renderEngine.setCtxFont(renderEngine.styles.font);
    this.forEachTime((x, time) => renderEngine.fillText(`${(time / factor).toFixed(digits)} ${unit}`, x + 4, renderEngine.charHeight + 2));
  };
}
