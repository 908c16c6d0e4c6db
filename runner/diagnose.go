package runner

import (
	"context"

	"github.com/gophersnake/gophersnake/runner/internal/doctor"
)

// FindingStatus is the result of one check of [Diagnose].
type FindingStatus string

const (
	// FindingOK means that the check found no problem.
	FindingOK FindingStatus = "ok"
	// FindingWarning means that pipelines run, but slower or with fewer features;
	// for instance, they cannot isolate nodes.
	FindingWarning FindingStatus = "warn"
	// FindingFailure means that pipelines do not run.
	FindingFailure FindingStatus = "fail"
)

// Finding is the result of one check of [Diagnose].
type Finding struct {
	// Name identifies the check, for instance "python" or "open files". Each name
	// occurs once.
	Name   string        `json:"name"`
	Status FindingStatus `json:"status"`
	// Detail says what was found. It is never empty.
	Detail string `json:"detail"`
	// Hint says how to fix the problem. It is empty if there is none.
	Hint string `json:"hint,omitempty"`
}

// Diagnose checks whether this machine has what pipelines need, and returns one
// finding for each check: the interpreter, the tools that build environments, the
// operating system's sockets, limits and isolation mechanisms, and the cache folder.
// `gophersnake doctor` prints them.
//
// [WithPython], [WithSystemPython] and [WithCacheDir] apply; other options are
// ignored. Diagnose starts interpreters to ask for their versions, creates the cache
// folder if needed, and installs nothing. The error is not nil only if an option is
// invalid; what is wrong with the machine is in the findings.
func Diagnose(ctx context.Context, opts ...Option) ([]Finding, error) {
	o, err := newOptions(opts)
	if err != nil {
		return nil, err
	}
	found := doctor.Examine(ctx, doctor.Config{Python: o.python, SystemPython: o.systemPython, CacheDir: o.cacheDir})
	findings := make([]Finding, len(found))
	for i, f := range found {
		findings[i] = Finding{Name: f.Name, Status: FindingStatus(f.Status), Detail: f.Detail, Hint: f.Hint}
	}
	return findings, nil
}
