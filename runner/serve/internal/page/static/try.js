// The form that calls a pipeline or a node, and shows the result.

import { Failure, getJSON, pathOf, request } from "./api.js";
import { duration, h, newID, setText } from "./dom.js";
import { fileField, hasForm, jsonField, makeField, mediaOf, Mistake } from "./form.js";
import { Shown } from "./result.js";

/** Return the schema of the inputs of a node: that of its only input, or a map by name. */
function schemaOf(node) {
  const inputs = node?.inputs ?? [];
  if (inputs.length === 1) return inputs[0].schema ?? {};
  if (inputs.length === 0) return undefined;
  const $defs = Object.assign({}, ...inputs.map((i) => i.schema?.$defs ?? {}));
  const properties = Object.fromEntries(inputs.map((i) => [i.name, i.schema ?? {}]));
  return { type: "object", properties, required: inputs.filter((i) => i.required).map((i) => i.name), $defs };
}

/** TryPanel calls a pipeline. */
export class TryPanel {
  constructor(pipeline) {
    Object.assign(this, { pipeline, nodes: [], shown: new Shown() });
    const title = newID();
    this.target = h("select", { id: newID(), onchange: () => this.showModes() },
      h("option", { value: "" }, `${pipeline.name} (the pipeline)`),
      pipeline.nodes.map((n) => h("option", { value: n.node }, `${n.node} (one node)`)));
    this.about = h("p", { class: "about" });
    this.modes = h("div", { class: "modes", role: "radiogroup", "aria-label": "Kind of input" });
    this.input = h("div", { class: "input", oninput: () => (this.isTouched = true) });
    this.stream = h("input", { type: "checkbox", id: newID() });
    this.streaming = h("div", { class: "field check" }, this.stream, h("label", { for: this.stream.id }, "Show each value as soon as there is one"));
    this.send = h("button", { type: "submit", class: "primary" }, "Call");
    this.cancel = h("button", { type: "button", hidden: true, onclick: () => this.aborter?.abort() }, "Cancel");
    this.status = h("p", { class: "note", role: "status" });
    this.result = h("div", { class: "result" });
    const form = h("form", { onsubmit: (event) => this.submit(event) },
      h("div", { class: "field" }, h("label", { for: this.target.id }, "Call"), this.target), this.about, this.modes, this.input,
      this.streaming, h("div", { class: "row" }, this.send, this.cancel, this.status));
    this.element = h("section", { class: "panel try", "aria-labelledby": title }, h("h2", { id: title }, "Try a call"), form, this.result);
    this.showModes();
    this.describe();
  }

  close() {
    this.closed = true;
    this.aborter?.abort();
    this.shown.clear();
  }

  /** Get the schemas, for which the server may have to import the code. */
  async describe() {
    try {
      this.nodes = (await getJSON(pathOf(this.pipeline.name))).nodes;
    } catch (error) {
      setText(this.about, `The schemas are not known: ${error.message}`);
      return;
    }
    if (!this.closed && !this.isTouched) this.showModes(); // what was typed meanwhile stays
  }

  /** Return the described node that takes the input, if there is a single one. */
  described() {
    const id = this.target.value || (this.pipeline.sources.length === 1 ? this.pipeline.sources[0] : undefined);
    return this.nodes.find((n) => n.id === id);
  }

  showModes() {
    const node = this.described();
    const schema = schemaOf(node);
    this.streaming.hidden = Boolean(this.target.value);
    if (node) setText(this.about, node.doc || "");
    const modes = [["json", "JSON"], ["file", "File"]];
    if (schema && hasForm(schema)) modes.unshift(["form", "Form"]);
    const name = newID();
    this.modes.replaceChildren(...modes.map(([value, label], i) => {
      const radio = h("input", { type: "radio", name, value, id: newID(), checked: i === 0, onchange: () => this.showInput(value, node, schema) });
      return h("span", { class: "mode" }, radio, h("label", { for: radio.id }, label));
    }));
    this.showInput(modes[0][0], node, schema);
  }

