// The page: which view it shows, and what the views have in common.

import { pathOf, post, request, Watch } from "./api.js";
import { Graph, badge } from "./graph.js";
import { actionButton, NodePanel, table } from "./node.js";
import { h, setChildren, setText, several } from "./dom.js";
import { TryPanel } from "./try.js";

const find = (id) => document.getElementById(id);
const main = find("main");
const themes = ["system", "light", "dark"];

/** Return the pipeline and the node that the address names. */
function chosen() {
  const [pipeline, node] = location.hash.slice(2).split("/").map(decodeURIComponent);
  return { pipeline: location.hash.startsWith("#/") ? pipeline : "", node };
}

function choose(pipeline, node) {
  location.hash = `#/${[pipeline, node].filter(Boolean).map(encodeURIComponent).join("/")}`;
}

/** PipelineView shows a pipeline: its graph, one of its nodes, and the form for a call. */
class PipelineView {
  constructor(pipeline, may) {
    Object.assign(this, { name: pipeline.name, may });
    this.state = h("span");
    this.reason = h("p", { class: "reason", hidden: true });
    this.note = h("span", { class: "note", role: "status" });
    this.graph = new Graph(pipeline, (node) => choose(this.name, node));
    this.place = h("div", { class: "place" });
    this.tryPanel = new TryPanel(pipeline);
    const reload = may.admin && h("span", { class: "action" }, this.note, actionButton("Reload code", this.note, async () => {
      const done = await post(`${pathOf(this.name)}/reload`);
      return `${several(done.nodes?.length ?? 0, "node")} reloaded`;
    }));
    this.element = h("div", { class: "view" },
      h("section", { class: "panel wide", "aria-label": `Pipeline ${pipeline.name}` },
        h("div", { class: "head" }, h("h2", {}, pipeline.name), this.state, reload),
        pipeline.description && h("p", { class: "about" }, pipeline.description), this.reason, this.graph.element),
      this.place, this.tryPanel.element);
  }

  close() {
    this.graph.close();
    this.panel?.close();
    this.tryPanel.close();
  }

  update(pipeline, wanted, now) {
    const node = pipeline.nodes.find((n) => n.node === wanted) ?? pipeline.nodes[0];
    setChildren(this.state, pipeline.state, () => badge(pipeline.state));
    setText(this.reason, pipeline.reason ?? "");
    this.reason.hidden = !pipeline.reason || pipeline.state === "healthy" || pipeline.reason.startsWith(`node "${node.node}"`); // the panel has it
    if (this.panel?.node !== node.node) {
      this.panel?.close();
      this.panel = new NodePanel(pipeline.name, node.node, this.may);
      this.place.replaceChildren(this.panel.element);
    }
    this.graph.update(pipeline, node.node);
    this.panel.update(node, now);
  }
}

/** Keep the theme, or return the one that is kept. A browser may not allow either. */
function keptTheme(theme) {
  try {
    if (theme) localStorage.setItem("theme", theme);
    return localStorage.getItem("theme");
  } catch {
    return theme;
  }
}

/** App is all of the page. */
class App {
  constructor() {
    this.states = new Map();
    this.setTheme(keptTheme());
    find("theme").addEventListener("click", () => this.setTheme(themes[(themes.indexOf(this.theme) + 1) % themes.length]));
    find("logout").addEventListener("click", () => this.logOut());
    addEventListener("hashchange", () => this.status && this.show(this.status));
    this.watch();
  }

  setTheme(theme) {
    this.theme = themes.includes(theme) ? theme : "system";
    keptTheme(this.theme);
    document.documentElement.dataset.theme = this.theme;
    setText(find("theme"), `Theme: ${this.theme}`);
  }

  watch() {
    this.watching?.close();
    this.watching = new Watch({
      show: (status) => this.show(status),
      lost: () => {
        setText(find("connection"), "The connection to the server is lost. Trying again …");
        find("connection").hidden = false;
      },
      refused: () => this.askForToken(),
    });
  }

