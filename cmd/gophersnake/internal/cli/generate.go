package cli

import (
	"bytes"
	"context"
	"errors"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/failure"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/generate"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/program"
	"github.com/gophersnake/gophersnake/runner"
)

func newGenerate(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "generate",
		Short: "Write code that calls a pipeline",
		Long: `Write code that calls a pipeline, from the annotations and docstrings of its nodes. The
nodes are imported in the environment of the pipeline, which is built if needed.`,
		Example: `  gophersnake generate go speech -o speech/client.go`,
	}
	c.AddCommand(newGenerateGo(a))
	return c
}

// generateGo are the flags of the command generate go.
type generateGo struct {
	file, pkg string
	check     bool
}

func newGenerateGo(a *app) *cobra.Command {
	var g generateGo
	c := &cobra.Command{
		Use:   "go PIPELINE",
		Short: "Write a typed Go client for a pipeline",
		Long: `Write a typed Go client for a pipeline: a method for the pipeline and for each node, and
structs and constants for the classes and enums that the nodes take and return. The
same pipeline always gives the same file.

The package is that of the Go files in the same folder, or else has the name of the
folder. --check writes nothing; it exits with 1 if the file differs from what would be
written, so that continuous integration notices nodes that have changed.`,
		Example: `  gophersnake generate go speech -o speech/client.go
  gophersnake generate go pipeline.yaml --package speech > client.go
  gophersnake generate go pipeline.yaml -o client.go --check`,
		Args: program.ArgumentCount(1, 1, "PIPELINE"),
		RunE: func(c *cobra.Command, args []string) error { return a.generateGo(c.Context(), args[0], g) },
	}
	c.Flags().StringVarP(&g.file, "output", "o", "", "file to write (default: standard output)")
	c.Flags().StringVar(&g.pkg, "package", "", "name of the file's package")
	c.Flags().BoolVar(&g.check, "check", false, "only check whether the file is up to date")
	return c
}

func (a *app) generateGo(ctx context.Context, name string, g generateGo) error {
	if g.check && g.file == "" {
		return failure.Usagef("--check needs the file to check: --output FILE.go")
	}
	if g.pkg != "" && !generate.IsPackageName(g.pkg) {
		return failure.Usagef("--package takes the name of a Go package, not %q", g.pkg)
	}
	if g.file != "" && filepath.Ext(g.file) != ".go" {
		return failure.Usagef("--output takes a file that ends in .go, not %s", g.file)
	}
	p, err := a.Load(name)
	if err != nil {
		return err
	}
	descriptions, _, err := a.Describe(ctx, p)
	if err != nil {
		return err
	}
	source, err := generate.Go(p, descriptions, g.packageName(p.Name))
	if err != nil {
		return err
	}
	switch {
	case g.check:
		return g.compare(name, source)
	case g.file == "":
		_, err = a.Out.Write(source)
		return err
	}
	if err := os.MkdirAll(filepath.Dir(g.file), 0o777); err != nil {
		return runner.Wrap(err, runner.KindIO, "create the folder of "+g.file)
	}
	if err := os.WriteFile(g.file, source, 0o666); err != nil {
		return runner.Wrap(err, runner.KindIO, "write "+g.file)
	}
	return nil
}

// packageName returns the name of the file's package: the given one, that of the other Go
// files in the folder, or one made of the folder's name.
func (g *generateGo) packageName(pipeline string) string {
	if g.pkg != "" {
		return g.pkg
	}
	if g.file == "" {
		return generate.PackageName(pipeline)
	}
	path, err := filepath.Abs(g.file)
	if err != nil {
		path = g.file
	}
	files, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*.go"))
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") || file == path {
			continue
		}
		if parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.PackageClauseOnly); err == nil {
			return parsed.Name.Name
		}
	}
	return generate.PackageName(filepath.Base(filepath.Dir(path)))
}

// compare returns an error if the file is not what would be written.
func (g *generateGo) compare(pipeline string, source []byte) error {
	written, err := os.ReadFile(g.file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return runner.Wrap(err, runner.KindIO, "read "+g.file)
	}
	if bytes.Equal(written, source) {
		return nil
	}
	text := g.file + " is not up to date"
	if err != nil {
		text = "there is no file " + g.file
	}
	hint := "write it: gophersnake generate go " + pipeline + " --output " + program.ShellPath(g.file)
	if g.pkg != "" {
		hint += " --package " + g.pkg
	}
	return runner.NewError(runner.KindOther, text).WithHint(hint)
}
