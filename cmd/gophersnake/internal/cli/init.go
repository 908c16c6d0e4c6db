package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/examples"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/failure"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/program"
	"github.com/gophersnake/gophersnake/runner"
)

func newInit(a *app) *cobra.Command {
	var example string
	var force bool
	c := &cobra.Command{
		Use:   "init [DIR]",
		Short: "Create a pipeline from an example",
		Long: `Create a pipeline in a folder (default: the current one) from one of the bundled
examples:

  hello      two Python functions; a short start
  resilient  a node that crashes, hangs or raises, to see how failures are handled
  speech     a recording becomes a transcript with times

Each comes with tests of its nodes, for pytest.
If one of the files exists already, nothing is written unless --force is set.`,
		Example: `  gophersnake init hello
  gophersnake init --example speech transcripts`,
		Args: program.ArgumentCount(0, 1, ""),
		RunE: func(_ *cobra.Command, args []string) error {
			dir := "."
			if len(args) == 1 {
				dir = args[0]
			}
			return a.createFrom(example, dir, force)
		},
	}
	c.Flags().StringVar(&example, "example", "hello", "example to copy: "+failure.Alternatives(examples.Names()))
	c.Flags().BoolVar(&force, "force", false, "overwrite existing files")
	return c
}

// createFrom writes the files of an example to a folder and prints the next steps.
func (a *app) createFrom(example, dir string, force bool) error {
	if !examples.Exists(example) {
		return failure.Usagef("--example %s: there is no such example; %s", example, failure.Suggest(example, examples.Names()))
	}
	files := examples.Files(example)
	names := slices.Sorted(maps.Keys(files))
	if !force {
		var existing []string
		for _, name := range names {
			path := filepath.Join(dir, name)
			if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
				existing = append(existing, path)
			}
		}
		if len(existing) > 0 {
			return runner.NewError(runner.KindIO, "files exist already: "+strings.Join(existing, ", ")).
				WithHint("choose another folder, or overwrite them with --force")
		}
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return runner.Wrap(err, runner.KindIO, "create the folder "+dir)
	}
	if err := examples.WriteFiles(dir, files); err != nil {
		return runner.Wrap(err, runner.KindIO, "write the example")
	}
	for _, name := range names {
		fmt.Fprintln(a.Out, filepath.Join(dir, name))
	}
	fmt.Fprintf(a.Out, "\nNext:\n  gophersnake run %s%s\n  gophersnake nodes %[1]s\n  $(gophersnake env python --with pytest %[1]s) -m pytest %[1]s\n",
		program.ShellPath(dir), firstInput(dir, example))
	return nil
}

// firstInput returns flags with an input that shows what an example does.
func firstInput(dir, example string) string {
	return map[string]string{
		"hello":     " --input Ada",
		"resilient": ` --input '{"mode": "crash", "times": 1}'`,
		"speech":    " --input " + program.ShellPath(filepath.Join(dir, "sample.wav")),
	}[example]
}
