package runner

import "maps"

// WithNode adds the id of the node.
func (e *Error) WithNode(id string) *Error {
	return e.add(func(e *Error) { known(&e.Node, id) })
}

// WithOperation adds what was being done, for instance "call".
func (e *Error) WithOperation(operation string) *Error {
	return e.add(func(e *Error) { known(&e.Operation, operation) })
}

// WithAttempt adds the number of the attempt, counted from 1, and how many the
// policy allows. The two go together: an error that has an attempt keeps both.
func (e *Error) WithAttempt(attempt, attempts int) *Error {
	return e.add(func(e *Error) {
		if e.Attempt == 0 && e.Attempts == 0 {
			e.Attempt, e.Attempts = attempt, attempts
		}
	})
}

// WithPID adds the worker's process id.
func (e *Error) WithPID(pid int) *Error {
	return e.add(func(e *Error) { known(&e.PID, pid) })
}

// WithHint adds what to do next.
func (e *Error) WithHint(hint string) *Error {
	return e.add(func(e *Error) { known(&e.Hint, hint) })
}

// WithMetadata adds metadata under a key.
func (e *Error) WithMetadata(key, value string) *Error {
	return e.add(func(e *Error) {
		if _, ok := e.Metadata[key]; ok {
			return
		}
		e.Metadata = maps.Clone(e.Metadata)
		if e.Metadata == nil {
			e.Metadata = make(map[string]string, 1)
		}
		e.Metadata[key] = value
	})
}

// add returns a copy with more context. The copy remembers what it is a copy of,
// so that errors.Is still finds that.
func (e *Error) add(context func(*Error)) *Error {
	if e == nil {
		return nil
	}
	more := *e
	more.origin = e
	context(&more)
	return &more
}

// known sets a field that is not known yet.
func known[T comparable](field *T, value T) {
	var unknown T
	if *field == unknown {
		*field = value
	}
}
