package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

func newValidate(a *app) *cobra.Command {
	var static bool
	var format string
	c := &cobra.Command{
		Use:   "validate PIPELINE...",
		Short: "Check pipelines without running them",
		Long: `Check pipelines without running them: the schema, the graph, and then, in the
pipeline's own environment, that each node can be imported and takes its params.
The environment is made if it is not there; --static leaves all that out.

The exit code is that of the first pipeline that is wrong.`,
		Example: `  gophersnake validate pipeline.yaml
  gophersnake validate --static pipelines/*.yaml
  gophersnake validate --output json speech`,
		Args: needs(1, -1, "the PIPELINE"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := outputFormat("output", format, "text", "json"); err != nil {
				return err
			}
			a.jsonErrors = format == "json"
			return a.validateAll(c.Context(), args, static, format)
		},
	}
	c.Flags().BoolVar(&static, "static", false, "check only what needs no Python")
	c.Flags().StringVarP(&format, "output", "o", "text", "text or json")
	return c
}

// verdict is what was found of one pipeline.
type verdict struct {
	Pipeline string    `json:"pipeline"`
	OK       bool      `json:"ok"`
	Nodes    int       `json:"nodes,omitempty"`
	Problems []problem `json:"problems,omitempty"`
	Error    any       `json:"error,omitempty"`

	err error
}

// problem is a manifest.Problem for machines.
type problem struct {
	File       string `json:"file,omitempty"`
	Line       int    `json:"line,omitempty"`
	Column     int    `json:"column,omitempty"`
	Path       string `json:"path,omitempty"`
	Message    string `json:"message"`
	Suggestion string `json:"suggestion,omitempty"`
}

func (a *app) validateAll(ctx context.Context, names []string, static bool, format string) error {
	var first error
	verdicts := make([]verdict, 0, len(names))
	for _, name := range names {
		v := a.validate(ctx, name, static)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if first == nil {
			first = v.err
		}
		verdicts = append(verdicts, v)
		if format == "json" {
			continue
		}
		if v.OK {
			fmt.Fprintf(a.out, "%s %s (%s)\n", a.outStyle.green("ok"), name, plural(v.Nodes, "node"))
		} else {
			a.reportError(prefixOf(name, v.err), v.err)
		}
	}
	if format == "json" {
		if err := printJSON(a.out, verdicts); err != nil {
			return err
		}
	}
	if first != nil {
		return reportedError{first}
	}
	return nil
}

// prefixOf names the pipeline where its error does not.
func prefixOf(name string, err error) string {
	if _, ok := errors.AsType[*manifest.Errors](err); ok {
		return ""
	}
	return name + ": "
}

func (a *app) validate(ctx context.Context, name string, static bool) verdict {
	v := verdict{Pipeline: name}
	v.err = func() error {
		p, err := a.load(name)
		if err != nil {
			return err
		}
		v.Nodes = len(p.Nodes)
		if static {
			r, err := runner.New(p, a.options()...)
			if err != nil {
				return err
			}
			return r.Close(ctx)
		}
		_, err = a.describe(ctx, p)
		return err
	}()
	v.OK = v.err == nil
	if problems, ok := errors.AsType[*manifest.Errors](v.err); ok {
		for _, p := range problems.Problems {
			v.Problems = append(v.Problems, problem(p))
		}
	}
	if v.err != nil {
		v.Error = errorValue(v.err)
	}
	return v
}

// describe starts the nodes of a pipeline and returns their signatures.
func (a *app) describe(ctx context.Context, p *manifest.Pipeline) (all []ipc.Description, err error) {
	d := a.newDisplay(nil, 0)
	defer d.close()
	r, err := runner.New(p, a.options(runner.WithEvents(d.event), runner.WithBuildProgress(d.building))...)
	if err != nil {
		return nil, err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		err = errors.Join(err, r.Close(closing))
	}()
	all, err = r.Describe(ctx)
	return all, whyEnded(ctx, err)
}
