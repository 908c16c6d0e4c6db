package main

import (
	"errors"
	"fmt"
	"slices"
)

// expectation bounds a ratio of the report. In the section calls it is that of
// one peer to another with the small payload, else that of a line of the
// section's table.
type expectation struct {
	section     string
	of, to      string
	least, most float64 // 0: no bound
}

var expectations = []expectation{
	{section: callsName, of: gophersnakeName, to: pipeName, most: 1.2},
	{section: callsName, of: grpcName, to: gophersnakeName, least: 7},
	{section: roundtripName, of: roundtripReturned, to: "copy of 4 MiB", most: 2.5},
	{section: handoverName, of: "64 MiB", to: "64 B", most: 1.3},
	{section: throughputName, of: "64 in flight", to: "1 in flight", least: 6},
	{section: batchName, of: "64 in flight, in batches of 32", to: "1 in flight", least: 10},
}

// check returns an error for each expectation of the sections measured that the
// report does not meet.
func (r *report) check() error {
	var faults []error
	for _, e := range expectations {
		if slices.Contains(r.Sections, e.section) {
			faults = append(faults, e.check(r))
		}
	}
	return errors.Join(faults...)
}

func (e expectation) check(r *report) error {
	ratio := e.ratio(r)
	fault := ""
	switch {
	case ratio == 0:
		return fmt.Errorf("%s: cannot check %s against %s: it was not measured", e.section, e.of, e.to)
	case e.most > 0 && ratio > e.most:
		fault = fmt.Sprintf("at most %g", e.most)
	case e.least > 0 && ratio < e.least:
		fault = fmt.Sprintf("at least %g", e.least)
	default:
		return nil
	}
	return fmt.Errorf("%s: %s is %.2f times %s; expected %s", e.section, e.of, ratio, e.to, fault)
}

// ratio returns the ratio, 0 where it was not measured.
func (e expectation) ratio(r *report) float64 {
	if e.section != callsName {
		f, _ := r.figure(e.section, e.of)
		return f.Ratio
	}
	row, _ := r.row("small", e.of)
	if e.to == pipeName {
		return row.ToPipe
	}
	return row.ToGophersnake
}
