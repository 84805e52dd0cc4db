// The calls of a run, as they come in rows: who called whom, what is unusual, where each stands in the timeline.

const OPEN = "Open", COMPLETED = "Completed", FAILED = "Failed";
const MAX_FLAME_DEPTH = 200;

class Call {
  constructor(row, statuses) {
    [this.index, this.parent, this.name, , this.shownStatus, this.start, this.end, this.own, this.args, this.error] = row;
    this.status = statuses[row[3]];
    this.more = row[10] || {};
    this.children = [];
    this.unusual = false; // it, or a call below it, has not completed
    this.row = 0; // in the timeline
  }

  get seconds() {
    return this.end === null ? null : (this.end - this.start) / 1000;
  }

  // Its times are of an earlier attempt.
  get isReused() {
    return Boolean(this.more.reuse && this.more.reuse.startsWith("reused"));
  }

  // It failed, and was tried again: its caller knows nothing of that.
  get isRetried() {
    return Boolean(this.more.policy && this.more.policy.retried);
  }

  // As what it counts.
  get kind() {
    return this.isRetried ? "Retried" : this.status;
  }

  get title() {
    return `${this.name}(${this.args})`;
  }

  get statusText() {
    return this.shownStatus || this.status;
  }

  // Why it failed. An exception that a call below raised is described there.
  get reason() {
    return this.more.reason || this.error;
  }

  get text() {
    return `${this.title} ${this.error || ""} ${this.statusText}`.toLowerCase();
  }
}

class Model {
  constructor(data) {
    this.statuses = data.statuses;
    this.folds = data.folds;
    this.isLive = Boolean(data.live);
    this.byIndex = new Map();
    this.update(data);
  }

  // Take rows that are new or have changed, and what is said of the whole run.
  update({ run, calls }) {
    if (run) this.run = run;
    for (const row of calls || []) this.byIndex.set(row[0], new Call(row, this.statuses));
    this.calls = [...this.byIndex.values()].sort((a, b) => a.index - b.index);
    this.roots = [];
    this.latest = this.isLive && this.run.seconds === null ? Date.now() - this.run.started * 1000 : 0;
    for (const call of this.calls) call.children = [];
    for (const call of this.calls) {
      const caller = this.byIndex.get(call.parent);
      (caller ? caller.children : this.roots).push(call);
      if (!call.isReused) this.latest = Math.max(this.latest, call.end ?? call.start);
    }
    for (let at = this.calls.length - 1; at >= 0; at--) { // each call before its caller
      const call = this.calls[at];
      call.unusual = (call.status !== COMPLETED && !call.isRetried) || call.children.some((child) => child.unusual);
    }
    this.timed = this.calls.filter((call) => !call.isReused);
    this.rowCount = placeInRows(this.timed, this.byIndex, this.latest);
    this.names = [...new Set(this.calls.map((call) => call.name))];
  }

  get(index) {
    return this.byIndex.get(index);
  }

  nodeId(call) {
    return `${this.run.id}-n${call.index}`;
  }

  // Return the indices of the calls with a text in them, and of those that are wanted for their status.
  search(query, onlyUnusual) {
    const text = query.trim().toLowerCase();
    if (!text && !onlyUnusual) return null;
    const found = this.calls.filter(
      (call) => (!text || call.text.includes(text)) && (!onlyUnusual || (call.status !== COMPLETED && !call.isRetried)),
    );
    return new Set(found.map((call) => call.index));
  }

  // Return how many calls run at once, as up to `count` pairs of a time and the most that ran until the next time.
  concurrency(count) {
    count = Math.max(1, Math.floor(count));
    const changes = [];
    for (const call of this.timed) {
      if (call.children.length) continue; // it waits for those below it, mostly
      changes.push([call.start, 1], [call.end ?? this.latest, -1]);
    }
    changes.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    const width = (this.latest || 1) / count;
    const most = new Array(count + 1).fill(0);
    let running = 0, bucket = 0;
    for (const [time, change] of changes) {
      const here = Math.min(count, Math.floor(time / width));
      while (bucket < here) most[++bucket] = running;
      running += change;
      most[bucket] = Math.max(most[bucket], running);
    }
    const points = most.map((number, at) => [at * width, number]);
    return [[0, 0], ...points, [count * width, 0]]; // at both ends down to the base line, which the area below needs
  }

  // Return the calls as a flame graph: calls with the same callers are one slice, as wide as the time in them.
  flame() {
    const root = { children: new Map(), depth: 0 };
    const slices = new Map(); // by the index of a call
    for (const call of this.calls) { // a caller comes before the calls that it made
      const above = slices.get(call.parent) || root;
      if (above.depth < MAX_FLAME_DEPTH && !above.children.has(call.name)) {
        const made = { name: call.name, children: new Map(), depth: above.depth + 1, calls: 0, failed: 0, own: 0 };
        above.children.set(call.name, made);
      }
      const slice = above.children.get(call.name) || above; // what is deeper counts for the slice above it
      slices.set(call.index, slice);
      slice.calls += 1;
      slice.failed += call.kind === FAILED ? 1 : 0;
      if (!call.isReused) slice.own += Math.max(0, call.own ?? (call.end ?? this.latest) - call.start);
    }
    const width = (slice) => {
      slice.duration = slice.own + [...slice.children.values()].reduce((sum, each) => sum + width(each), 0);
      return slice.duration;
    };
    const place = (above, start) =>
      [...above.children.values()]
        .sort((a, b) => b.duration - a.duration)
        .map((slice) => {
          const placed = { ...slice, start, type: slice.name, children: place(slice, start) };
          start += slice.duration;
          return placed;
        });
    root.own = 0;
    width(root);
    return place(root, 0);
  }
}

