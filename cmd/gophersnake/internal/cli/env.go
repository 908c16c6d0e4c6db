package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/failure"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/output"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/program"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/terminal"
	"github.com/gophersnake/gophersnake/runner"
)

func newEnv(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "env",
		Short: "Find, list and remove Python environments",
		Long: `A pipeline runs in a virtual environment with the packages that it requires. gophersnake
builds the environment when the pipeline runs for the first time and keeps it in the
cache folder. Pipelines with the same requirements and interpreter share one. These
commands find, list and remove environments. An environment that was removed is built
again when a pipeline needs it.`,
		Example: "  gophersnake env list\n  gophersnake env prune --older-than 7d\n" +
			"  $(gophersnake env python speech) -m pip list",
		Args: program.ArgumentCount(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newEnvPython(a), newEnvList(a), newEnvPrune(a))
	return c
}

func newEnvPython(a *app) *cobra.Command {
	var with []string
	c := &cobra.Command{
		Use:   "python PIPELINE",
		Short: "Print the interpreter of a pipeline's environment",
		Long: `Print the path of the interpreter of a pipeline's environment, for an editor, or to run
the tests of nodes. The environment is built if needed. The interpreter can import the
package gophersnake and what the pipeline requires. With --with it is that of another
environment, which has further packages as well; the pipeline does not run there.`,
		Example: `  gophersnake env python speech
  $(gophersnake env python --with pytest ./shop) -m pytest ./shop
  $(gophersnake env python ./pipeline.yaml) -c 'import numpy; print(numpy.__version__)'`,
		Args: program.ArgumentCount(1, 1, "PIPELINE"),
		RunE: func(c *cobra.Command, args []string) error { return a.printPython(c.Context(), args[0], with) },
	}
	c.Flags().StringArrayVar(&with, "with", nil, "a further package, as pip takes it, such as pytest or 'pytest>=8'; may be repeated")
	return c
}

func (a *app) printPython(ctx context.Context, name string, with []string) error {
	p, err := a.Load(name)
	if err != nil {
		return err
	}
	p.Requirements = append(p.Requirements, with...)
	d := a.NewDisplay(nil, 0)
	defer d.Close()
	r, err := runner.New(p, a.Options(runner.WithBuildProgress(d.BuildProgress))...)
	if err != nil {
		return err
	}
	interpreter, err := r.Python(ctx)
	if err != nil {
		return failure.Cause(ctx, err)
	}
	d.Close() // so that the path appears below the progress
	_, err = fmt.Fprintln(a.Out, interpreter)
	return err
}

func newEnvList(a *app) *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the environments, the most recently used first",
		Long: `List the environments, the most recently used first. Each size includes files that uv
shares with its own cache.`,
		Example: "  gophersnake env list\n  gophersnake env list --output json",
		Args:    program.ArgumentCount(0, 0, ""),
		RunE: func(*cobra.Command, []string) error {
			if err := failure.CheckChoice("output", format, "text", "json"); err != nil {
				return err
			}
			cache, err := a.Cache()
			if err != nil {
				return err
			}
			envs, err := runner.Environments(cache)
			if err != nil {
				return err
			}
			if format == "json" {
				return output.PrintJSON(a.Out, environmentDocuments(envs))
			}
			return a.printEnvironments(cache, envs)
		},
	}
	program.AddOutputFlag(c, &format)
	return c
}

// environmentDocument is the JSON form of an environment.
type environmentDocument struct {
	Key          string     `json:"key"`
	Python       string     `json:"python"`
	Requirements []string   `json:"requirements"`
	Size         int64      `json:"size"`
	Created      *time.Time `json:"created,omitempty"`
	LastUsed     time.Time  `json:"last_used"`
	Path         string     `json:"path"`
	Complete     bool       `json:"complete"`
	Damage       string     `json:"damage,omitempty"`
}

