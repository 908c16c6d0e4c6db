package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/failure"
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
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRunE: a.prepare,
	}
	root.SetUsageFunc(usageWithExitCodes(root.UsageFunc()))
	root.CompletionOptions.HiddenDefaultCmd = true
	version := root.Flags().BoolP("version", "v", false, "version for gophersnake")
	root.RunE = func(c *cobra.Command, _ []string) error {
		if !*version {
			return c.Help()
		}
		_, err := fmt.Fprintln(c.OutOrStdout(), readVersion())
		return err
	}
	flags := root.PersistentFlags()
	flags.StringVar(&a.logLevel, "log-level", "info", "lowest level to log: trace, debug, info, warn, error or off")
	flags.BoolVar(&a.logJSON, "log-json", false, "write the log as JSON, one record per line")
	flags.StringVar(&a.python, "python", "", "Python interpreter: a path, a command, or a version such as 3.12")
	flags.BoolVar(&a.systemPython, "system-python", false, "run nodes in the interpreter itself instead of a managed environment")
	flags.StringVar(&a.cacheDir, "cache-dir", "", "folder for environments (default: a folder in the user's cache folder)")
	root.AddCommand(
		newRun(a), newStream(a), newServe(a), newCall(a), newSubmit(a), newJobs(a), newTop(a), newDemo(a), newInit(a), newValidate(a), newNodes(a),
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

// argumentCount checks the number of arguments. The name of the first argument appears in
// the message if it is missing; a negative most means any number.
func argumentCount(least, most int, name string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return fmt.Errorf("the %s is missing", name)
		case most >= 0 && len(args) > most:
			return fmt.Errorf("unexpected argument %q", args[most])
		}
		return nil
	}
}

// addOutputFlag adds the flag --output of commands that print text or JSON.
func addOutputFlag(c *cobra.Command, format *string) {
	c.Flags().StringVarP(format, "output", "o", "text", "text or json")
}
