package main

import (
	"context"
	"errors"
	"fmt"
)

// runningPeer is a peer that is set up.
type runningPeer struct {
	peerSpec
	peer
	failed bool // with the current payload
}

// measureCalls compares the peers for each payload, with one call at a time.
func measureCalls(ctx context.Context, b *bench) (err error) {
	peers, err := b.setUp(ctx)
	defer func() {
		for _, p := range peers {
			if closeErr := p.close(); ctx.Err() == nil { // otherwise it reports its own SIGTERM
				err = errors.Join(err, closeErr)
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

// setUp sets up the peers one after the other. It skips those that fail, except for
// gophersnake. The caller must close the returned peers, also if there is an error.
func (b *bench) setUp(ctx context.Context) ([]*runningPeer, error) {
	var peers []*runningPeer
	for _, spec := range b.peers {
		b.logf("setting up %s", spec.name)
		p, err := spec.setUp(ctx, b.host)
		if err == nil {
			peers = append(peers, &runningPeer{peerSpec: spec, peer: p})
		}
		switch {
		case ctx.Err() != nil:
			return peers, context.Cause(ctx)
		case err != nil && spec.name == gophersnakeName:
			return peers, fmt.Errorf("%s cannot be set up: %w", spec.name, err)
		case err != nil:
			b.skip(callsName, spec.name, err)
		}
	}
	if len(peers) == 0 {
		return nil, errors.New("no peer could be set up")
	}
	return peers, nil
}

// measurePayload measures the peers in turns with one payload: A B C D, A B C D, and so on.
// Other load on the machine then affects all of them equally. A peer that fails is skipped
// for the rest of the payload.
func (b *bench) measurePayload(ctx context.Context, peers []*runningPeer, load payload) error {
	calls := max(b.calls/load.fewer, 1)
	warmup := max(calls/5, 1)
	b.logf("measuring %s: %d rounds of %d calls", load.name, b.rounds, calls)
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
