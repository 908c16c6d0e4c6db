package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"github.com/gophersnake/gophersnake/runner"
)

// examine looks at all that pipelines need.
func (a *app) examine(ctx context.Context) []check {
	cache, err := a.cache()
	checks := append([]check{checkPlatform()}, a.checkPython(ctx, cache)...)
	checks = append(checks, checkUV(), checkSpawn(), checkSockets(), checkFiles())
	checks = append(checks, platformChecks()...)
	checks = append(checks, checkIsolation()...)
	if err != nil {
		return append(checks, check{Name: "cache"}.fail("%v", err).mend("name a folder with --cache-dir"))
	}
	return append(checks, checkCache(cache))
}

// checkPython looks at the interpreter that would be used, at the others, and at
// what environments are made with.
func (a *app) checkPython(ctx context.Context, cache string) []check {
	chosen, err := runner.FindInterpreter(ctx, runner.FindOptions{Explicit: a.python, CacheDir: cache})
	others := a.otherPythons(ctx, cache, chosen)
	if err != nil {
		return []check{withoutPython(err), others}
	}
	checks := []check{check{Name: "python"}.ok("%v at %s, from %s", chosen.Version, chosen.Path, chosen.Source), others}
	has, err := runner.EquipmentOf(ctx, chosen)
	if err != nil {
		return append(checks, failing("venv", err))
	}
	return append(checks, checkVenv(chosen, has), checkPip(has), a.checkMsgpack(chosen, has))
}

// failing is a check that ended with an error of package pyenv.
func failing(name string, err error) check {
	c := check{Name: name}.fail("%v", err)
	if e, ok := errors.AsType[*runner.EnvironmentError](err); ok {
		c = c.mend(e.Hint)
	}
	return c
}

// withoutPython leaves out that the command itself lists what is here.
func withoutPython(err error) check {
	c := failing("python", err)
	c.Hint = strings.ReplaceAll(c.Hint, "`gophersnake doctor` lists", "the next line lists")
	return c
}

// otherPythons lists the interpreters that --python could name.
func (a *app) otherPythons(ctx context.Context, cache string, chosen runner.Interpreter) check {
	c := check{Name: "other pythons"}
	all, err := runner.Interpreters(ctx, cache)
	if err != nil {
		return failing(c.Name, err)
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
		return c.ok("none were found")
	}
	return c.ok("%s", strings.Join(found, ", "))
}

// makesWithUV reports whether uv is there, which needs none of the modules.
func makesWithUV() bool { return exec.Command("uv", "--version").Run() == nil }

func checkVenv(python runner.Interpreter, has runner.InterpreterEquipment) check {
	c := check{Name: "venv"}
	missing := "the module ensurepip"
	switch {
	case has.Venv && has.Ensurepip:
		return c.ok("the modules venv and ensurepip are there")
	case !has.Venv:
		missing = "the module venv"
	case has.Pip != "":
		return c.ok("the module venv is there, and pip without ensurepip")
	}
	mend := fmt.Sprintf("install uv (`pip install uv`), or on Debian and Ubuntu: apt install python%d.%d-venv", python.Version.Major, python.Version.Minor)
	if makesWithUV() {
		return c.ok("%s is missing, and not needed with uv", missing)
	}
	return c.fail("%s is missing, and so is uv: environments cannot be made", missing).mend(mend)
}

func checkPip(has runner.InterpreterEquipment) check {
	c := check{Name: "pip"}
	switch {
	case has.Pip != "":
		return c.ok("%s", has.Pip)
	case has.Ensurepip:
		return c.ok("not in the interpreter; ensurepip puts it into environments")
	case makesWithUV():
		return c.ok("not in the interpreter, and not needed with uv")
	}
	return c.warn("not in the interpreter").mend("install uv, which needs no pip")
}

// checkMsgpack looks for what the worker imports, which matters where the
// interpreter is used as it is.
func (a *app) checkMsgpack(python runner.Interpreter, has runner.InterpreterEquipment) check {
	c := check{Name: "msgpack"}
	switch {
	case has.Msgpack != "":
		return c.ok("%s", has.Msgpack)
	case a.systemPython:
		return c.fail("not in the interpreter, and --system-python uses it as it is").
			mend(python.Path + " -m pip install msgpack, or leave out --system-python")
	}
	return c.ok("not in the interpreter; environments get their own")
}
