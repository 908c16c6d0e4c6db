package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"sync"
)

// mostTold is how many violations are told in full.
const mostTold = 20

// ledger holds each call, what it came to, and what should not have been.
type ledger struct {
	mu       sync.Mutex
	lanes    [][]outcome // by lane and its count of calls; 0 is no answer yet
	table    map[string]map[outcome]int
	calls    int
	answered int
	innocent int // calls without a fault that failed over that of another one
	wrong    []string
	tell     func(string) // is told of violations as they come
	wrongs   int
}

func newLedger(lanes int) *ledger {
	return &ledger{lanes: make([][]outcome, lanes), table: make(map[string]map[outcome]int), tell: func(string) {}}
}

// issue enters the next call of a lane and returns its place there.
func (l *ledger) issue(of *lane) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls++
	l.lanes[of.index] = append(l.lanes[of.index], 0)
	return uint64(len(l.lanes[of.index]) - 1)
}

// bytes is how much memory the calls' outcomes take.
func (l *ledger) bytes() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	size := 0
	for _, outcomes := range l.lanes {
		size += cap(outcomes) // each is a byte
	}
	return int64(size)
}

// settle enters what a call came to, and whether that may be.
func (l *ledger) settle(p plan, k uint64, got, allowed outcome, story string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	place := &l.lanes[p.lane.index][k]
	if *place != 0 {
		l.violate("%v: a second answer, %v after %v", p, got, *place)
		return
	}
	*place = got
	l.answered++
	row := l.table[p.faultName()]
	if row == nil {
		row = make(map[outcome]int)
		l.table[p.faultName()] = row
	}
	row[got]++
	if p.fault == nil && got&neighbour != 0 {
		l.innocent++
	}
	if got&allowed == 0 {
		l.violate("%v: it came to %v; allowed: %v\n%s", p, got, allowed, story)
	}
}

// violation enters something that should not be.
func (l *ledger) violation(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.violate(format, args...)
}

func (l *ledger) violate(format string, args ...any) {
	l.wrongs++
	if len(l.wrong) < mostTold {
		text := fmt.Sprintf(format, args...)
		l.wrong = append(l.wrong, text)
		l.tell(text)
	}
}

// close looks for calls without an answer.
func (l *ledger) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.answered != l.calls {
		l.violate("%d of %d calls got no answer", l.calls-l.answered, l.calls)
	}
}

// checkExecuted reads which calls were carried out that must not be twice, and
// holds it against the answers.
func (l *ledger) checkExecuted(path string, lanes []*lane) (executed int) {
	file, err := os.Open(path)
	if os.IsNotExist(err) {
		return 0
	}
	if err != nil {
		l.violation("%v", err)
		return 0
	}
	defer file.Close()
	times := make(map[uint64]int)
	lines := bufio.NewScanner(file)
	for ; lines.Scan(); executed++ {
		number, err := strconv.ParseUint(lines.Text(), 10, 64)
		if err != nil {
			l.violation("the file of the calls that were carried out holds %q", lines.Text())
			continue
		}
		if times[number]++; times[number] == 2 {
			l.violation("call %d was carried out twice", number)
		}
	}
	if err := lines.Err(); err != nil {
		l.violation("%v", err)
	}
	for _, of := range lanes {
		if !of.once {
			continue
		}
		for k, got := range l.lanes[of.index] {
			if number := uint64(k)*uint64(len(lanes)) + uint64(of.index); got == right && times[number] == 0 {
				l.violation("call %d was answered, but not carried out", number)
			}
		}
	}
	return executed
}
