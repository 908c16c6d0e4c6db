package serve

import (
	"bytes"
	"context"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gophersnake/gophersnake/pyworker"
	"github.com/gophersnake/gophersnake/runner/serve/internal/openapi"
)

// classes are all types of problems.
var classes = []class{
	malformed, unauthorized, forbidden, notFound, wrongMethod, notAcceptable, stalled, keyConflict, tooLarge, wrongType,
	notSocket, rateLimited, keysFull, noMemory, noWorkers, watchersFull, jobState, noJobs, stopping, deadline, breakerOpen, queueFull, memoryFull, invalid, rejected, hang,
	interpreter, wasm, transport, execution, result, internal,
}

// openAPI answers with the OpenAPI document of the service.
func (x *exchange) openAPI() error {
	doc, err := x.h.describeService(x.ctx)
	if err != nil {
		return err
	}
	return x.sendJSON(http.StatusOK, doc)
}

// describeService returns the OpenAPI document. If the code of a pipeline cannot be imported, its
// nodes have no schemas.
func (h *handler) describeService(ctx context.Context) (map[string]any, error) {
	s := &openapi.Service{Version: pyworker.Version(), HasTokens: h.needsToken()}
	for _, c := range classes {
		s.Problems = append(s.Problems, openapi.Problem{Name: c.name, Title: c.title, Status: c.status, Waits: c.wait > 0})
	}
	s.HasJobs = h.jobs != nil
	for _, f := range h.formats {
		if f.Decode != nil {
			s.Read = append(s.Read, f.ContentTypes...)
		}
		if f.Encode != nil {
			s.Written = append(s.Written, f.ContentTypes[0])
		}
	}
	for _, name := range h.names {
		p, err := h.pipelines[name].forOpenAPI(ctx)
		if err != nil {
			return nil, err
		}
		s.Pipelines = append(s.Pipelines, p)
	}
	return openapi.Document(s), nil
}

// forOpenAPI returns what the document says about a pipeline. The error is that of the context.
func (p *pipeline) forOpenAPI(ctx context.Context) (openapi.Pipeline, error) {
	manifest := p.runner.Pipeline()
	graph := manifest.Graph()
	of := openapi.Pipeline{Name: p.name, Description: about(manifest), Sources: graph.Sources(), Sinks: p.sinks}
	var nodes []describedNode
	if d, err := p.describe(ctx, false); err == nil {
		nodes = d.Nodes
	} else if ctx.Err() != nil {
		return of, err
	}
	if nodes == nil {
		for _, id := range manifest.Order() {
			nodes = append(nodes, describedNode{ID: id})
		}
	}
	for _, n := range nodes {
		described := openapi.Node{ID: n.ID, Description: n.Description}
		for _, c := range graph.Inputs(n.ID) {
			if c.Port != "" && !slices.Contains(described.Ports, c.Port) {
				described.Ports = append(described.Ports, c.Port)
			}
		}
		of.Nodes = append(of.Nodes, described)
		of.Many = of.Many || n.Many || n.Stateful || graph.Merges(n.ID)
	}
	return of, nil
}

// docsPolicy keeps the page from loading anything but its own files.
const docsPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob:; media-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// docs answers with a file of the page that shows the OpenAPI document.
func (x *exchange) docs() error {
	name := strings.TrimPrefix(x.req.URL.Path, "/docs")
	if name == "" {
		name = "/index.html"
	}
	content, err := fs.ReadFile(openapi.Page, strings.TrimPrefix(name, "/"))
	if err != nil {
		return fault(notFound, "there is nothing at "+x.req.URL.Path).withHint("the page is at /docs")
	}
	x.w.Header().Set("Content-Security-Policy", docsPolicy)
	x.extendWrite()
	http.ServeContent(x.w, x.req, name, time.Time{}, bytes.NewReader(content))
	return nil
}

// isPublic reports whether a path needs no token: probes, which then learn little, and the files
// of the page, which say nothing about the service.
func isPublic(path string) bool {
	return path == "/livez" || path == "/readyz" || path == "/docs" || strings.HasPrefix(path, "/docs/")
}