func environmentDocuments(envs []runner.Environment) []environmentDocument {
	documents := make([]environmentDocument, 0, len(envs))
	for _, env := range envs {
		d := environmentDocument{
			Key: env.Key, Requirements: append([]string{}, env.Requirements...), Size: env.Size,
			LastUsed: env.LastUsed, Path: env.Dir, Complete: env.Complete, Damage: env.Damage,
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
		_, err := fmt.Fprintf(a.Out, "There are no environments in %s.\n", folder)
		return err
	}
	rows := [][]string{{"KEY", "PYTHON", "SIZE", "LAST USED", "REQUIREMENTS"}}
	var size int64
	for _, env := range envs {
		size += env.Size
		rows = append(rows, []string{env.Key, cmp.Or(env.PythonVersion, "-"), terminal.ByteCount(env.Size),
			env.LastUsed.Format("2006-01-02 15:04"), contentOf(env)})
	}
	text, _ := terminal.Table(rows, a.Style)
	_, err := fmt.Fprintf(a.Out, "%s\n%s, %s, in %s\n", text, terminal.Plural(len(envs), "environment"), terminal.ByteCount(size), folder)
	return err
}

// contentOf lists the requirements of an environment, or says why it is not usable.
func contentOf(env runner.Environment) string {
	switch {
	case env.Created.IsZero():
		return "incomplete: the build is in progress or was interrupted"
	case env.Damage != "":
		return "damaged, to be built again: " + env.Damage
	case !env.Complete:
		return "unusable: its interpreter was removed"
	case len(env.Requirements) == 0:
		return "none"
	}
	return terminal.Shorten(strings.Join(env.Requirements, ", "), 60)
}

func newEnvPrune(a *app) *cobra.Command {
	olderThan := age(30 * day)
	var o runner.PruneOptions
	c := &cobra.Command{
		Use:   "prune [PIPELINE...]",
		Short: "Remove the environments of pipelines, or those not used for some time",
		Long: `Remove the environments of the named pipelines, which other pipelines with the same
requirements share. Without a PIPELINE, remove environments that have not been used for
some time, and the remains of interrupted builds. An environment that a process is
building or runs workers in is kept.`,
		Example: "  gophersnake env prune\n  gophersnake env prune ./shop\n  gophersnake env prune --older-than 12h --dry-run\n  gophersnake env prune --all",
		Args:    program.ArgumentCount(0, -1, ""),
		RunE: func(c *cobra.Command, args []string) error {
			if o.All && c.Flags().Changed("older-than") {
				return failure.Usagef("--all and --older-than cannot be combined")
			}
			if len(args) > 0 && (o.All || c.Flags().Changed("older-than")) {
				return failure.Usagef("--all and --older-than select among all environments, and cannot be combined with a PIPELINE")
			}
			o.OlderThan = time.Duration(olderThan)
			for _, name := range args {
				keys, err := a.environmentKeys(c.Context(), name)
				if err != nil {
					return err
				}
				o.Keys = append(o.Keys, keys...)
			}
			return a.prune(c.Context(), o)
		},
	}
	c.Flags().Var(&olderThan, "older-than", "remove environments that were last used longer ago than this, such as 12h or 7d")
	c.Flags().BoolVar(&o.All, "all", false, "remove all environments")
	c.Flags().BoolVar(&o.DryRun, "dry-run", false, "print what would be removed, and remove nothing")
	return c
}

// environmentKeys returns the keys of the environments of a pipeline.
func (a *app) environmentKeys(ctx context.Context, name string) ([]string, error) {
	p, err := a.Load(name)
	if err != nil {
		return nil, err
	}
	r, err := runner.New(p, a.Options()...)
	if err != nil {
		return nil, err
	}
	keys, err := r.EnvironmentKeys(ctx)
	return keys, failure.Cause(ctx, err)
}

func (a *app) prune(ctx context.Context, o runner.PruneOptions) error {
	cache, err := a.Cache()
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
		fmt.Fprintf(a.Out, "%s %s  %s  %s\n", removed, env.Key, terminal.ByteCount(env.Size), contentOf(env))
	}
	for _, env := range done.Kept {
		fmt.Fprintf(a.Out, "kept %s: it is in use\n", env.Key)
	}
	rest := ""
	if shared := size - done.Freed; shared > 0 {
		rest = fmt.Sprintf("; uv's own cache keeps %s, which `uv cache clean` removes", terminal.ByteCount(shared))
	}
	fmt.Fprintf(a.Out, "%s %s%s\n", freed, terminal.ByteCount(done.Freed), rest)
	return err
}

const day = 24 * time.Hour

// age is the value of a flag that takes a duration, also in days.
type age time.Duration

// String returns the duration in a form such as "30d" or "12h0m0s".
func (a *age) String() string {
	if d := time.Duration(*a); d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	return time.Duration(*a).String()
}

// Set implements pflag.Value. It takes a number of days or a duration in Go's form.
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

// Type implements pflag.Value.
func (a *age) Type() string { return "duration" }
