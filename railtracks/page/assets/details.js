// What is known of one call: its arguments, its result or its traceback, and the lines of the log about it.

class Details {
  constructor(model, app) {
    this.model = model;
    this.app = app;
    this.view = el("aside", { class: "card details", id: "details", "aria-label": "Details of a call", tabindex: "-1" });
    this.show(null);
  }

  show(call) {
    this.call = call;
    this.view.classList.toggle("empty", !call);
    document.body.classList.toggle("has-details", Boolean(call));
    if (!call) {
      this.view.replaceChildren();
      return;
    }
    const { more } = call;
    this.view.replaceChildren(...[
      el("div", { class: "bar-of-tools" }, el("h2", {}, "Details"),
        el("button", { type: "button", title: "Close (Esc)", class: "close", onclick: () => this.app.select(null) }, "✕")),
      el("h3", {}, call.title),
      el("p", { class: `state ${call.status.toLowerCase()}` }, statusMark(call.status), call.statusText),
      more.why ? el("p", {}, more.why) : null,
      call.error ? el("p", { class: "error" }, call.error) : null,
      this.facts(call),
      this.argumentsView(call),
      "result" in more ? this.block("Result", pretty(more.result), "result") : null,
      more.traceback ? this.block("Traceback", more.traceback, "traceback") : null,
      more.attributes ? this.block("Attributes", pretty(more.attributes), "attributes") : null,
      this.logView(call),
    ].filter(Boolean));
    this.view.scrollTop = 0;
    const traceback = this.view.querySelector(".traceback pre");
    if (traceback) traceback.scrollTop = traceback.scrollHeight; // its end says most
  }

  facts(call) {
    const { more } = call;
    const policy = more.policy || {};
    const caller = this.model.get(call.parent);
    const raisers = (more.raisedBy || []).map((index) => this.model.get(index)).filter(Boolean);
    const facts = [
      ["took", call.end === null ? null : `${duration(call.seconds)}${call.isReused ? ", in an earlier attempt" : ""}`],
      ["own time", call.own === null ? null : duration(call.own / 1000)],
      ["began at", call.isReused ? null : `+${duration(call.start / 1000)}`],
      ["made by", caller ? callLink(caller, this.app) : null],
      ["raised by", raisers.length ? el("span", {}, ...raisers.slice(0, 5).map((each) => callLink(each, this.app))) : null],
      ["made", call.children.length ? counted(call.children.length, "call") : null],
      ["waited", more.waited],
      ["attempt", more.attempt],
      ["tries", policy.retry || policy.retried ? `attempt ${(policy.retry || 0) + 1}${policy.retried ? ", which was tried again" : ""}` : null],
      ["result", policy.cached ? `of an equal call, cached in the ${policy.cached}` : null],
      ["waited", policy.waited ? duration(policy.waited) : null],
      ["ran in", policy.place],
      ["reuse", more.reuse],
      ["thread", more.abandoned ? "It went on after the call was cancelled." : null],
      ["identifier", el("code", {}, this.model.nodeId(call))],
    ].filter(([, value]) => value !== null && value !== undefined);
    return el("dl", { class: "facts" }, ...facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value instanceof Node ? value : String(value)))));
  }

  argumentsView(call) {
    if (!call.args) return null;
    if (!call.more.arguments) return this.block("Arguments", call.args, "arguments-block");
    const rows = call.more.arguments.map(([name, text]) => el("div", {}, el("dt", {}, name), el("dd", {}, el("pre", {}, pretty(text)))));
    return el("div", { class: "arguments-block" }, el("h4", {}, "Arguments"), el("dl", { class: "values" }, ...rows));
  }

  block(title, text, kind) {
    return el("div", { class: kind }, el("h4", {}, title), el("pre", { tabindex: "0" }, text));
  }

  logView(call) {
    const { log } = this.app.data;
    if (!log) return null;
    const lines = log.calls[call.index] || [];
    return lines.length
      ? this.block("Log", lines.join("\n"), "log")
      : el("div", { class: "log" }, el("h4", {}, "Log"), el("p", { class: "dim" }, "No line of the log is about this call."));
  }
}

// Return JSON text with line breaks. Text that was cut is not JSON, and stays as it is.
function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
