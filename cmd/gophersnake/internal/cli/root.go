package cli

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"
)

func newRoot(a *app) *cobra.Command {
	cobra.EnableCommandSorting = false // in the order in which they are needed
	root := &cobra.Command{
		Use:   "gophersnake",
		Short: "Run pipelines of Python nodes that outlive their interpreters",
		Long: `gophersnake runs pipelines whose nodes are Python code. Each node runs in processes
of its own, so an interpreter that dies takes nothing along: the call is made again
on a fresh one.

A pipeline is a YAML or JSON file, a folder that holds a pipeline.yaml, or the name
of a bundled example: hello, resilient or speech.

The environment variables GOPHERSNAKE_PYTHON (the interpreter) and NO_COLOR are
heeded. Results go to standard output, all else to standard error.`,
		Example: `  gophersnake demo                                  see it work: speech to text
  gophersnake init hello && gophersnake run ./hello --input Ada
  gophersnake run speech --input talk.wav --output json
  gophersnake run pipeline.yaml --input 'clips/*.wav' --output jsonl
  arecord -f S16_LE -r 16000 | gophersnake stream speech`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRunE: a.prepare,
		Version:           readVersion(a.version).String(),
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetUsageTemplate(root.UsageTemplate() + "{{if not .HasParent}}\nExit codes:\n" + exitCodes + "{{end}}")
	root.CompletionOptions.HiddenDefaultCmd = true
	flags := root.PersistentFlags()
	flags.StringVar(&a.logLevel, "log-level", "info", "what is logged: trace, debug, info, warn, error or off")
	flags.BoolVar(&a.logJSON, "log-json", false, "log JSON, a line a record")
	flags.StringVar(&a.python, "python", "", "the interpreter: a path, a command, or a version such as 3.12")
	flags.BoolVar(&a.systemPython, "system-python", false, "use the interpreter as it is, without a managed environment")
	flags.StringVar(&a.cacheDir, "cache-dir", "", "folder of the environments (default: in the user's cache folder)")
	root.AddCommand(
		newRun(a), newStream(a), newDemo(a), newInit(a), newValidate(a), newNodes(a), newGraph(a), newSchema(a),
		newDoctor(a), newEnv(a), newVersion(a), newExitCodes(),
	)
	return root
}

// needs checks the number of arguments, and says what is missing by name.
func needs(least, most int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return fmt.Errorf("%s is missing", what)
		case most >= 0 && len(args) > most:
			return fmt.Errorf("there is an argument too many: %q", args[most])
		}
		return nil
	}
}

// outputFormat checks a flag that takes one of a few names.
func outputFormat(flag, value string, known ...string) error {
	if slices.Contains(known, value) {
		return nil
	}
	return usagef("--%s takes %s, not %q", flag, orList(known), value)
}
