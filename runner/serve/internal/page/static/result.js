// Results of calls: as a picture, a sound, a table, a text, or JSON.

import { bytes, h } from "./dom.js";

const mostRows = 200;
const mostText = 200_000;

// Types that browsers show without running anything. Files of other types are only saved.
const harmless = /^(image\/(png|jpeg|gif|webp|bmp|tiff)|audio\/[\w.-]+)$/;

/** Return the type that a file has in the page. A node may name any, such as text/html. */
export function safeType(type) {
  return harmless.test(type) ? type : "application/octet-stream";
}

/** Shown keeps what is shown of results, so that the memory of files can be freed. */
export class Shown {
  constructor() {
    this.urls = [];
  }

  /** Free the memory of the files that were shown. */
  clear() {
    this.urls.forEach((url) => URL.revokeObjectURL(url));
    this.urls = [];
  }

  /** Make the elements for an answer, of which only JSON is text. */
  async answer(response) {
    const type = response.headers.get("Content-Type")?.split(";")[0];
    if (type === "application/json") return this.json(await response.text());
    if (type === "text/csv") return table(parseCSV(await response.text()));
    return this.file(await response.blob(), type);
  }

  /** Make the elements for JSON text. */
  json(text) {
    if (text.length > mostText) return [code(`${text.slice(0, mostText)} …`), this.file(new Blob([text]), "application/json")].flat();
    const value = JSON.parse(text);
    const pictures = mediaIn(value).map((m) => this.media(m));
    if (isMedia(value)) return pictures;
    if (typeof value === "string") return [h("pre", { class: "text", tabindex: "0", role: "region", "aria-label": "Result" }, value)];
    const rows = rowsOf(value);
    // The text of the answer has integers that JavaScript would round.
    return [...pictures, rows ? table(rows) : code(pictures.length ? JSON.stringify(withoutMedia(value), null, 2) : indent(text))].flat();
  }

  /** Make the elements for a recording, an image, an array, a table or bytes in JSON. */
  media(m) {
    const content = Uint8Array.from(atob(m.$base64), (c) => c.charCodeAt(0));
    const { $base64: _, content_type: type, type: kind, ...more } = m;
    const facts = Object.entries(more).map(([name, v]) => `${name} ${JSON.stringify(v)}`).join(", ");
    return h("div", {}, this.file(new Blob([content], { type }), type), h("p", { class: "facts" }, [kind, facts].filter(Boolean).join(": ")));
  }

  file(blob, type = "application/octet-stream") {
    const url = URL.createObjectURL(new Blob([blob], { type: safeType(type) }));
    this.urls.push(url);
    const save = h("a", { class: "save", href: url, download: `result.${type.split("/").pop().replace(/^x-|[^a-z0-9].*$/g, "")}` }, `Save (${bytes(blob.size)})`);
    if (safeType(type).startsWith("image/")) return [h("img", { class: "picture", src: url, alt: "The image that the call returned" }), save];
    if (safeType(type).startsWith("audio/")) return [h("audio", { controls: true, src: url, "aria-label": "The recording that the call returned" }), save];
    return [save];
  }
}

const isObject = (v) => v !== null && typeof v === "object" && !Array.isArray(v);
const isMedia = (v) => isObject(v) && typeof v.$base64 === "string";

/** Return what a value has of media. */
function mediaIn(value) {
  if (isMedia(value)) return [value];
  if (value === null || typeof value !== "object") return [];
  return Object.values(value).flatMap(mediaIn).slice(0, 20);
}

function withoutMedia(value) {
  if (isMedia(value)) return `(${value.type})`;
  if (Array.isArray(value)) return value.map(withoutMedia);
  if (isObject(value)) return Object.fromEntries(Object.entries(value).map(([name, v]) => [name, withoutMedia(v)]));
  return value;
}

/** Return the rows of a value that is a list of flat objects, the names first, or nothing. */
function rowsOf(value) {
  if (!Array.isArray(value) || value.length < 1 || !value.every(isObject)) return undefined;
  const names = [...new Set(value.flatMap(Object.keys))];
  const isFlat = value.every((row) => Object.values(row).every((v) => (typeof v !== "object" || v === null) && !isUnsafe(v)));
  if (!isFlat || names.length > 30) return undefined;
  return [names, ...value.map((row) => names.map((name) => (row[name] === undefined || row[name] === null ? "" : String(row[name]))))];
}

const isUnsafe = (v) => Number.isInteger(v) && !Number.isSafeInteger(v);

function table([names, ...rows]) {
  const shown = rows.slice(0, mostRows);
  return [h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Result" },
    h("table", {}, h("thead", {}, h("tr", {}, names.map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, shown.map((row) => h("tr", {}, row.map((cell) => h("td", {}, cell))))))),
  rows.length > shown.length && h("p", { class: "facts" }, `${rows.length - shown.length} more rows`)].filter(Boolean);
}

function code(text) {
  return h("pre", { class: "code", tabindex: "0", role: "region", "aria-label": "Result" }, text);
}

/** Indent JSON text without reading its numbers. */
export function indent(text) {
  let depth = 0;
  const line = () => `\n${"  ".repeat(depth)}`;
  const tokens = text.trim().match(/"(?:\\.|[^"\\])*"|[[\]{},:]|[^\s[\]{},:"]+/g) ?? [];
  let out = "";
  tokens.forEach((token, i) => {
    const next = tokens[i + 1];
    if (token === "{" || token === "[") {
      depth += 1;
      out += token + (next === "}" || next === "]" ? "" : line());
    } else if (token === "}" || token === "]") {
      depth -= 1;
      const former = tokens[i - 1];
      out += (former === "{" || former === "[" ? "" : line()) + token;
    } else if (token === ",") out += `,${line()}`;
    else if (token === ":") out += ": ";
    else out += token;
  });
  return out;
}

/** Read CSV as the server writes it. */
function parseCSV(text) {
  const rows = [[]];
  const cell = /("(?:[^"]|"")*"|[^",\n\r]*)(,|\r?\n|$)/g;
  let match;
  while (cell.lastIndex < text.length && (match = cell.exec(text))) {
    const [, raw, end] = match;
    rows.at(-1).push(raw.startsWith('"') ? raw.slice(1, -1).replaceAll('""', '"') : raw);
    if (end !== "," && cell.lastIndex < text.length) rows.push([]);
  }
  return rows;
}
