package main

import (
	"context"
	"errors"
	"fmt"
)

// running is a peer that has been set up.
type running struct {
	contender
	peer
	failed bool // with the payload at hand
}

// measureCalls compares the peers: one call after the other, payload by payload.
func measureCalls(ctx context.Context, b *bench) (err error) {
	peers, err := b.setUp(ctx)
	defer func() {
		for _, p := range peers {
			if fault := p.close(); ctx.Err() == nil { // else it was ended, and says so
				err = errors.Join(err, fault)
			}
		}
	}()
	if err != nil {
		return err
	}
	for _, load := range b.payloads {
		if err := b.measurePayload(ctx, peers, load); err != nil {
			return err
		}
	}
	return nil
}

// setUp sets the peers up one after the other. Those that cannot be are skipped,
// but gophersnake is not. With an error, it returns those that are running all the
// same, so that they can be closed.
func (b *bench) setUp(ctx context.Context) ([]*running, error) {
	var peers []*running
	for _, c := range b.peers {
		b.say("setting up %s", c.name)
		p, err := c.setUp(ctx, b.host)
		if err == nil {
			peers = append(peers, &running{contender: c, peer: p})
		}
		switch {
		case ctx.Err() != nil:
			return peers, context.Cause(ctx)
		case err != nil && c.name == gophersnakeName:
			return peers, fmt.Errorf("%s cannot be set up: %w", c.name, err)
		case err != nil:
			b.skip(callsName, c.name, err)
		}
	}
	if len(peers) == 0 {
		return nil, errors.New("no peer could be set up")
	}
	return peers, nil
}

// measurePayload lets the peers take turns with one payload: A B C D, A B C D, and
// so on, so that what else the machine does meets all of them alike.
func (b *bench) measurePayload(ctx context.Context, peers []*running, load payload) error {
	calls := max(b.calls/load.fewer, 1)
	warmup := max(calls/5, 1)
	b.say("measuring %s: %d rounds of %d calls", load.name, b.rounds, calls)
	all := make([]series, len(peers))
	for _, p := range peers {
		p.failed = p.arrays && !load.array
	}
	for range b.rounds {
		for i, p := range peers {
			if p.failed {
				continue
			}
			took, err := p.measure(ctx, load, warmup, calls)
			switch {
			case ctx.Err() != nil:
				return context.Cause(ctx)
			case err != nil && p.name == gophersnakeName:
				return fmt.Errorf("%s, payload %s: %w", p.name, load.name, err)
			case err != nil:
				p.failed = true
				b.skip(callsName, p.name+" with "+load.name, err)
				continue
			}
			all[i] = append(all[i], took)
		}
	}
	b.report.addCalls(peers, load, all)
	return nil
}
