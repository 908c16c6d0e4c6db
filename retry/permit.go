package retry

// Permit is leave to run one operation, given by [Breaker.Allow]. Settle it once
// with Success or Failure, and defer Release for every other way out: once the
// permit is settled, all three do nothing. A permit belongs to one goroutine and
// must not be copied.
//
// An outcome counts only while the breaker is still in the state in which it
// gave the permit.
type Permit struct {
	breaker    *Breaker
	generation uint32
}

// Success says that the operation succeeded.
func (p *Permit) Success() {
	if b := p.settle(); b != nil {
		b.succeed(p.generation)
	}
}

// Failure says that the operation failed, and that what the breaker guards is
// to blame.
func (p *Permit) Failure() {
	if b := p.settle(); b != nil {
		b.fail(p.generation)
	}
}

// Release gives the permit back without an outcome: the caller gave up, or the
// failure was the caller's own.
func (p *Permit) Release() {
	if b := p.settle(); b != nil {
		b.release(p.generation)
	}
}

func (p *Permit) settle() *Breaker {
	b := p.breaker
	p.breaker = nil
	return b
}
