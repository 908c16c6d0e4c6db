// The graph of a pipeline: connections in SVG, and a button for each node on top of it.

import { drawing } from "./charts.js";
import { duration, h, rate, s, setChildren, setText, several } from "./dom.js";

const card = { width: 236, height: 152 };
const gap = { x: 72, y: 28 };
const margin = 6; // of the element, for the outlines of nodes at its edges
const gutter = 26; // at the left of a column, for connections that pass nodes by

const symbols = { healthy: "●", degraded: "▲", unhealthy: "✕", starting: "◔", new: "○", draining: "◌", closed: "■" };

/** Make the badge of a state: a symbol and a word, so that it does not depend on colors. */
export function badge(state) {
  return h("span", { class: `badge ${state}` }, h("span", { "aria-hidden": "true" }, symbols[state] ?? "○"), ` ${state}`);
}

/** Say how many workers of each kind a node has. */
export function workersText(node) {
  const w = node.workers;
  if (!w) return node.kind === "go" ? "runs in this process" : "no workers";
  const parts = [`${w.busy} busy`, `${w.idle} idle`];
  if (w.spares) parts.push(several(w.spares, "spare"));
  if (w.starting) parts.push(`${w.starting} starting`);
  return parts.join(" · ");
}

/** Make a mark for each worker. */
function marks(node) {
  const w = node.workers;
  if (!w) return [];
  const kinds = [["busy", w.busy], ["idle", w.idle], ["spare", w.spares], ["starting", w.starting]];
  const all = kinds.flatMap(([kind, number]) => Array(Math.min(number, 12)).fill(kind));
  return all.slice(0, 16).map((kind) => h("span", { class: `mark ${kind}` }));
}

/** Return the layer of each node: the length of the longest way to it. */
function layersOf(pipeline) {
  const layer = new Map(pipeline.nodes.map((n) => [n.node, 0]));
  for (const n of pipeline.nodes) { // they are in the order in which they run
    for (const c of pipeline.connections) {
      if (c.to === n.node) layer.set(n.node, Math.max(layer.get(n.node), layer.get(c.from) + 1));
    }
  }
  const layers = [];
  for (const n of pipeline.nodes) (layers[layer.get(n.node)] ??= []).push(n.node);
  return layers;
}

/** Return the places of the nodes in a width: from left to right, or in one column. */
function layout(layers, available) {
  const places = new Map();
  const across = layers.length * card.width + (layers.length - 1) * gap.x;
  if (across <= available) {
    const highest = Math.max(...layers.map((ids) => ids.length));
    const height = highest * card.height + (highest - 1) * gap.y;
    layers.forEach((ids, i) => ids.forEach((id, j) => {
      const own = ids.length * card.height + (ids.length - 1) * gap.y;
      places.set(id, { x: i * (card.width + gap.x), y: (height - own) / 2 + j * (card.height + gap.y), width: card.width, index: i });
    }));
    return { places, width: across, height, isColumn: false };
  }
  const ids = layers.flat();
  const left = ids.length > 2 ? gutter : 0;
  const width = Math.min(available - left, 420);
  ids.forEach((id, i) => places.set(id, { x: left, y: i * (card.height + gap.y), width, index: i }));
  return { places, width: width + left, height: ids.length * (card.height + gap.y) - gap.y, isColumn: true };
}

/** Return the path of a connection. */
function connection(from, to, isColumn) {
  if (!isColumn) {
    const [x1, y1, x2, y2] = [from.x + from.width, from.y + card.height / 2, to.x - 7, to.y + card.height / 2];
    const bend = Math.max(30, (x2 - x1) / 2);
    return { d: `M${x1},${y1}C${x1 + bend},${y1} ${x2 - bend},${y2} ${x2},${y2}`, x: (x1 + x2) / 2, y: (y1 + y2) / 2 - 8 };
  }
  if (to.index === from.index + 1) {
    const x = from.x + from.width / 2;
    return { d: `M${x},${from.y + card.height}L${x},${to.y - 7}`, x: x + 10, y: to.y - gap.y / 2 + 3 };
  }
  const [y1, y2] = [from.y + card.height - 24, to.y + 24];
  return { d: `M${from.x},${y1}C3,${y1} 3,${y2} ${from.x - 7},${y2}` }; // there is no room for the name of a port
}

