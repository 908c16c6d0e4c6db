// The panel of one node: figures, charts, workers, the last death, the log, and its actions.

import { getJSON, pathOf, post } from "./api.js";
import { chart } from "./charts.js";
import { ago, bytes, count, duration, h, rate, setChildren, setText, several } from "./dom.js";
import { badge } from "./graph.js";

/** Add the values of an object. */
function sum(object) {
  return Object.values(object ?? {}).reduce((a, b) => a + b, 0);
}

/** Make a button that runs an action, and says in note how it went. */
export function actionButton(label, note, run) {
  const button = h("button", { type: "button" }, label);
  button.addEventListener("click", async () => {
    button.disabled = true;
    setText(note, "…");
    note.classList.remove("bad");
    try {
      setText(note, await run());
    } catch (error) {
      setText(note, error.message);
      note.classList.add("bad");
    }
    button.disabled = false;
    button.focus();
  });
  return button;
}

/** Make a table whose wide content scrolls by itself. */
export function table(caption, heads, rows) {
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", {}, h("thead", {}, h("tr", {}, heads.map((text) => h("th", { scope: "col" }, text)))),
      h("tbody", {}, rows.map((cells) => h("tr", {}, cells.map((cell) => h("td", {}, cell)))))));
}

/** NodePanel shows a node. */
export class NodePanel {
  constructor(pipeline, node, may) {
    Object.assign(this, { pipeline, node, lastLog: 0, records: [] });
    this.state = h("span");
    this.reason = h("p", { class: "reason", hidden: true });
    this.tiles = h("dl", { class: "tiles" });
    this.charts = h("div", { class: "charts" });
    this.workers = h("div");
    this.death = h("div");
    this.note = h("span", { class: "note", role: "status" });
    this.restart = may.admin && h("span", { class: "action" }, this.note, actionButton("Restart", this.note, async () => {
      const done = await post(`${pathOf(pipeline, node)}/restart`);
      return `${several(done.nodes.length, "node")} restarted`;
    }));
    this.logs = h("ol", { class: "log", tabindex: "0", "aria-label": `Log of ${node}` });
    this.element = h("section", { class: "panel", "aria-label": `Node ${node}` },
      h("div", { class: "head" }, h("h2", {}, node), this.state, this.restart),
      this.reason, this.tiles, this.charts, this.workers, this.death,
      h("h3", {}, "Log"), may.logs ? this.logs : h("p", { class: "empty" }, "Only a token with the attribute admin shows the log."));
    this.showsLogs = may.logs;
  }

  close() {
    this.closed = true;
  }

  update(node, now) {
    setChildren(this.state, node.state, () => badge(node.state));
    setText(this.reason, node.reason ?? "");
    this.reason.hidden = !node.reason || node.state === "healthy";
    this.updateTiles(node);
    if (node.recent) this.updateCharts(node.recent);
    this.updateWorkers(node.pool);
    this.updateDeath(node, now);
    if (this.showsLogs && (node.last_log ?? 0) !== this.lastLog) this.fetchLogs();
  }

  updateTiles(node) {
    const failed = sum(node.failed);
    const tiles = [["Calls", count(node.calls)], ["Failed", count(failed), failed > 0], ["Retries", count(node.retries)]];
    if (node.canceled) tiles.push(["Canceled", count(node.canceled)]);
    if (node.workers) tiles.push(["Waiting", count(node.workers.waiting_calls), node.workers.waiting_calls > 0]);
    tiles.push(["Breaker", node.breaker, node.breaker !== "closed"]);
    for (const [machine, state] of Object.entries(node.machine_breakers ?? {})) {
      tiles.push(["Breaker for " + machine, state, state !== "closed"]);
    }
    if (node.pool) {
      const deaths = sum(node.pool.deaths);
      tiles.push(["Deaths", count(deaths), deaths > 0]);
      if (node.pool.generation > 1) tiles.push(["Generation", count(node.pool.generation)]);
    }
    setChildren(this.tiles, JSON.stringify(tiles), () => tiles.map(([name, value, stands]) =>
      h("div", { class: stands ? "stands" : "" }, h("dt", {}, name), h("dd", {}, value))));
  }

  updateCharts(r) {
    this.charts.replaceChildren(
      chart("Calls", [{ values: r.history.rate, kind: "rate" }], [["rate", "now", rate(r.rate)]], rate),
      chart("Duration", [{ values: r.history.p99, kind: "p99" }, { values: r.history.p50, kind: "p50" }],
        [["p50", "p50", duration(r.p50)], ["p99", "p99", duration(r.p99)]], duration));
  }

  updateWorkers(pool) {
    if (!pool) return;
    const rows = pool.workers.map((w) => [w.pid, w.role, w.load ? `busy (${w.load})` : "idle", count(w.calls), duration(w.age), bytes(w.resident), duration(w.cpu)].map(String));
    setChildren(this.workers, JSON.stringify(rows), () => [h("h3", {}, "Workers"), rows.length
      ? table("Workers", ["PID", "Role", "State", "Calls", "Age", "Memory", "CPU"], rows)
      : h("p", { class: "empty" }, pool.next_start ? "There are none; a call starts one." : "There are none.")]);
  }

  updateDeath(node, now) {
    const death = node.last_death;
    const error = node.last_error;
    const key = `${death?.time} ${error?.text} ${Boolean(death?.report)}`;
    setChildren(this.death, key, () => {
      this.when = h("span", { class: "when" });
      const parts = [];
      if (death) parts.push(h("h3", {}, "Last death ", this.when), failure(death));
      if (error && error.text !== death?.text) parts.push(h("h3", {}, "Last error"), failure(error));
      return parts;
    });
    if (death) setText(this.when, ago(death.time, now));
  }

  /** Get the records that are not shown yet. */
  async fetchLogs() {
    if (this.fetching) return;
    this.fetching = true;
    try {
      const { records } = await getJSON(`${pathOf(this.pipeline, this.node)}/logs?after=${this.lastLog}`);
      if (!this.closed && records.length) this.addRecords(records);
    } catch {
      // The next status tries again.
    }
    this.fetching = false;
  }

  addRecords(records) {
    this.lastLog = records.at(-1).number;
    const atEnd = this.logs.scrollHeight - this.logs.scrollTop - this.logs.clientHeight < 24;
    for (const r of records) {
      this.logs.append(h("li", { class: r.level }, h("time", { datetime: r.time }, new Date(r.time).toLocaleTimeString("en-GB")),
        h("span", { class: "level" }, r.level), h("span", { class: "text" }, r.logger ? `${r.logger}: ${r.text}` : r.text)));
    }
    while (this.logs.childElementCount > 200) this.logs.firstElementChild.remove();
    if (atEnd) this.logs.scrollTop = this.logs.scrollHeight;
  }
}

/** Make the picture of a failure: its report if the server tells it, else its line. */
function failure(f) {
  return h("pre", { class: "failure", tabindex: "0", role: "region", "aria-label": "Report of the failure" }, f.report || f.text);
}
