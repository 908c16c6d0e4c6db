package main

import (
	"bufio"
	"os"
	"strconv"
	"sync"

	"github.com/gophersnake/gophersnake/scripts/internal/violations"
)

// ledger records each call with its outcome, and all violations.
type ledger struct {
	violations violations.List

	mu         sync.Mutex  // guards what follows
	outcomes   [][]outcome // by target and its count of calls; 0 until the call returns
	table      map[string]map[outcome]int
	calls      int
	answered   int
	bystanders map[string]int // calls without a fault that failed by that of another one, or by a signal; by target
}

func newLedger(targets int) *ledger {
	return &ledger{outcomes: make([][]outcome, targets), table: make(map[string]map[outcome]int), bystanders: make(map[string]int)}
}

// issue enters the next call of a target and returns its position there.
func (l *ledger) issue(t *target) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls++
	l.outcomes[t.index] = append(l.outcomes[t.index], 0)
	return uint64(len(l.outcomes[t.index]) - 1)
}

// bytes returns how much memory the outcomes take.
func (l *ledger) bytes() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	size := 0
	for _, outcomes := range l.outcomes {
		size += cap(outcomes) // an outcome is one byte
	}
	return int64(size)
}

// settle enters the outcome of the k-th call of a target. An outcome that is not allowed
// is a violation, which is reported with the detail.
func (l *ledger) settle(p plan, k uint64, got, allowed outcome, detail string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	entry := &l.outcomes[p.target.index][k]
	if *entry != 0 {
		l.violations.Add("%v: a second answer, %v after %v", p, got, *entry)
		return
	}
	*entry = got
	l.answered++
	row := l.table[p.faultName()]
	if row == nil {
		row = make(map[outcome]int)
		l.table[p.faultName()] = row
	}
	row[got]++
	if p.fault == nil && got&collateral != 0 {
		l.bystanders[p.target.name]++
	}
	if got&allowed == 0 {
		l.violations.Add("%v: the outcome is %v; allowed: %v\n%s", p, got, allowed, detail)
	}
}

// close checks that each call was answered.
func (l *ledger) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.answered != l.calls {
		l.violations.Add("%d of %d calls got no answer", l.calls-l.answered, l.calls)
	}
}

// checkExecuted reads the file in which nodes of non-idempotent targets recorded their
// calls, and returns how many there were. It is a violation if a call was executed twice,
// or was answered without being executed. All calls must have returned.
func (l *ledger) checkExecuted(path string, targets []*target) (executed int) {
	file, err := os.Open(path)
	if os.IsNotExist(err) {
		return 0
	}
	if err != nil {
		l.violations.Add("%v", err)
		return 0
	}
	defer func() { _ = file.Close() }()
	times := make(map[uint64]int)
	lines := bufio.NewScanner(file)
	for ; lines.Scan(); executed++ {
		number, err := strconv.ParseUint(lines.Text(), 10, 64)
		if err != nil {
			l.violations.Add("the file of executed calls holds %q", lines.Text())
			continue
		}
		if times[number]++; times[number] == 2 {
			l.violations.Add("call %d was executed twice", number)
		}
	}
	if err := lines.Err(); err != nil {
		l.violations.Add("%v", err)
	}
	for _, t := range targets {
		if !t.nonIdempotent {
			continue
		}
		for k, got := range l.outcomes[t.index] {
			if number := callNumber(t, uint64(k), len(targets)); got == right && times[number] == 0 {
				l.violations.Add("call %d was answered, but not executed", number)
			}
		}
	}
	return executed
}
