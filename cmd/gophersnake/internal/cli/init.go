package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/examples"
	"github.com/gophersnake/gophersnake/runner"
)

func newInit(a *app) *cobra.Command {
	var example string
	var force bool
	c := &cobra.Command{
		Use:   "init [DIR]",
		Short: "Scaffold a pipeline that works",
		Long: `Scaffold a pipeline that works, in a folder (default: the current one), from one of
the bundled examples:

  hello      two Python functions; the ten-line start
  resilient  crash, hang, exception and bad value, and what becomes of each
  speech     a recording in, a transcript with times out

Files that are there already are left as they are, and nothing is written.`,
		Example: `  gophersnake init hello
  gophersnake init --example speech transcripts`,
		Args: needs(0, 1, ""),
		RunE: func(_ *cobra.Command, args []string) error {
			dir := "."
			if len(args) == 1 {
				dir = args[0]
			}
			return a.scaffold(dir, example, force)
		},
	}
	c.Flags().StringVar(&example, "example", "hello", "the example to begin with: "+orList(examples.Names()))
	c.Flags().BoolVar(&force, "force", false, "overwrite files that are there already")
	return c
}

func (a *app) scaffold(dir, example string, force bool) error {
	if !examples.Exists(example) {
		return usagef("--example %s: there is none; %s", example, suggest(example, examples.Names()))
	}
	files := examples.Files(example)
	if !force {
		var inTheWay []string
		for _, name := range sortedKeys(files) {
			path := filepath.Join(dir, name)
			if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
				inTheWay = append(inTheWay, path)
			}
		}
		if len(inTheWay) > 0 {
			return runner.NewError(runner.KindIO, "there already: "+strings.Join(inTheWay, ", ")).
				WithHint("choose another folder, or overwrite them with --force")
		}
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return runner.Wrap(err, runner.KindIO, "make the folder "+dir)
	}
	if err := examples.WriteFiles(dir, files); err != nil {
		return runner.Wrap(err, runner.KindIO, "write the example")
	}
	for _, name := range sortedKeys(files) {
		fmt.Fprintln(a.out, filepath.Join(dir, name))
	}
	fmt.Fprintf(a.out, "\nNext:\n  gophersnake run %s%s\n  gophersnake nodes %[1]s\n", shellPath(dir), firstInput(dir, example))
	return nil
}

// firstInput is an input that shows what an example does.
func firstInput(dir, example string) string {
	return map[string]string{
		"hello":     " --input Ada",
		"resilient": ` --input '{"mode": "crash", "times": 1}'`,
		"speech":    " --input " + shellPath(filepath.Join(dir, "sample.wav")),
	}[example]
}

// shellPath is a path as a shell takes it, never mistaken for an example's name.
func shellPath(path string) string {
	if !filepath.IsAbs(path) && path != "." {
		path = "./" + path
	}
	if strings.ContainsAny(path, " \t'\"$&|;<>()*?[]#~`\\!{}") {
		return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
	}
	return path
}
