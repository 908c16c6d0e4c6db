package webhook

import (
	"net/url"
	"sync"
	"time"
)

// Hosts keeps a receiver that is slow from taking all places of a machine. Its methods are safe for
// concurrent use.
type Hosts struct {
	mu    sync.Mutex
	hosts map[string]*host
}

// host is a receiver that a document is posted to, or that was slow.
type host struct {
	busy   int       // attempts in progress
	isSlow bool      // the last attempt took longer than slowAfter
	next   time.Time // when the next document that has no place may be looked at again
}

const (
	// slowAfter is how long an attempt takes at least that makes a host slow.
	slowAfter = time.Second
	// mostSlow is how many attempts a slow host has at once.
	mostSlow = 4
	// The first document without a place is looked at again after a time, and each further one a bit
	// later, so that many of them do not keep the servers busy.
	firstWait = time.Second
	waitStep  = 10 * time.Millisecond
	// mostHosts bounds the memory for hosts that were slow.
	mostHosts = 10_000
)

// Enter takes a place for an attempt, and returns the function that gives it back. If the host of the
// URL is slow and has no place, leave is nil, and wait is after which time to ask again.
func (h *Hosts) Enter(to string, now time.Time) (leave func(now time.Time), wait time.Duration) {
	var name string
	if u, err := url.Parse(to); err == nil {
		name = u.Host
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.hosts == nil {
		h.hosts = make(map[string]*host)
	}
	of := h.hosts[name]
	if of == nil {
		of = &host{}
		h.hosts[name] = of
	}
	if of.isSlow && of.busy >= mostSlow {
		if earliest := now.Add(firstWait); of.next.Before(earliest) {
			of.next = earliest
		}
		wait = of.next.Sub(now)
		of.next = of.next.Add(waitStep)
		return nil, wait
	}
	of.busy++
	return func(ended time.Time) { h.leave(name, of, ended.Sub(now)) }, 0
}

func (h *Hosts) leave(name string, of *host, took time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	of.busy--
	of.isSlow = took >= slowAfter
	if of.busy == 0 && (!of.isSlow || len(h.hosts) > mostHosts) {
		delete(h.hosts, name)
	}
}
