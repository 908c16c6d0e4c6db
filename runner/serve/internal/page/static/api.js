// Requests to the server.

/** Failure is an answer with an error: a problem document, as in RFC 9457. */
export class Failure extends Error {
  constructor(status, problem) {
    super(problem?.detail || problem?.title || `the server answered with status ${status}`);
    this.status = status;
    this.problem = problem ?? {};
  }
}

/** Send a request. Paths are relative to the page, which may be mounted anywhere. */
export async function request(path, options = {}) {
  const answer = await fetch(path, { credentials: "same-origin", ...options });
  if (!answer.ok) throw new Failure(answer.status, await answer.json().catch(() => undefined));
  return answer;
}

/** Get a JSON document. */
export async function getJSON(path) {
  return (await request(path)).json();
}

/** Post without a body. */
export async function post(path) {
  return (await request(path, { method: "POST" })).json();
}

/** Return the path of a pipeline or of one of its nodes. */
export function pathOf(pipeline, node) {
  const path = `v1/pipelines/${encodeURIComponent(pipeline)}`;
  return node ? `${path}/nodes/${encodeURIComponent(node)}` : path;
}

const retryDelay = 2000;

/**
 * Watch the status until close is called: show gets each status, lost is called when the
 * connection is lost, and refused when the server asks for a token.
 */
export class Watch {
  constructor({ show, lost, refused }) {
    Object.assign(this, { show, lost, refused });
    this.onVisibility = () => (document.hidden ? this.stop() : this.start());
    document.addEventListener("visibilitychange", this.onVisibility);
    this.start();
  }

  async start() {
    if (this.closed || this.source || document.hidden) return;
    clearTimeout(this.timer);
    try {
      this.show(await getJSON("v1/status"));
    } catch (error) {
      if (error.status === 401) this.refused();
      else this.retry(error);
      return;
    }
    if (this.closed || this.source || document.hidden) return;
    const source = new EventSource("v1/status");
    this.source = source;
    source.addEventListener("status", (event) => this.show(JSON.parse(event.data)));
    source.addEventListener("error", () => {
      if (this.source !== source) return;
      this.stop(); // a browser does not retry after an answer such as 503
      this.retry();
    });
  }

  retry(error) {
    this.lost(error);
    clearTimeout(this.timer);
    if (!this.closed) this.timer = setTimeout(() => this.start(), retryDelay);
  }

  stop() {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = undefined;
  }

  close() {
    this.closed = true;
    this.stop();
    document.removeEventListener("visibilitychange", this.onVisibility);
  }
}
