package doctor

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/gophersnake/gophersnake/pyworker"
	"github.com/gophersnake/gophersnake/runner/internal/pyenv"
)

// checkPython checks the interpreter that pipelines would use, lists the others on
// this machine, and checks the modules that environments are built with.
func (c Config) checkPython(ctx context.Context) []Finding {
	chosen, err := pyenv.Find(ctx, pyenv.FindOptions{Explicit: c.Python, CacheDir: c.CacheDir})
	others := c.otherPythons(ctx, chosen)
	if err != nil {
		return []Finding{withoutPython(err), others}
	}
	python := Finding{Name: "python"}.ok("%v at %s, from %s", chosen.Version, chosen.Path, chosen.Source)
	findings := []Finding{python, others}
	has, err := pyenv.ToolingOf(ctx, chosen)
	if err != nil {
		return append(findings, failure("venv", err))
	}
	return append(findings, checkVenv(chosen, has), checkPip(has), c.checkMsgpack(chosen, has))
}

// failure returns the finding for a check that ended with an error of package pyenv.
func failure(name string, err error) Finding {
	f := Finding{Name: name}.fail("%v", err)
	if e, ok := errors.AsType[*pyenv.Error](err); ok {
		f.Hint = e.Hint
	}
	return f
}

// withoutPython returns the finding if no interpreter was found. The usual hint
// points to the doctor command; here the next finding has what it points to.
func withoutPython(err error) Finding {
	f := failure("python", err)
	f.Hint = strings.ReplaceAll(f.Hint, "`gophersnake doctor` lists", "the next line lists")
	return f
}

// otherPythons lists the interpreters that --python could name.
func (c Config) otherPythons(ctx context.Context, chosen pyenv.Interpreter) Finding {
	f := Finding{Name: "other pythons"}
	all, err := pyenv.Interpreters(ctx, c.CacheDir)
	if err != nil {
		return failure(f.Name, err)
	}
	var found []string
	unsupported := 0
	for _, each := range all {
		if each.Resolved == chosen.Resolved && each.Prefix == chosen.Prefix {
			continue
		}
		if each.Problem() != "" {
			unsupported++
			continue
		}
		found = append(found, fmt.Sprintf("%v at %s", each.Version, each.Path))
	}
	if unsupported > 0 {
		found = append(found, fmt.Sprintf("%d on which workers do not run", unsupported))
	}
	if len(found) == 0 {
		return f.ok("none were found")
	}
	return f.ok("%s", strings.Join(found, ", "))
}

// hasUV reports whether uv runs. It builds environments without venv and pip.
func hasUV() bool { return exec.Command("uv", "--version").Run() == nil }

func checkVenv(python pyenv.Interpreter, has pyenv.Tooling) Finding {
	f := Finding{Name: "venv"}
	missing := "the module ensurepip"
	switch {
	case has.Venv && has.Ensurepip:
		return f.ok("the modules venv and ensurepip are installed")
	case !has.Venv:
		missing = "the module venv"
	case has.Pip != "":
		return f.ok("the module venv is installed, and pip without ensurepip")
	}
	if hasUV() {
		return f.ok("%s is missing, but uv does not need it", missing)
	}
	return f.fail("%s is missing, and so is uv: environments cannot be built", missing).
		hint(fmt.Sprintf("install uv (`pip install uv`), or on Debian and Ubuntu: apt install python%d.%d-venv",
			python.Version.Major, python.Version.Minor))
}

func checkPip(has pyenv.Tooling) Finding {
	f := Finding{Name: "pip"}
	switch {
	case has.Pip != "":
		return f.ok("%s", has.Pip)
	case has.Ensurepip:
		return f.ok("not installed; ensurepip adds it to environments")
	case hasUV():
		return f.ok("not installed, but uv does not need it")
	}
	return f.warn("not installed").hint("install uv, which does not need pip")
}

// checkMsgpack looks for the package that the worker imports. Only an interpreter
// that is used as it is must have it.
func (c Config) checkMsgpack(python pyenv.Interpreter, has pyenv.Tooling) Finding {
	f := Finding{Name: "msgpack"}
	switch {
	case has.Msgpack != "":
		return f.ok("%s", has.Msgpack)
	case c.SystemPython:
		return f.fail("not installed, and --system-python uses the interpreter as it is").
			hint(python.Path + " -m pip install msgpack, or leave out --system-python")
	}
	return f.ok("not installed; environments get their own")
}

// checkWorker looks for damaged files of the worker's package in the cache folder.
func checkWorker(cache string) Finding {
	f := Finding{Name: "worker"}
	if damage := pyworker.Damage(filepath.Join(cache, "pyworker")); damage != "" {
		return f.warn("%s", damage).hint("the next pipeline repairs it")
	}
	return f.ok("the worker's package has no damage")
}

// checkEnvironments looks for damaged environments in the cache folder.
func checkEnvironments(cache string) Finding {
	f := Finding{Name: "environments"}
	all, err := pyenv.List(cache)
	if err != nil {
		return failure(f.Name, err)
	}
	for _, env := range all {
		if env.Damage != "" {
			return f.warn("%s is damaged: %s", env.Dir, env.Damage).hint("the next pipeline that needs it builds it again")
		}
	}
	return f.ok("%d, without damage", len(all))
}
