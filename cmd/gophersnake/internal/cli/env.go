package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gophersnake/gophersnake/runner"
)

func newEnv(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "env",
		Short: "Find, list and remove the Python environments that were made",
		Long: `A pipeline runs in a virtual environment that holds what it requires. gophersnake
makes it when the pipeline runs first, and keeps it in the cache folder; pipelines
with the same requirements and interpreter share one. These commands find and list
the environments, and make room. What is removed and needed again is made again.`,
		Example: "  gophersnake env list\n  gophersnake env prune --older-than 7d\n" +
			"  $(gophersnake env python speech) -m pip list",
		Args: needs(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newEnvPython(a), newEnvList(a), newEnvPrune(a))
	return c
}

func newEnvPython(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "python PIPELINE",
		Short: "Print the interpreter of a pipeline's environment",
		Long: `Print the interpreter of a pipeline's environment, making the environment if it is
not there. It is for what else is to run there: an editor, the tests of the nodes.`,
		Example: `  gophersnake env python speech
  $(gophersnake env python ./pipeline.yaml) -c 'import numpy; print(numpy.__version__)'`,
		Args: needs(1, 1, "the PIPELINE"),
		RunE: func(c *cobra.Command, args []string) error {
			p, err := a.load(args[0])
			if err != nil {
				return err
			}
			d := a.newDisplay(nil, 0)
			defer d.close()
			r, err := runner.New(p, a.options(runner.WithBuildProgress(d.building))...)
			if err != nil {
				return err
			}
			interpreter, err := r.Python(c.Context())
			if err != nil {
				return whyEnded(c.Context(), err)
			}
			d.close()
			_, err = fmt.Fprintln(a.out, interpreter)
			return err
		},
	}
}

func newEnvList(a *app) *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the environments, the last used one first",
		Long: `List the environments, the last used one first. Files that uv shares with its own
cache count in each size.`,
		Example: "  gophersnake env list\n  gophersnake env list --output json",
		Args:    needs(0, 0, ""),
		RunE: func(*cobra.Command, []string) error {
			if err := outputFormat("output", format, "text", "json"); err != nil {
				return err
			}
			cache, err := a.cache()
			if err != nil {
				return err
			}
			envs, err := runner.Environments(cache)
			if err != nil {
				return err
			}
			if format == "json" {
				return printJSON(a.out, environmentDocuments(envs))
			}
			return a.printEnvironments(cache, envs)
		},
	}
	c.Flags().StringVarP(&format, "output", "o", "text", "text or json")
	return c
}

// environmentDocument is an environment in JSON.
type environmentDocument struct {
	Key          string     `json:"key"`
	Python       string     `json:"python"`
	Requirements []string   `json:"requirements"`
	Size         int64      `json:"size"`
	Created      *time.Time `json:"created,omitempty"`
	LastUsed     time.Time  `json:"last_used"`
	Path         string     `json:"path"`
	Complete     bool       `json:"complete"`
}

func environmentDocuments(envs []runner.Environment) []environmentDocument {
	documents := make([]environmentDocument, 0, len(envs))
	for _, env := range envs {
		d := environmentDocument{
			Key: env.Key, Requirements: append([]string{}, env.Requirements...), Size: env.Size,
			LastUsed: env.LastUsed, Path: env.Dir, Complete: env.Complete,
		}
		if !env.Created.IsZero() {
			d.Python, d.Created = env.PythonVersion, &env.Created
		}
		documents = append(documents, d)
	}
	return documents
}

func (a *app) printEnvironments(cache string, envs []runner.Environment) error {
	folder := filepath.Join(cache, "envs")
	if len(envs) == 0 {
		_, err := fmt.Fprintf(a.out, "There are no environments in %s.\n", folder)
		return err
	}
	rows := [][]string{{"KEY", "PYTHON", "SIZE", "LAST USED", "REQUIREMENTS"}}
	var size int64
	for _, env := range envs {
		size += env.Size
		rows = append(rows, []string{env.Key, orDefault(env.PythonVersion, "-"), byteCount(env.Size),
			env.LastUsed.Format("2006-01-02 15:04"), contents(env)})
	}
	text, _ := table(rows, a.outStyle)
	_, err := fmt.Fprintf(a.out, "%s\n%s, %s, in %s\n", text, plural(len(envs), "environment"), byteCount(size), folder)
	return err
}

// contents says in a few words what is in an environment.
func contents(env runner.Environment) string {
	switch {
	case env.Created.IsZero():
		return "not complete: it is being made, or was given up"
	case !env.Complete:
		return "its interpreter is gone"
	case len(env.Requirements) == 0:
		return "none"
	}
	return shorten(strings.Join(env.Requirements, ", "), 60)
}

func newEnvPrune(a *app) *cobra.Command {
	olderThan := age(30 * day)
	var o runner.PruneOptions
	c := &cobra.Command{
		Use:   "prune",
		Short: "Remove environments that were not used for some time",
		Long: `Remove environments that were not used for some time, and what interrupted
processes left half-built. What a process makes at the moment, or runs workers in,
stays.`,
		Example: "  gophersnake env prune\n  gophersnake env prune --older-than 12h --dry-run\n  gophersnake env prune --all",
		Args:    needs(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			if o.All && c.Flags().Changed("older-than") {
				return usagef("--all and --older-than do not go together")
			}
			o.OlderThan = time.Duration(olderThan)
			return a.prune(c.Context(), o)
		},
	}
	c.Flags().Var(&olderThan, "older-than", "how long ago the last use has to be, such as 12h or 7d")
	c.Flags().BoolVar(&o.All, "all", false, "remove all of them")
	c.Flags().BoolVar(&o.DryRun, "dry-run", false, "only say what would be removed")
	return c
}

func (a *app) prune(ctx context.Context, o runner.PruneOptions) error {
	cache, err := a.cache()
	if err != nil {
		return err
	}
	done, err := runner.PruneEnvironments(ctx, cache, o)
	removed, freed := "removed", "freed"
	if o.DryRun {
		removed, freed = "would remove", "would free"
	}
	var size int64
	for _, env := range done.Removed {
		size += env.Size
		fmt.Fprintf(a.out, "%s %s  %s  %s\n", removed, env.Key, byteCount(env.Size), contents(env))
	}
	for _, env := range done.Kept {
		fmt.Fprintf(a.out, "kept %s: it is in use\n", env.Key)
	}
	rest := ""
	if shared := size - done.Freed; shared > 0 {
		rest = fmt.Sprintf("; uv's own cache keeps %s, which `uv cache clean` removes", byteCount(shared))
	}
	fmt.Fprintf(a.out, "%s %s%s\n", freed, byteCount(done.Freed), rest)
	return err
}

const day = 24 * time.Hour

// age is a flag for a duration that also takes days.
type age time.Duration

// String is such as "30d" or "12h0m0s".
func (a *age) String() string {
	if d := time.Duration(*a); d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	return time.Duration(*a).String()
}

// Set reads a number of days, or what Go takes for a duration.
func (a *age) Set(text string) error {
	d, err := time.ParseDuration(text)
	if days, ok := strings.CutSuffix(text, "d"); ok {
		var n uint64
		n, err = strconv.ParseUint(days, 10, 16)
		d = time.Duration(n) * day
	}
	if err != nil || d < 0 {
		return errors.New("it takes a duration such as 12h or 7d")
	}
	*a = age(d)
	return nil
}

// Type names what the flag takes.
func (a *age) Type() string { return "duration" }
