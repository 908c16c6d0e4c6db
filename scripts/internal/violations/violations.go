// Package violations records what a soak finds to be wrong.
package violations

import (
	"fmt"
	"slices"
	"sync"
)

// MostReported is how many violations are reported in full.
const MostReported = 20

// List is a list of violations. The zero value is empty. Its methods are safe for concurrent use.
type List struct {
	// Report, unless it is nil, is called with each of the first [MostReported] violations, one
	// after the other. It must not use the list.
	Report func(string)

	mu    sync.Mutex // guards what follows
	texts []string
	count int
}

// Add adds a violation.
func (l *List) Add(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count++
	if len(l.texts) == MostReported {
		return
	}
	text := fmt.Sprintf(format, args...)
	l.texts = append(l.texts, text)
	if l.Report != nil {
		l.Report(text)
	}
}

// Count returns the number of violations.
func (l *List) Count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count
}

// Texts returns the first [MostReported] violations.
func (l *List) Texts() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.texts)
}
