// Package reloading has what nodes need to read their code again together: a decision that is
// unanimous, and the removal of bytecode that is older than its source.
package reloading

import (
	"context"
	"errors"
	"sync"
)

// ErrRejected is the reason why a node is not reloaded if another one cannot be.
var ErrRejected = errors.New("another node cannot be reloaded")

// Vote is a unanimous decision: it is approved when all voters have approved it, and
// rejected when one rejects it before. A decision is final.
type Vote struct {
	decided chan struct{} // closed by the decision

	mu       sync.Mutex
	missing  int // approvals
	rejected bool
}

// NewVote returns a vote of the given number of voters.
func NewVote(voters int) *Vote { return &Vote{missing: voters, decided: make(chan struct{})} }

// Approve adds an approval, and waits for the decision. It returns nil if that is
// approved, and otherwise ErrRejected, or the context's error if the context has
// ended.
func (v *Vote) Approve(ctx context.Context) error {
	v.mu.Lock()
	v.missing--
	if v.missing == 0 && !v.rejected {
		close(v.decided)
	}
	v.mu.Unlock()
	select {
	case <-v.decided:
	case <-ctx.Done():
		v.Reject() // has no effect after the decision
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case !v.rejected:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return ErrRejected
}

// Reject rejects the vote, unless it has been decided.
func (v *Vote) Reject() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.missing > 0 && !v.rejected {
		v.rejected = true
		close(v.decided)
	}
}
