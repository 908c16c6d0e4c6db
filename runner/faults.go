package runner

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// faults is the cause of an [Error] that joins several errors.
type faults []error

// Error returns the texts of all faults in one line.
func (f faults) Error() string {
	texts := make([]string, len(f))
	for i, err := range f {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

// Unwrap returns the faults, so that [errors.Is] and [errors.As] find each of them.
func (f faults) Unwrap() []error { return f }

// joinFaults returns nil if all errors are nil, the only error that is not, or one
// error that joins several. Its kind is that of the first one.
func joinFaults(all []error) error {
	all = slices.DeleteFunc(all, func(err error) bool { return err == nil })
	switch len(all) {
	case 0:
		return nil
	case 1:
		return classify(all[0])
	}
	return Wrap(faults(all), KindOf(all[0]), fmt.Sprintf("%d faults: %v", len(all), faults(all)))
}

// Faults returns the errors that e joins, for instance one for each node that could
// not be started. It is nil if e stands for a single failure.
func (e *Error) Faults() []error {
	all, _ := errors.AsType[faults](e.Cause)
	return slices.Clone(all)
}
