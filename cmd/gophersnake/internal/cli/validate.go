package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/failure"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/output"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/program"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/terminal"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

func newValidate(a *app) *cobra.Command {
	var static bool
	var format string
	c := &cobra.Command{
		Use:   "validate PIPELINE...",
		Short: "Check pipelines without running them",
		Long: `Check pipelines without running them. The command checks the schema and the graph of
each pipeline, and then, in the pipeline's environment, that each node can be imported
and accepts its params, and that the annotations of connected nodes fit each other. It
builds the environment if needed. --static skips everything that needs Python. Fields of
other systems' manifests that have no effect are noted.

The exit code is that of the first invalid pipeline.`,
		Example: `  gophersnake validate pipeline.yaml
  gophersnake validate --static pipelines/*.yaml
  gophersnake validate --output json speech`,
		Args: program.ArgumentCount(1, -1, "PIPELINE"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := failure.CheckChoice("output", format, "text", "json"); err != nil {
				return err
			}
			a.JSONErrors = format == "json"
			return a.validateAll(c.Context(), args, static, format)
		},
	}
	c.Flags().BoolVar(&static, "static", false, "check only what does not need Python")
	program.AddOutputFlag(c, &format)
	return c
}

func newSchema(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of pipelines",
		Long: `Print the JSON Schema of pipelines. With it, an editor completes and checks pipeline
files. To tell the editor about the schema, begin a YAML file with this line:

  # yaml-language-server: $schema=pipeline.schema.json`,
		Example: `  gophersnake schema > pipeline.schema.json`,
		Args:    program.ArgumentCount(0, 0, ""),
		RunE: func(*cobra.Command, []string) error {
			_, err := a.Out.Write(manifest.Schema)
			return err
		},
	}
}

// verdict is the result of checking one pipeline.
type verdict struct {
	Pipeline string    `json:"pipeline"`
	OK       bool      `json:"ok"`
	Nodes    int       `json:"nodes,omitempty"`
	Problems []problem `json:"problems,omitempty"`
	Warnings []string  `json:"warnings,omitempty"`
	Notes    []problem `json:"notes,omitempty"`
	Error    any       `json:"error,omitempty"`

	err error
}

// problem is the JSON form of a [manifest.Problem].
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
		for _, note := range v.Notes {
			fmt.Fprintf(a.Err, "%s %s\n", a.Style.Yellow("note:"), runner.PrintableLine(manifest.Problem(note).String()))
		}
		for _, warning := range v.Warnings {
			fmt.Fprintf(a.Err, "%s %s: %s\n", a.Style.Yellow("warning:"), name, runner.PrintableLine(warning))
		}
		if v.OK {
			fmt.Fprintf(a.Out, "%s %s (%s)\n", a.Style.Green("ok"), name, terminal.Plural(v.Nodes, "node"))
		} else {
			a.ReportError(prefixOf(name, v.err), v.err)
		}
	}
	if format == "json" {
		if err := output.PrintJSON(a.Out, verdicts); err != nil {
			return err
		}
	}
	if first != nil {
		return failure.Reported{Err: first}
	}
	return nil
}

// prefixOf returns a prefix that names the pipeline. It is empty for the problems of a
// manifest, which name the file.
func prefixOf(name string, err error) string {
	if _, ok := errors.AsType[*manifest.Errors](err); ok {
		return ""
	}
	return name + ": "
}

func (a *app) validate(ctx context.Context, name string, static bool) verdict {
	v := verdict{Pipeline: name}
	p, err := a.Load(name)
	if err == nil {
		v.Nodes = len(p.Nodes)
		for _, note := range p.Notes {
			v.Notes = append(v.Notes, problem(note))
		}
		v.Warnings, err = a.check(ctx, p, static)
	}
	v.err, v.OK = err, err == nil
	if problems, ok := errors.AsType[*manifest.Errors](err); ok {
		for _, p := range problems.Problems {
			v.Problems = append(v.Problems, problem(p))
		}
	}
	if err != nil {
		v.Error = failure.Document(err)
	}
	return v
}

// check checks a pipeline that has a valid manifest, with or without starting its nodes. It
// returns warnings, even if there is an error.
func (a *app) check(ctx context.Context, p *manifest.Pipeline, static bool) ([]string, error) {
	if !static {
		_, warnings, err := a.Describe(ctx, p)
		return warnings, err
	}
	r, err := runner.New(p, a.Options()...)
	if err != nil {
		return nil, err
	}
	return nil, r.Close(ctx)
}
