package runner

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/isolation"
	"github.com/gophersnake/gophersnake/runner/internal/worker"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// Describe imports the code of the pipeline's Python nodes, without setting
// them up, and returns the signature and docstring of every node in the order
// of the manifest. Params and ports that a signature does not take, and code
// that cannot be imported, are its error.
func (r *Runner) Describe(ctx context.Context) ([]ipc.Description, error) {
	all := make([]ipc.Description, len(r.pipeline.Nodes))
	var asked []describeNode
	var places []int
	for i := range r.pipeline.Nodes {
		n := r.nodes[r.pipeline.Nodes[i].ID]
		if !n.isPython() {
			all[i] = ipc.Description{Name: n.config.Type, Kind: "go"}
			continue
		}
		places = append(places, i)
		asked = append(asked, describeNode{
			ID: n.id, Python: n.python, NodeType: n.config.Type, Params: n.config.Params, Ports: r.plan.ports(n),
		})
	}
	if len(asked) == 0 {
		return all, nil
	}
	py, err := r.preparePython(ctx)
	if err != nil {
		return nil, err
	}
	found, err := r.ask(ctx, py, asked)
	if err != nil {
		return nil, err
	}
	var faults []error
	for i, d := range found {
		if d.Description != nil {
			all[places[i]] = *d.Description
			if err := r.plan.checkInputs(r.nodes[asked[i].ID], *d.Description); err != nil {
				faults = append(faults, err)
			}
		}
		for _, problem := range d.Problems {
			faults = append(faults, remoteError(&problem).WithNode(d.ID))
		}
	}
	return all, errors.Join(faults...)
}

// DescribeFile returns the signatures and docstrings of all nodes in a Python
// file. It is imported by the interpreter that the options and requirements of
// the pipeline p name; p needs no nodes.
func DescribeFile(ctx context.Context, file string, p *manifest.Pipeline, opts ...Option) ([]ipc.Description, error) {
	o, err := newOptions(opts)
	if err != nil {
		return nil, err
	}
	file, err = filepath.Abs(file)
	if err != nil {
		return nil, classify(err)
	}
	r := &Runner{pipeline: p, options: o}
	py, err := r.preparePython(ctx)
	if err != nil {
		return nil, err
	}
	found, err := r.describe(ctx, py, new(manifest.Node), describeRequest{Base: filepath.Dir(file), File: file})
	if err != nil {
		return nil, err
	}
	var all []ipc.Description
	var faults []error
	for _, d := range found {
		if d.Description != nil {
			all = append(all, *d.Description)
		}
		for _, problem := range d.Problems {
			faults = append(faults, remoteError(&problem))
		}
	}
	return all, errors.Join(faults...)
}

// What is asked of the Python package's describe command, as JSON.
type describeRequest struct {
	Base  string         `json:"base"`
	Nodes []describeNode `json:"nodes,omitempty"`
	File  string         `json:"file,omitempty"`
	// Isolation is how the process is isolated, nil where it is not.
	Isolation *ipc.SetupIsolation `json:"isolation,omitempty"`
}

type describeNode struct {
	ID       string         `json:"id"`
	Python   string         `json:"python"`
	NodeType string         `json:"node_type"`
	Params   map[string]any `json:"params"`
	Ports    []string       `json:"ports"`
}

// described is its answer for one node.
type described struct {
	ID          string            `json:"id"`
	Description *ipc.Description  `json:"description"`
	Problems    []ipc.RemoteError `json:"problems"`
}

// ask has the code of nodes imported as their workers import it: nodes that are
// isolated, or have an environment of their own, by a process for each.
func (r *Runner) ask(ctx context.Context, py python, asked []describeNode) ([]described, error) {
	found := make([]described, len(asked))
	var together []int
	about := func(n *manifest.Node, places ...int) error {
		request := describeRequest{Base: r.pipeline.Base}
		for _, i := range places {
			request.Nodes = append(request.Nodes, asked[i])
		}
		answers, err := r.describe(ctx, py, n, request)
		if err != nil {
			return err
		}
		if len(answers) != len(places) {
			return NewError(KindTransport, fmt.Sprintf("asked for %d nodes, was told of %d", len(places), len(answers)))
		}
		for i, place := range places {
			found[place] = answers[i]
		}
		return nil
	}
	for i, each := range asked {
		n := r.nodes[each.ID].config
		if n.Isolation == nil && len(n.PassEnv) == 0 && len(n.Env) == 0 {
			together = append(together, i)
			continue
		}
		if err := about(n, i); err != nil {
			return nil, classify(err).WithNode(each.ID)
		}
	}
	if len(together) > 0 {
		if err := about(new(manifest.Node), together...); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// describe asks an interpreter that is started as the worker of a node.
func (r *Runner) describe(ctx context.Context, py python, n *manifest.Node, request describeRequest) ([]described, error) {
	as := worker.Config{Env: workerEnv(n, r.options.passEnv)}
	r.isolate(&as, n, py)
	request.Isolation = as.Setup.Isolation
	question, err := json.Marshal(request)
	if err != nil {
		return nil, Wrap(err, KindSerialization, "the nodes' params")
	}
	cmd := exec.CommandContext(ctx, py.interpreter, py.pkg, "describe")
	cmd.Dir, cmd.Env = request.Base, as.Env
	cmd.Stdin = bytes.NewReader(question)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := runAs(cmd, as.Isolation); err != nil {
		if ctx.Err() != nil {
			return nil, classify(context.Cause(ctx))
		}
		if e := isolationError(err); e != nil {
			return nil, e
		}
		e := Wrap(err, KindPythonVM, "the interpreter that looked at the nodes ended")
		e.StderrTail = strings.TrimSpace(stderr.String())
		return nil, e
	}
	var answer struct {
		Nodes []described `json:"nodes"`
	}
	if err := json.Unmarshal(stdout.Bytes(), &answer); err != nil {
		return nil, Wrap(err, KindSerialization, fmt.Sprintf("the nodes' description %.200q", stdout.String()))
	}
	return answer.Nodes, nil
}

// runAs runs a command to its end, isolated where there is a profile.
func runAs(cmd *exec.Cmd, profile *isolation.Profile) error {
	if profile == nil {
		return cmd.Run()
	}
	place, err := profile.Start(cmd)
	if err != nil {
		return err
	}
	defer place.Remove()
	return cmd.Wait()
}
