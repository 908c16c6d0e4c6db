package serve

import (
	"context"
	"net/http"
	"slices"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/document"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// healthDocument is the answer of /readyz and /healthz.
type healthDocument struct {
	Status    string                    `json:"status"`
	Reason    string                    `json:"reason,omitempty"`
	Pipelines map[string]pipelineHealth `json:"pipelines,omitempty"`
}

type pipelineHealth struct {
	Ready  bool         `json:"ready"`
	State  string       `json:"state"`
	Reason string       `json:"reason,omitempty"`
	Nodes  []nodeHealth `json:"nodes"`
}

type nodeHealth struct {
	Node   string `json:"node"`
	Ready  bool   `json:"ready"`
	State  string `json:"state"`
	Reason string `json:"reason,omitempty"`
	// Workers has the figures of /healthz.
	Workers *workerFigures `json:"workers,omitempty"`
	Breaker string         `json:"breaker,omitempty"`
	// Machines has the breakers for other machines on which the last calls have failed.
	Machines map[string]string `json:"machine_breakers,omitempty"`
}

// drainReason is why a service that drains is not ready.
const drainReason = "the service drains: work under way finishes, and new work is refused"

type workerFigures struct {
	Idle     int `json:"idle"`
	Busy     int `json:"busy"`
	Spares   int `json:"spares"`
	Starting int `json:"starting"`
	Waiting  int `json:"waiting_calls"`
}

// live answers that the process serves requests.
func (x *exchange) live() error { return x.sendJSON(http.StatusOK, healthDocument{Status: "alive"}) }

// ready answers whether a call that is made now would be served, and if not, why. Of a client
// without a token it hides the reasons.
func (x *exchange) ready() error { return x.sendHealth(false) }

// health answers what ready does, with figures.
func (x *exchange) health() error { return x.sendHealth(true) }

func (x *exchange) sendHealth(withFigures bool) error {
	doc := healthDocument{Status: "ready", Pipelines: make(map[string]pipelineHealth)}
	for _, p := range x.h.pipelines {
		if x.pipeline != nil && x.pipeline != p {
			continue
		}
		ph := x.h.healthOf(p.runner.Health(), withFigures)
		if !ph.Ready {
			doc.Status = "not ready"
		}
		doc.Pipelines[p.name] = ph
	}
	if x.h.drained.Err() != nil {
		doc.Status, doc.Reason = "not ready", drainReason
	}
	if x.h.needsToken() && x.token == nil {
		doc.Pipelines = nil
	}
	status := http.StatusOK
	if doc.Status != "ready" {
		status = http.StatusServiceUnavailable
	}
	return x.sendJSON(status, doc)
}

// healthOf converts the health of a runner.
func (h *handler) healthOf(of runner.Health, withFigures bool) pipelineHealth {
	ph := pipelineHealth{Ready: of.Ready(), State: string(of.State), Reason: h.reason(of.Reason, of.Err), Nodes: []nodeHealth{}}
	for _, n := range of.Nodes {
		nh := nodeHealth{Node: n.Node, Ready: n.Ready(), State: string(n.State), Reason: h.reason(n.Reason, n.Err)}
		if p := n.Pool; p != nil && withFigures {
			nh.Workers = &workerFigures{p.Idle, p.Busy, p.Spares, p.Starting, p.Waiting}
		}
		if withFigures {
			nh.Breaker = n.Breaker.String()
			for _, m := range n.Machines {
				if nh.Machines == nil {
					nh.Machines = make(map[string]string)
				}
				nh.Machines[m.Machine] = m.Breaker.String()
			}
		}
		ph.Nodes = append(ph.Nodes, nh)
	}
	return ph
}

// reason joins a reason with the error behind it.
func (h *handler) reason(reason string, err *runner.Error) string {
	if err != nil {
		reason += ": " + err.Error()
	}
	if h.debug {
		return reason
	}
	return h.withoutPaths(reason)
}

// sendJSON sends a value as indented JSON.
func (x *exchange) sendJSON(status int, v any) error {
	text, err := document.Encode(v, "  ")
	if err != nil {
		return err
	}
	x.send(&answer{status: status, contentType: typeJSON, body: append(text, '\n')})
	return nil
}

// metrics answers with the metrics of all runners, and those of the handler.
func (x *exchange) metrics() error {
	x.extendWrite()
	x.h.metrics.Handler().ServeHTTP(x.w, x.req)
	return nil
}

// description is the answer of GET /v1/pipelines/{name}.
type description struct {
	Name        string                `json:"name"`
	Description string                `json:"description,omitempty"`
	Nodes       []describedNode       `json:"nodes"`
	Connections []describedConnection `json:"connections"`
	Sinks       []string              `json:"sinks"`

	generation int // of the code
}

type describedNode struct {
	ID string `json:"id"`
	ipc.Description
}

type describedConnection struct {
	From string `json:"from"`
	To   string `json:"to"`
	Port string `json:"port,omitempty"`
}

// list answers with the names of the pipelines.
func (x *exchange) list() error {
	type entry struct {
		Name        string `json:"name"`
		Description string `json:"description,omitempty"`
		URL         string `json:"url"`
	}
	all := make([]entry, 0, len(x.h.names))
	for _, name := range x.h.names {
		all = append(all, entry{name, about(x.h.pipelines[name].runner.Pipeline()), "/v1/pipelines/" + name})
	}
	return x.sendJSON(http.StatusOK, map[string]any{"pipelines": all})
}

// describe answers with the nodes of a pipeline and the schemas of their annotations.
func (x *exchange) describe() error {
	d, err := x.pipeline.describe(x.ctx, x.h.debug)
	if err != nil {
		return err
	}
	return x.sendJSON(http.StatusOK, d)
}

// describe returns the description of the code that the workers run. It imports that code in
// a process of its own when it is first asked, and after each reload.
func (p *pipeline) describe(ctx context.Context, withFiles bool) (*description, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	generation := 0
	for _, n := range p.runner.Health().Nodes {
		if n.Pool != nil {
			generation += n.Pool.Generation
		}
	}
	if p.description != nil && p.description.generation == generation {
		return p.description, nil
	}
	all, err := p.runner.Describe(ctx)
	if err != nil {
		return nil, err
	}
	pipeline := p.runner.Pipeline()
	d := &description{
		Name: p.name, Description: about(pipeline), Nodes: []describedNode{}, Connections: []describedConnection{},
		Sinks: slices.Clone(p.sinks), generation: generation,
	}
	for i, n := range all {
		if !withFiles {
			n.File = ""
		}
		d.Nodes = append(d.Nodes, describedNode{pipeline.Nodes[i].ID, n})
	}
	for _, c := range pipeline.Connections {
		d.Connections = append(d.Connections, describedConnection{c.From, c.To, c.Port})
	}
	p.description = d
	return d, nil
}

// about returns the description in the metadata of a pipeline, if there is one.
func about(p *manifest.Pipeline) string {
	text, _ := p.Metadata["description"].(string)
	return text
}
