package program

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/examples"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/failure"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/input"
	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// Load reads the pipeline of an argument: a file, a folder, or a bundled example if there
// is no such file.
func (a *App) Load(name string) (*manifest.Pipeline, error) {
	if name == "" {
		return nil, failure.Usagef("the PIPELINE is empty")
	}
	info, statErr := os.Stat(name)
	missing := errors.Is(statErr, fs.ErrNotExist)
	if missing && examples.Exists(name) {
		dir, err := a.Unpack(name)
		if err != nil {
			return nil, err
		}
		return runner.Load(dir)
	}
	if missing {
		return nil, noPipeline(name)
	}
	p, err := runner.Load(name)
	if statErr != nil || !info.IsDir() || !errors.Is(err, fs.ErrNotExist) {
		return p, err
	}
	return nil, runner.NewError(runner.KindIO, "there is no pipeline.yaml, pipeline.yml or pipeline.json in the folder "+name).
		WithHint("name the pipeline's file, or create a pipeline: gophersnake init " + ShellPath(name))
}

// noPipeline returns the error for a pipeline that does not exist.
func noPipeline(name string) error {
	hint := fmt.Sprintf("name a file, a folder that contains a pipeline.yaml, or a bundled example (%s)", failure.Alternatives(examples.Names()))
	if near := failure.Nearest(name, examples.Names()); near != "" {
		hint = "did you mean the bundled example " + near + "?"
	}
	return runner.NewError(runner.KindIO, "there is no pipeline "+name).WithHint(hint)
}

// Unpack writes a bundled example to the cache folder and returns its folder.
func (a *App) Unpack(example string) (string, error) {
	cache, err := a.Cache()
	if err != nil {
		return "", err
	}
	return examples.Extract(cache, example)
}

// SetParams overrides params of nodes. Each setting is NODE.KEY=VALUE; the value is JSON
// or else text. It does not check that the node has such a param, since that needs the
// node's signature.
func SetParams(p *manifest.Pipeline, settings []string, warn func(message string, args ...any)) error {
	for _, setting := range settings {
		name, text, ok := strings.Cut(setting, "=")
		dot := strings.LastIndexByte(name, '.')
		if !ok || dot <= 0 || dot == len(name)-1 {
			return failure.Usagef("--param takes NODE.KEY=VALUE, not %q", setting)
		}
		id, key := name[:dot], name[dot+1:]
		node := p.Node(id)
		if node == nil {
			return failure.Usagef("--param %s: the pipeline has no node %q; %s", setting, id, failure.Suggest(id, nodeIDs(p)))
		}
		value, err := input.ParseJSONOrText("the value of --param "+name, text, warn)
		if err != nil {
			return input.Named("--param "+name, err)
		}
		params := maps.Clone(node.Params)
		if params == nil {
			params = make(map[string]any)
		}
		params[key] = value
		node.Params = params
	}
	return nil
}

func nodeIDs(p *manifest.Pipeline) []string {
	ids := make([]string, len(p.Nodes))
	for i, n := range p.Nodes {
		ids[i] = n.ID
	}
	return ids
}

// Describe imports the nodes of a pipeline and returns their descriptions, and a warning for
// each connection whose annotations leave open whether the values fit. If some nodes cannot
// be described, it returns an error and the others.
func (a *App) Describe(ctx context.Context, p *manifest.Pipeline) (all []ipc.Description, open []string, err error) {
	d := a.NewDisplay(nil, 0)
	defer d.Close()
	r, err := runner.New(p, a.Options(runner.WithEvents(d.Event), runner.WithBuildProgress(d.BuildProgress))...)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, CloseRunner(ctx, r)) }()
	all, err = r.Describe(ctx)
	return all, r.OpenConnections(all), failure.Cause(ctx, err)
}

// NameOf returns the name of a pipeline: that in its manifest, or that of its file or, if the
// file has the usual name, of its folder.
func NameOf(p *manifest.Pipeline) string {
	if _, ok := p.Metadata["name"]; !ok && p.Name == "pipeline" {
		return filepath.Base(p.Base)
	}
	return p.Name
}

// ShellPath quotes a path for a shell, in a form that cannot be the name of an example.
func ShellPath(path string) string {
	if !filepath.IsAbs(path) && path != "." {
		path = "./" + path
	}
	if strings.ContainsAny(path, " \t'\"$&|;<>()*?[]#~`\\!{}") {
		return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
	}
	return path
}
