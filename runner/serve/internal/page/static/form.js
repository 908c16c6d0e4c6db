// Fields for a JSON Schema. A field returns JSON text, not a value, so that integers keep their
// 64 bits, or a file for what JSON does not have.

import { h, newID } from "./dom.js";
import { Recorder } from "./recorder.js";

const media = ["audio", "image", "tensor", "table", "bytes"];
const deepest = 4;

/** Mistake says what is wrong with a field. */
export class Mistake extends Error {
  constructor(input, message) {
    super(message);
    this.input = input;
  }
}

/** Follow references, and leave null out of alternatives. */
function resolve(schema, root) {
  let isOptional = false;
  for (let i = 0; i < 20 && schema; i++) {
    if (schema.$ref?.startsWith("#/")) {
      schema = schema.$ref.slice(2).split("/").reduce((at, key) => at?.[key.replaceAll("~1", "/").replaceAll("~0", "~")], root);
      continue;
    }
    const others = schema.anyOf?.filter((one) => one.type !== "null");
    if (others?.length === 1) {
      isOptional ||= schema.anyOf.length > 1;
      schema = { default: schema.default, title: schema.title, ...others[0] };
      continue;
    }
    break;
  }
  return { schema: schema ?? {}, isOptional };
}

/** Return what a schema takes beside JSON, or nothing. */
export function mediaOf(schema, root = schema) {
  const kind = resolve(schema, root).schema["x-gophersnake"];
  return media.includes(kind) ? kind : undefined;
}

/** Report whether a form can be made of a schema that is better than JSON. */
export function hasForm(schema) {
  const own = resolve(schema, schema).schema;
  return Boolean(own.enum || own.properties || mediaOf(schema) || ["string", "integer", "number", "boolean", "array"].includes(own.type));
}

/** Return an example of a schema. */
export function example(schema, root = schema, depth = 0) {
  const own = resolve(schema ?? {}, root ?? {}).schema;
  if (own.default !== undefined && own.default !== null) return own.default;
  if (own.enum) return own.enum[0];
  if (depth > deepest) return null;
  switch (own.type) {
    case "string": return "";
    case "integer": case "number": return 0;
    case "boolean": return false;
    case "array": return own.items ? [example(own.items, root, depth + 1)] : [];
    case "object": {
      const required = Object.entries(own.properties ?? {}).filter(([name]) => own.required?.includes(name));
      return Object.fromEntries(required.map(([name, one]) => [name, example(one, root, depth + 1)]));
    }
  }
  return null;
}

/** Make the field for a schema: {element, json(), file()}. */
export function makeField(schema, { root = schema, label = "Input", required = true, depth = 0 } = {}) {
  const { schema: own, isOptional } = resolve(schema, root);
  const context = { root, label, depth, required: required && !isOptional, isNullable: isOptional && required };
  const kind = mediaOf(own, root);
  if (kind) return fileField(kind, context);
  if (own.enum) return choiceField(own.enum, context, own.default);
  if (depth < deepest) {
    if (own.type === "object" && own.properties) return objectField(own, context);
    if (own.type === "array" && own.items && !Array.isArray(own.items)) return listField(own, context);
  }
  switch (own.type) {
    case "boolean": return checkField(own, context);
    case "integer": case "number": return textField(context, numberOf(own.type), { inputmode: "decimal", value: textOf(own.default) });
    case "string": return stringField(own, context);
  }
  return jsonField(context, own);
}

const textOf = (value) => (value === undefined || value === null ? "" : String(value));

/** Make a field of one input with its label. */
function labeled(context, input) {
  input.id = newID();
  const label = context.required ? context.label : `${context.label} (optional)`;
  return h("div", { class: "field" }, h("label", { for: input.id }, label), input);
}

/** Make a field of text. convert returns the JSON text, or throws a string. */
function textField(context, convert, attributes = {}, tag = "input") {
  const input = h(tag, { ...attributes, autocomplete: "off", spellcheck: "false" });
  return {
    element: labeled(context, input),
    json() {
      input.removeAttribute("aria-invalid");
      if (input.value === "" && !context.required) return context.isNullable ? "null" : undefined;
      try {
        return convert(input.value);
      } catch (error) {
        input.setAttribute("aria-invalid", "true");
        throw new Mistake(input, `${context.label}: ${error.message}`);
      }
    },
    file: () => undefined,
  };
}

const number = /^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/;

function numberOf(type) {
  return (text) => {
    const trimmed = text.trim();
    if (!number.test(trimmed) || (type === "integer" && !/^-?\d+$/.test(trimmed))) throw new Error(`it takes ${type === "integer" ? "an integer" : "a number"}`);
    return trimmed;
  };
}

