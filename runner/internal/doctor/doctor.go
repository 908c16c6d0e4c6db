// Package doctor checks whether this machine has what gophersnake needs to run
// pipelines: an interpreter, tools that build environments, a cache folder that can
// be written to, and what the operating system must allow.
//
// [Examine] runs all checks. A check may start short-lived processes and create
// temporary files, which it removes; it installs nothing.
package doctor

import (
	"context"
	"fmt"

	"github.com/gophersnake/gophersnake/runner/internal/isolation"
	"github.com/gophersnake/gophersnake/runner/internal/pyenv"
)

// Status is the result of a check.
type Status string

const (
	// OK means that the check found no problem.
	OK Status = "ok"
	// Warning means that pipelines run, but slower or with fewer features.
	Warning Status = "warn"
	// Failure means that pipelines do not run.
	Failure Status = "fail"
)

// Finding is the result of one check.
type Finding struct {
	// Name identifies the check, for instance "python" or "open files". It is unique
	// among the findings of one examination.
	Name   string
	Status Status
	// Detail says what was found.
	Detail string
	// Hint says how to fix the problem. It may be empty.
	Hint string
}

// Config says what to examine.
type Config struct {
	// Python names the interpreter: a path, a command or a version. Empty means the
	// one that the runner would choose.
	Python string
	// SystemPython means that the interpreter is used as it is, without a managed
	// environment.
	SystemPython bool
	// CacheDir is the cache folder; empty means the default one.
	CacheDir string
}

// Examine runs all checks, one after another, and returns a finding for each. It
// takes as long as the interpreters on this machine take to start, usually less than
// a second. If ctx ends, the checks that have not finished fail.
func Examine(ctx context.Context, config Config) []Finding {
	cache, err := pyenv.CacheDir(config.CacheDir)
	config.CacheDir = cache
	findings := append([]Finding{checkPlatform()}, config.checkPython(ctx)...)
	findings = append(findings, checkUV(), checkContainers(), checkSpawn(), checkSockets(), checkFiles())
	findings = append(findings, platformChecks()...)
	findings = append(findings, checkIsolation()...)
	if err != nil {
		return append(findings, Finding{Name: "cache"}.fail("%v", err).hint("name a folder with --cache-dir"))
	}
	inCache := checkCache(cache)
	if inCache.Status != Failure {
		findings = append(findings, checkWorker(cache), checkEnvironments(cache))
	}
	return append(findings, inCache)
}

// checkIsolation reports which isolation mechanisms work. A mechanism that does not
// is only a warning, because pipelines without isolation run without it.
func checkIsolation() []Finding {
	var findings []Finding
	for _, m := range isolation.Probe() {
		f := Finding{Name: m.Name}
		if m.Works {
			findings = append(findings, f.ok("%s", m.Detail))
			continue
		}
		findings = append(findings, f.warn("%s: %s", m.Detail, m.Without).hint(m.Hint))
	}
	return findings
}

func (f Finding) with(status Status, format string, args ...any) Finding {
	f.Status, f.Detail = status, fmt.Sprintf(format, args...)
	return f
}

func (f Finding) ok(format string, args ...any) Finding   { return f.with(OK, format, args...) }
func (f Finding) warn(format string, args ...any) Finding { return f.with(Warning, format, args...) }
func (f Finding) fail(format string, args ...any) Finding { return f.with(Failure, format, args...) }

func (f Finding) hint(hint string) Finding {
	f.Hint = hint
	return f
}