// Give each call a row, so that no two calls in one row overlap, and a call stands below its caller where it can.
// Rows belong to lanes: a call is in that of its caller if this has room. Returns the number of rows.
function placeInRows(calls, byIndex, latest) {
  const endOf = (call) => call.end ?? latest;
  const byStart = [...calls].sort((a, b) => a.start - b.start || a.index - b.index);
  const byEnd = [...calls].sort((a, b) => endOf(a) - endOf(b));
  const depths = []; // of each lane
  const free = []; // the lanes that are free, as a heap
  for (const call of calls) call.lane = undefined;
  let ended = 0;
  for (const call of byStart) {
    for (; ended < byEnd.length && endOf(byEnd[ended]) <= call.start; ended++) {
      if (byEnd[ended].opensLane && byEnd[ended].lane !== undefined) pushToHeap(free, byEnd[ended].lane);
    }
    const caller = byIndex.get(call.parent);
    const hasRoom = caller && caller.lane !== undefined && caller.freeFrom <= call.start && endOf(call) <= endOf(caller);
    call.opensLane = !hasRoom;
    call.freeFrom = call.start;
    if (hasRoom) {
      call.lane = caller.lane;
      call.depth = caller.depth + 1;
      caller.freeFrom = endOf(call);
    } else {
      call.lane = free.length ? popFromHeap(free) : depths.push(0) - 1;
      call.depth = 0;
      if (endOf(call) <= call.start) pushToHeap(free, call.lane); // it took no time, and its end has been passed
    }
    depths[call.lane] = Math.max(depths[call.lane], call.depth + 1);
  }
  const tops = [];
  let rows = 0;
  for (const depth of depths) {
    tops.push(rows);
    rows += depth;
  }
  for (const call of calls) call.row = tops[call.lane] + call.depth;
  return rows;
}

function pushToHeap(heap, number) {
  let at = heap.push(number) - 1;
  for (let above = (at - 1) >> 1; at > 0 && heap[above] > number; at = above, above = (at - 1) >> 1) heap[at] = heap[above];
  heap[at] = number;
}

// Remove the least number of a heap that has one, and return it.
function popFromHeap(heap) {
  const [least] = heap, last = heap.pop();
  for (let at = 0, below = 1; at < heap.length; at = below, below = 2 * at + 1) {
    if (below + 1 < heap.length && heap[below + 1] < heap[below]) below++;
    if (below >= heap.length || heap[below] >= last) {
      heap[at] = last;
      break;
    }
    heap[at] = heap[below];
  }
  return least;
}

// Return the calls that one call made, with a fold in place of many of one name, as `info.tree()` has it.
function foldSiblings(calls, folds) {
  if (calls.length < folds.from) return calls.map((call) => ({ call }));
  const groups = new Map();
  for (const call of calls) {
    if (!groups.has(call.name)) groups.set(call.name, []);
    groups.get(call.name).push(call);
  }
  const found = [];
  for (const call of calls) {
    const group = groups.get(call.name);
    if (group.length < folds.from) found.push({ call });
    else if (group[0] === call) found.push({ fold: makeFold(group, folds) });
  }
  return found;
}

function makeFold(calls, { shownUnusual, words }) {
  const counts = new Map();
  let slowest = null, quickest = null;
  for (const call of calls) {
    counts.set(call.kind, (counts.get(call.kind) || 0) + 1);
    if (call.end === null) continue;
    if (!slowest || call.seconds > slowest.seconds) slowest = call;
    if (!quickest || call.seconds < quickest.seconds) quickest = call;
  }
  const unusual = calls.filter((call) => call.unusual);
  const shown = unusual.slice(0, shownUnusual);
  if (slowest && !shown.includes(slowest)) shown.push(slowest);
  shown.sort((a, b) => a.index - b.index);
  const parts = Object.keys(words).filter((status) => counts.has(status));
  const texts = parts.map((status) => `${counts.get(status)} ${words[status]}`);
  const below = unusual.filter((call) => call.status === COMPLETED).length;
  if (below) texts[0] += ` (${below} with a call below that did not complete)`;
  const times = slowest ? `, ${duration(quickest.seconds)} to ${duration(slowest.seconds)}` : "";
  return {
    key: calls[0].index, name: calls[0].name, calls, slowest, shown,
    rest: unusual.filter((call) => !shown.includes(call)),
    summary: `× ${calls.length}: ${texts.join(", ")}${times}`,
  };
}

// Return a duration as people write it, as Python's shown_seconds does.
function duration(seconds) {
  if (seconds === null || seconds === undefined) return "";
  seconds = Math.max(seconds, 0);
  if (seconds < 0.0009995) return `${(seconds * 1e6).toFixed(0)} µs`;
  for (const [limit, factor, unit] of [[0.9995, 1e3, "ms"], [59.95, 1, "s"]]) {
    if (seconds < limit) {
      const value = seconds * factor;
      return `${value >= 100 ? value.toFixed(0) : Number(value.toPrecision(3))} ${unit}`;
    }
  }
  const whole = Math.round(seconds), two = (number) => String(number).padStart(2, "0");
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  if (whole < 172800) return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`;
  return `${Math.floor(whole / 86400)} d ${two(Math.floor((whole % 86400) / 3600))} h`;
}

function counted(number, noun) {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}
