package ipc

import (
	"fmt"
	"math"
	"time"
	"unicode/utf8"
)

// The bounds of what a worker says about itself and its node. A worker that exceeds one
// violates the protocol: its start fails. The Python package applies the same bounds to
// nodes when they are declared, and shortens long texts, so an honest node never exceeds
// them.
const (
	// MaxAtOnce bounds [Description].Batch and [Description].Concurrency.
	MaxAtOnce = 4096
	// MaxBatchWait bounds [Description].MaxWait.
	MaxBatchWait = time.Minute
	// MaxParameters bounds the number of params, and of inputs.
	MaxParameters = 1024
	// MaxName bounds the length of a name or version in bytes, MaxText that of an
	// annotation, a default or a path, and MaxDoc that of a docstring.
	MaxName = 1 << 10
	MaxText = 8 << 10
	MaxDoc  = 64 << 10
)

// maxPID is the largest process id that a Linux kernel can be configured for.
const maxPID = 1 << 22

// violation returns an error if a value is not within its bounds. The comparison is false
// for NaN.
func violation[N int | float64](what, name string, value, least, most N) error {
	if value >= least && value <= most {
		return nil
	}
	return &ProtocolError{Reason: fmt.Sprintf("%s: %s is %v, not from %v to %v", what, name, value, least, most)}
}

// longText returns an error if a text has more bytes than its bound.
func longText(what, name, text string, most int) error {
	if len(text) <= most {
		return nil
	}
	return &ProtocolError{Reason: fmt.Sprintf("%s: %s has %d bytes, more than %d", what, name, len(text), most)}
}

// first returns the first error that is not nil.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// Check returns nil if all numbers and lengths in the description are within their bounds,
// and otherwise a *[ProtocolError] that names the value and its bound. [Start] calls it;
// callers need it only for descriptions that arrive in another way.
func (d *Description) Check() error {
	const what = "the description of the node"
	err := first(
		violation(what, "batch", d.Batch, 0, MaxAtOnce),
		violation(what, "max_wait", d.MaxWait, 0, MaxBatchWait.Seconds()),
		violation(what, "concurrency", d.Concurrency, 0, MaxAtOnce),
		violation(what, "line", d.Line, 0, math.MaxInt32),
		violation(what, "the number of params", len(d.Params), 0, MaxParameters),
		violation(what, "the number of inputs", len(d.Inputs), 0, MaxParameters),
		longText(what, "name", d.Name, MaxName),
		longText(what, "kind", d.Kind, MaxName),
		longText(what, "node_kind", d.NodeKind, MaxName),
		longText(what, "doc", d.Doc, MaxDoc),
		longText(what, "file", d.File, MaxText),
		longText(what, "returns", d.Returns, MaxText),
		longText(what, "python", d.Python, MaxName),
		longText(what, "package", d.Package, MaxName),
	)
	for _, parameters := range [][]Parameter{d.Params, d.Inputs} {
		for i := range parameters {
			err = first(err, parameters[i].check(what))
		}
	}
	return err
}

func (p *Parameter) check(what string) error {
	var value string
	if p.Default != nil {
		value = *p.Default
	}
	return first(
		longText(what, "the name of a parameter", p.Name, MaxName),
		longText(what, "the annotation of a parameter", p.Annotation, MaxText),
		longText(what, "the default of a parameter", value, MaxText),
	)
}

// check is [Description.Check] for the first message of a worker.
func (h *Hello) check() error {
	const what = "the hello message"
	return first(
		violation(what, "pid", h.PID, 0, maxPID),
		longText(what, "package", h.Package, MaxName),
		longText(what, "python", h.Python, MaxName),
		longText(what, "implementation", h.Implementation, MaxName),
	)
}

// logLevels are the levels that a record may have.
var logLevels = map[string]bool{"trace": true, "debug": true, "info": true, "warn": true, "error": true}

// bound brings the fields of a record within their bounds. A record is not refused, since
// it may say why the worker fails. An unknown level becomes info: a logger could take one
// such as "off" for a level that is always written.
func (r *LogRecord) bound() {
	if !logLevels[r.Level] {
		r.Level = "info"
	}
	r.Logger = cut(r.Logger, MaxName)
}

// bound brings the fields of a progress message within their bounds.
func (p *Progress) bound() {
	p.Message = cut(p.Message, MaxText)
	switch {
	case p.Fraction == nil:
	case math.IsNaN(*p.Fraction):
		p.Fraction = nil
	default:
		*p.Fraction = min(max(*p.Fraction, 0), 1)
	}
}

// cut returns a text without what exceeds the given number of bytes. It cuts no character
// in two.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most]
}
