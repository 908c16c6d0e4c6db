package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/failure"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/program"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/server"
)

func newRoot(a *app) *cobra.Command {
	cobra.EnableCommandSorting = false // list the commands in the order below
	root := &cobra.Command{
		Use:   "gophersnake",
		Short: "Run pipelines of Python nodes in worker processes",
		Long: `gophersnake runs pipelines whose nodes are written in Python. Each node runs in worker
processes of its own: if an interpreter dies, its call is retried on a new worker, and
nothing else is affected.

A PIPELINE is a YAML or JSON file, a folder that contains a pipeline.yaml, or the name
of a bundled example: hello, resilient or speech.

Results are written to standard output, everything else to standard error. The
environment variable GOPHERSNAKE_PYTHON selects the interpreter; NO_COLOR disables
colors.`,
		Example: `  gophersnake demo                                  a first example: speech to text
  gophersnake init hello && gophersnake run ./hello --input Ada
  gophersnake run speech --input talk.wav --output json
  gophersnake serve speech                          the same over HTTP
  gophersnake run pipeline.yaml --input 'clips/*.wav' --output jsonl
  arecord -f S16_LE -r 16000 | gophersnake stream speech`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetUsageFunc(usageWithExitCodes(root.UsageFunc()))
	root.CompletionOptions.HiddenDefaultCmd = true
	version := root.Flags().BoolP("version", "v", false, "version for gophersnake")
	root.RunE = func(c *cobra.Command, _ []string) error {
		if !*version {
			return c.Help()
		}
		_, err := fmt.Fprintln(c.OutOrStdout(), program.ReadVersion())
		return err
	}
	a.AddFlags(root)
	root.AddCommand(
		newRun(a), newStream(a), server.New(a.App), newCall(a), newSubmit(a), newJobs(a), newTop(a), newDemo(a), newInit(a), newValidate(a), newNodes(a),
		newGraph(a), newGenerate(a), newSchema(a), newDoctor(a), newEnv(a), newVersion(a), newExitCodes(),
	)
	return root
}

// usageWithExitCodes appends the exit codes to the usage of the root command. It is a
// function, and so is the flag --version, because a template of cobra's would need package
// text/template, which calls methods by their names: the linker then keeps every method of
// the program, a seventh of its size.
func usageWithExitCodes(usage func(*cobra.Command) error) func(*cobra.Command) error {
	return func(c *cobra.Command) error {
		if err := usage(c); err != nil || c.HasParent() {
			return err
		}
		_, err := fmt.Fprint(c.OutOrStderr(), "\nExit codes:\n"+failure.ExitCodes)
		return err
	}
}

// newExitCodes returns a help topic: a command that only has a help text.
func newExitCodes() *cobra.Command {
	return &cobra.Command{
		Use:   "exit-codes",
		Short: "The meaning of the exit codes",
		Long: "The exit code says how a command ended. If there are several errors, the first one\n" +
			"determines it.\n\n" + failure.ExitCodes +
			"\nThe names are error kinds, as in the field `kind` of an error in JSON.\n" +
			"`go run` hides the exit code: it exits with 1 after any failure of the program.",
	}
}