/** Graph shows a pipeline. It calls select with the id of a node that is chosen. */
export class Graph {
  constructor(pipeline, select) {
    this.pipeline = pipeline;
    this.layers = layersOf(pipeline);
    this.cards = new Map();
    this.lines = s("svg", { class: "lines", "aria-hidden": "true", focusable: "false" });
    this.canvas = h("div", { class: "canvas" }, this.lines);
    for (const n of pipeline.nodes) {
      const parts = {
        state: h("span"), marks: h("span", { class: "marks", "aria-hidden": "true" }), workers: h("span", { class: "workers" }),
        queue: h("span", { class: "queue" }), figures: h("span", { class: "figures" }), chart: h("span", { class: "spark" }),
      };
      const button = h("button", { type: "button", class: "node", "aria-pressed": "false", onclick: () => select(n.node) },
        h("span", { class: "head" }, h("span", { class: "name" }, n.node), parts.state),
        h("span", { class: "type" }, `${n.type} · ${n.kind}`),
        h("span", { class: "row" }, parts.marks, parts.queue), parts.workers, parts.figures, parts.chart);
      this.cards.set(n.node, { button, parts });
      this.canvas.append(button);
    }
    this.element = h("div", { class: "graph" }, this.canvas);
    this.observer = new ResizeObserver(() => this.place());
    this.observer.observe(this.element);
  }

  close() {
    this.observer.disconnect();
  }

  /** Place the nodes and draw the connections. */
  place() {
    const available = this.element.clientWidth - margin;
    if (available === this.placed || available <= 0) return;
    this.placed = available;
    const { places, width, height, isColumn } = layout(this.layers, available);
    this.canvas.style.width = `${width}px`;
    this.canvas.style.height = `${height}px`;
    for (const [id, { button }] of this.cards) {
      const { x, y, width: own } = places.get(id);
      Object.assign(button.style, { left: `${x}px`, top: `${y}px`, width: `${own}px`, height: `${card.height}px` });
    }
    const head = s("marker", { id: "head", viewBox: "0 0 8 8", refX: 2, refY: 4, markerWidth: 8, markerHeight: 8, markerUnits: "userSpaceOnUse", orient: "auto" },
      s("path", { class: "head", d: "M0,0L8,4L0,8Z" }));
    this.lines.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.lines.replaceChildren(s("defs", {}, head), ...this.pipeline.connections.flatMap((c) => {
      const { d, x, y } = connection(places.get(c.from), places.get(c.to), isColumn);
      const line = s("path", { class: "connection", d, "marker-end": "url(#head)" });
      return c.port && x !== undefined ? [line, s("text", { class: "port", x, y, "text-anchor": isColumn ? "start" : "middle" }, c.port)] : [line];
    }));
  }

  /** Show the figures of a status. */
  update(pipeline, selected) {
    for (const n of pipeline.nodes) {
      const { button, parts } = this.cards.get(n.node);
      button.setAttribute("aria-pressed", String(n.node === selected));
      button.dataset.state = n.state;
      setChildren(parts.state, n.state, () => badge(n.state));
      setChildren(parts.marks, JSON.stringify(n.workers ?? 0), () => marks(n));
      setText(parts.workers, workersText(n));
      setText(parts.queue, n.workers?.waiting_calls ? `${n.workers.waiting_calls} waiting` : "");
      const r = n.recent;
      setText(parts.figures, r ? `${rate(r.rate)} · p50 ${duration(r.p50)} · p99 ${duration(r.p99)}` : "");
      if (r) parts.chart.replaceChildren(drawing([{ values: r.history.rate, kind: "rate" }]));
    }
  }
}