function stringField(own, context) {
  const types = { date: "date", time: "time" };
  const type = types[own.format];
  if (type) return textField(context, JSON.stringify, { type, value: textOf(own.default) });
  return textField(context, JSON.stringify, { rows: 1, value: textOf(own.default) }, "textarea");
}

/** Make a field for JSON. */
export function jsonField(context, schema) {
  const value = schema ? JSON.stringify(example(schema, context.root), null, 2) : "";
  return textField(context, (text) => {
    JSON.parse(text); // only to check it
    return text;
  }, { rows: 5, class: "code", value }, "textarea");
}

function choiceField(values, context, preset) {
  const options = values.map((v) => h("option", { value: JSON.stringify(v), selected: v === preset }, String(v)));
  if (!context.required) options.unshift(h("option", { value: "" }, "–"));
  const input = h("select", {}, options);
  return {
    element: labeled(context, input),
    json: () => input.value || (context.isNullable ? "null" : undefined),
    file: () => undefined,
  };
}

function checkField(own, context) {
  const input = h("input", { type: "checkbox", id: newID(), checked: own.default === true });
  return {
    element: h("div", { class: "field check" }, input, h("label", { for: input.id }, context.label)),
    json: () => String(input.checked),
    file: () => undefined,
  };
}

function objectField(own, context) {
  const fields = Object.entries(own.properties).map(([name, one]) => ({
    name, ...makeField(one, { root: context.root, label: name, required: own.required?.includes(name), depth: context.depth + 1 }),
  }));
  const group = h("fieldset", {}, h("legend", {}, context.label), fields.map((f) => f.element));
  const body = context.required ? group : h("details", {}, h("summary", {}, `${context.label} (optional)`), group);
  const isUsed = () => context.required || body.open;
  return {
    element: body,
    fields,
    json() {
      if (!isUsed()) return context.isNullable ? "null" : undefined;
      const members = fields.map((f) => [f.name, f.json()]).filter(([, text]) => text !== undefined);
      return `{${members.map(([name, text]) => `${JSON.stringify(name)}:${text}`).join(",")}}`;
    },
    file: () => undefined,
  };
}

function listField(own, context) {
  const items = h("div", { class: "items" });
  const fields = new Map();
  const add = () => {
    const field = makeField(own.items, { root: context.root, label: `${context.label} ${fields.size + 1}`, depth: context.depth + 1 });
    const remove = h("button", { type: "button", class: "quiet", "aria-label": `Remove ${context.label}` }, "Remove");
    const row = h("div", { class: "item" }, field.element, remove);
    remove.addEventListener("click", () => {
      row.remove();
      fields.delete(row);
    });
    fields.set(row, field);
    items.append(row);
  };
  if (context.required) add();
  const group = h("fieldset", {}, h("legend", {}, context.label), items, h("button", { type: "button", class: "quiet", onclick: add }, "Add"));
  return {
    element: group,
    json() {
      if (fields.size === 0 && !context.required) return context.isNullable ? "null" : undefined;
      return `[${[...fields.values()].map((f) => f.json()).filter((text) => text !== undefined).join(",")}]`;
    },
    file: () => undefined,
  };
}

const accepts = { audio: "audio/*,.wav", image: "image/*", tensor: ".npy", table: ".csv,.tsv,.parquet,.arrow" };

/** Make a field for a file, with the microphone if that may be a recording. */
export function fileField(kind, context) {
  const input = h("input", { type: "file", accept: accepts[kind] });
  let recording;
  const status = h("span", { class: "note", role: "status" });
  input.addEventListener("change", () => {
    recording = undefined;
    status.textContent = "";
  });
  const element = labeled(context, input);
  if ((kind === "audio" || kind === undefined) && navigator.mediaDevices) {
    element.append(h("div", { class: "row" }, recordButton((file, note) => {
      if (file) recording = file;
      status.textContent = note;
    }), status));
  }
  return {
    element,
    json: () => undefined,
    file() {
      const file = recording ?? input.files[0];
      if (!file && context.required) throw new Mistake(input, `${context.label}: choose a file`);
      return file;
    },
  };
}

/** Make a button that begins and ends a recording. */
function recordButton(tell) {
  const button = h("button", { type: "button", class: "quiet" }, "Record");
  let recorder;
  button.addEventListener("click", async () => {
    try {
      if (!recorder) {
        recorder = new Recorder();
        await recorder.start();
        button.textContent = "Stop";
        tell(undefined, "recording …");
        return;
      }
      const file = await recorder.stop();
      tell(file, `recorded ${Math.round(file.size / 1024)} KiB`);
    } catch (error) {
      tell(undefined, `the microphone cannot be used: ${error.message}`);
    }
    recorder = undefined;
    button.textContent = "Record";
  });
  return button;
}
