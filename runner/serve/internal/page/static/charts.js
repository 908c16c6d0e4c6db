// Small charts of the last minute.

import { h, s } from "./dom.js";

const width = 240;
const height = 56;

/** Return the path of a line, and the same closed at the bottom for an area. */
function paths(values, most) {
  const step = width / Math.max(values.length - 1, 1);
  const points = values.map((v, i) => `${(i * step).toFixed(1)},${(height - 2 - (v / most) * (height - 6)).toFixed(1)}`);
  const line = `M${points.join("L")}`;
  return { line, area: `${line}L${width},${height}L0,${height}Z` };
}

/** Make the drawing of one or more series, each {values, kind}. It is decoration: a caption tells the figures. */
export function drawing(series) {
  const most = Math.max(...series.flatMap((one) => one.values), 1e-9);
  const svg = s("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true", focusable: "false" });
  for (const { values, kind } of series) {
    if (values.length === 0) continue;
    const { line, area } = paths(values, most);
    svg.append(s("path", { class: `area ${kind}`, d: area }), s("path", { class: `line ${kind}`, d: line }));
  }
  return svg;
}

/** Make a chart with a caption. Legend entries are [kind, name, figure]. */
export function chart(title, series, legend, format) {
  const most = Math.max(...series.flatMap((one) => one.values), 0);
  return h("figure", { class: "figure" },
    h("figcaption", {}, h("span", { class: "title" }, title),
      legend.map(([kind, name, figure]) => h("span", { class: "legend" }, h("span", { class: `key ${kind}` }), `${name} `, h("b", {}, figure)))),
    drawing(series),
    h("p", { class: "scale" }, h("span", {}, "1 min ago"), h("span", {}, most > 0 ? `highest ${format(most)}` : "no calls"), h("span", {}, "now")));
}