  showInput(mode, node, schema) {
    this.mode = mode;
    const label = node?.inputs?.length === 1 ? node.inputs[0].name : "input";
    const context = { root: schema, label, required: true };
    if (mode === "form") this.field = makeField(schema, { label });
    else if (mode === "file") this.field = fileField(schema && mediaOf(schema), context);
    else this.field = jsonField({ ...context, root: schema ?? {} }, schema ?? {});
    this.input.replaceChildren(this.field.element);
  }

  /** Return the body of the request, with its headers. */
  body() {
    const parts = this.field.fields;
    if (parts?.some((f) => f.file())) {
      const form = new FormData();
      for (const f of parts) {
        const file = f.file();
        const text = f.json();
        if (file) form.append(f.name, file, file.name);
        else if (text !== undefined) form.append(f.name, new Blob([text], { type: "application/json" }), "");
      }
      return { body: form, headers: {} };
    }
    const file = this.field.file();
    if (file) return { body: file, headers: file.type ? { "Content-Type": file.type } : {} };
    return { body: this.field.json() ?? "null", headers: { "Content-Type": "application/json" } };
  }

  async submit(event) {
    event.preventDefault();
    setText(this.status, "");
    let options;
    try {
      options = this.body();
    } catch (error) {
      if (!(error instanceof Mistake)) throw error;
      this.fail(error.message);
      error.input.focus();
      return;
    }
    const isStream = this.stream.checked && !this.target.value;
    options.headers.Accept = isStream ? "application/x-ndjson" : this.accepts();
    await this.call(options, isStream);
  }

  /** Return the types of answers that the page can show. Tables are best as CSV. */
  accepts() {
    const sink = this.target.value || (this.pipeline.sinks.length === 1 ? this.pipeline.sinks[0] : undefined);
    const node = this.nodes.find((n) => n.id === sink);
    return node?.output && mediaOf(node.output) === "table" && !node.many ? "text/csv, application/json;q=0.9" : "application/json";
  }

  async call(options, isStream) {
    const began = performance.now();
    this.aborter = new AbortController();
    this.send.disabled = true;
    this.cancel.hidden = false;
    this.status.classList.remove("bad");
    setText(this.status, "calling …");
    this.shown.clear();
    this.result.replaceChildren();
    try {
      const answer = await request(pathOf(this.pipeline.name, this.target.value), { method: "POST", signal: this.aborter.signal, ...options });
      if (isStream) await this.showStream(answer);
      else this.result.replaceChildren(...await this.shown.answer(answer));
      setText(this.status, `done after ${duration((performance.now() - began) / 1000)}`);
    } catch (error) {
      this.fail(this.aborter.signal.aborted ? "canceled" : error.message, error);
    }
    this.send.disabled = false;
    this.cancel.hidden = true;
  }

  /** Show the values of a stream while they arrive. */
  async showStream(answer) {
    const list = h("ol", { class: "values" });
    this.result.replaceChildren(list);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      const lines = (rest + (value ?? "")).split("\n");
      rest = lines.pop();
      for (const line of lines.filter((text) => text.trim())) {
        const record = JSON.parse(line);
        if (record.error) throw new Failure(record.error.status, record.error);
        // The text of the value has integers that JavaScript would round. Ids have no quotes.
        const text = line.slice(line.indexOf('"result":') + '"result":'.length, line.lastIndexOf("}"));
        list.append(h("li", {}, record.node && h("b", {}, record.node), ...this.shown.json(text)));
        if (list.childElementCount > 500) list.firstElementChild.remove();
      }
      if (done) return;
    }
  }

  fail(message, error) {
    setText(this.status, message);
    this.status.classList.add("bad");
    const p = error?.problem;
    if (!p?.title) return;
    const facts = [["status", p.status], ["kind", p.kind], ["node", p.node], ["exception", p.exception], ["attempt", p.attempt && `${p.attempt} of ${p.attempts}`],
      ["hint", p.hint], ["request", p.request_id]].filter(([, value]) => value);
    this.result.append(h("div", { class: "problem" }, h("h3", {}, p.title), p.detail && h("p", {}, p.detail),
      h("dl", {}, facts.map(([name, value]) => [h("dt", {}, name), h("dd", {}, String(value))])),
      p.error && h("pre", { class: "failure", tabindex: "0", role: "region", "aria-label": "All that is known of the error" }, JSON.stringify(p.error, null, 2))));
  }
}
