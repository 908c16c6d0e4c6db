package main

import (
	"errors"
	"fmt"
)

// expectation bounds the ratio of one peer to another, for the small payload.
type expectation struct {
	peer, to    string
	least, most float64 // 0: no bound
}

var expectations = []expectation{
	{peer: gophersnakeName, to: pipeName, most: 1.5},
	{peer: grpcName, to: gophersnakeName, least: 6},
}

// check returns an error for each expectation that the report does not meet.
func (r *report) check() error {
	var faults []error
	for _, e := range expectations {
		faults = append(faults, e.check(r))
	}
	return errors.Join(faults...)
}

func (e expectation) check(r *report) error {
	row, ok := r.find(e.peer, "small")
	ratio := row.ToPipe
	if e.to == gophersnakeName {
		ratio = row.ToGophersnake
	}
	switch {
	case !ok || ratio == 0:
		return fmt.Errorf("cannot check %s against %s: they were not measured with the small payload", e.peer, e.to)
	case e.most > 0 && ratio > e.most:
		return fmt.Errorf("%s takes %.2f times as long as %s; expected at most %g", e.peer, ratio, e.to, e.most)
	case e.least > 0 && ratio < e.least:
		return fmt.Errorf("%s takes %.2f times as long as %s; expected at least %g", e.peer, ratio, e.to, e.least)
	}
	return nil
}