  show(status) {
    this.status = status;
    find("logout").hidden = !status.may.session;
    const banner = find("connection");
    banner.hidden = !status.draining;
    setText(banner, status.draining ? "The service drains: work under way finishes, and new work is refused." : "");
    setText(find("summary"), status.ready ? "ready" : "not ready");
    find("summary").dataset.ready = status.ready;
    this.showMachines(status.machines ?? []);
    const wanted = chosen();
    const pipeline = status.pipelines.find((p) => p.name === wanted.pipeline) ?? status.pipelines[0];
    this.showNavigation(status.pipelines, pipeline);
    if (!pipeline) {
      main.replaceChildren(h("p", { class: "empty" }, "The service has no pipelines."));
      return;
    }
    const key = JSON.stringify([pipeline.name, status.may, pipeline.nodes.map((n) => n.node)]);
    if (this.viewKey !== key) {
      this.closeView();
      this.viewKey = key;
      this.view = new PipelineView(pipeline, status.may);
      main.replaceChildren(this.view.element);
      document.title = `${pipeline.name} · gophersnake`;
    }
    this.view.update(pipeline, wanted.node, status.time);
    this.announce(status);
  }

  closeView() {
    this.view?.close();
    this.view = this.viewKey = undefined;
  }

  showNavigation(pipelines, current) {
    const nav = find("pipelines");
    nav.hidden = pipelines.length < 2;
    const key = JSON.stringify([pipelines.map((p) => [p.name, p.state]), current?.name]);
    setChildren(nav, key, () => h("ul", {}, pipelines.map((p) => h("li", {},
      h("a", { href: `#/${encodeURIComponent(p.name)}`, "aria-current": p === current ? "page" : undefined }, p.name, " ", badge(p.state))))));
  }

  /** Show what the machines of the cluster announce, if the service is in one. */
  showMachines(machines) {
    const place = find("machines");
    place.hidden = machines.length === 0;
    const rows = machines.flatMap((m) => m.pipelines.map((p) => {
      const labels = Object.entries(m.labels ?? {}).map(([key, value]) => `${key}=${value}`).join(" ");
      const state = !m.usable ? "other protocol" : m.leaving ? "leaving" : p.ready ? "ready" : "not ready";
      return [m.name, p.name, state, `${p.active}/${p.slots}`, String(p.waiting), m.version, p.schema, labels];
    }));
    setChildren(place, JSON.stringify(rows), () => [h("h2", {}, "Machines"),
      table("What the machines announce", ["Machine", "Pipeline", "State", "Calls", "Waiting", "Version", "Schema", "Labels"], rows)]);
  }

  /** Tell readers of the screen when the state of a node changes, and nothing else. */
  announce(status) {
    const news = [];
    for (const p of status.pipelines) {
      for (const n of p.nodes) {
        const key = `${p.name}/${n.node}`;
        const former = this.states.get(key);
        if (former && former !== n.state) news.push(`${n.node} is ${n.state}${n.reason ? `: ${n.reason}` : ""}`);
        this.states.set(key, n.state);
      }
    }
    if (news.length) setText(find("announcer"), news.join(". "));
  }

  askForToken() {
    this.watching?.close();
    this.closeView();
    this.status = undefined;
    find("logout").hidden = true;
    find("pipelines").hidden = true;
    find("machines").hidden = true;
    setText(find("summary"), "");
    const field = h("input", { id: "token", type: "password", name: "token", required: true, autocomplete: "current-password", spellcheck: "false" });
    const problem = h("p", { class: "bad", role: "alert" });
    const form = h("form", { class: "panel login", method: "post" }, h("h2", {}, "Log in"),
      h("p", {}, "This service requires a token. The page keeps it in a session that ends after 12 hours."),
      h("label", { for: "token" }, "Token"), field, problem, h("button", { type: "submit", class: "primary" }, "Log in"));
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      try {
        await request("login", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ token: field.value }) });
        this.watch();
      } catch (error) {
        setText(problem, error.message);
        field.focus();
      }
    });
    main.replaceChildren(form);
    field.focus();
  }

  async logOut() {
    await request("logout", { method: "POST" }).catch(() => {});
    this.askForToken();
  }
}

new App();
