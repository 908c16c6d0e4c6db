package pyenv

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sync/errgroup"
)

// Interpreters lists the interpreters of this machine, the newest first, those that
// are not supported included: see [Interpreter.Problem]. What does not run is left
// out.
func Interpreters(ctx context.Context, cache string) ([]Interpreter, error) {
	type place struct{ path, source string }
	var places []place
	for _, variable := range []string{"VIRTUAL_ENV", "CONDA_PREFIX"} {
		if path := pythonOf(os.Getenv(variable)); filepath.IsAbs(path) && isProgram(path) {
			places = append(places, place{path, variable})
		}
	}
	names := append([]string{"python3", "python"}, supportedNames()...)
	for path := range onPath(names...) {
		// A folder of shims has one for each version, and most of them are off.
		shim := filepath.Base(filepath.Dir(path)) == "shims"
		if name := filepath.Base(path); !shim || name == "python3" || name == "python" {
			places = append(places, place{path, "PATH"})
		}
	}
	for path := range elsewhere() {
		places = append(places, place{path, "found"})
	}

	answers := make([]Interpreter, len(places))
	var asking errgroup.Group
	asking.SetLimit(8)
	for i, p := range places {
		asking.Go(func() error {
			if found, err := ask(ctx, p.path, cache); err == nil {
				found.Source = p.source
				answers[i] = found
			}
			return nil
		})
	}
	_ = asking.Wait() // none fails
	if ctx.Err() != nil {
		return nil, canceled(ctx, "look for interpreters")
	}
	return distinct(answers), nil
}

// distinct drops what did not answer and what is the same by another name.
func distinct(all []Interpreter) []Interpreter {
	type key struct{ resolved, prefix string }
	seen := make(map[key]bool)
	found := slices.DeleteFunc(all, func(i Interpreter) bool {
		k := key{i.Resolved, i.Prefix}
		again := i.Path == "" || seen[k]
		seen[k] = true
		return again
	})
	slices.SortStableFunc(found, func(a, b Interpreter) int {
		return cmp.Or(b.Version.Compare(a.Version), cmp.Compare(a.Path, b.Path))
	})
	return found
}
