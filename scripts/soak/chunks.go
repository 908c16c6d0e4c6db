package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/scripts/internal/procs"
)

// A chunk is 20 ms of audio at 16 kHz.
const (
	chunkRate   = 16_000
	chunkFrames = chunkRate / 50
)

// chunk returns a chunk that holds its number in its first sample.
func chunk(number int) *ipc.Audio {
	samples := make([]float32, chunkFrames)
	samples[0] = float32(number) // exact up to 2^24
	for i := 1; i < len(samples); i++ {
		samples[i] = float32((number+i)%100) / 100
	}
	return &ipc.Audio{Rate: chunkRate, Channels: 1, Samples: samples}
}

// soakChunks sends chunks through a stream of three nodes, the second of which is stateful.
func soakChunks(ctx context.Context, chunks int, out io.Writer) (err error) {
	before, err := procs.Look()
	if err != nil {
		return err
	}
	r, end, err := start(ctx, "chunks")
	if err != nil {
		return err
	}
	started := time.Now()
	memory, err := streamChunks(ctx, r, chunks)
	took := time.Since(started)
	if err = errors.Join(err, end()); err != nil {
		return err
	}
	fmt.Fprintf(out, "%d chunks of 20 ms (%v of audio) in %v: %.0f a second, in order, none lost\n",
		chunks, time.Duration(chunks)*20*time.Millisecond, took.Round(time.Millisecond), float64(chunks)/took.Seconds())
	fmt.Fprintf(out, "resident memory of all processes: %s\n", memory)
	if err := procs.AwaitBefore(before); err != nil {
		return err
	}
	fmt.Fprintln(out, "left behind: no descriptor, no segment, no process")
	return memory.check()
}

// streamChunks sends the chunks and checks that they are received in order.
func streamChunks(ctx context.Context, r *runner.Runner, chunks int) (*memoryProfile, error) {
	s, err := r.Stream(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Close() }()
	sent := make(chan error, 1)
	go func() {
		for i := range chunks {
			if err := s.Send(chunk(i)); err != nil {
				sent <- err
				return
			}
		}
		s.CloseSend()
		sent <- nil
	}()
	memory := newMemoryProfile(chunks)
	for got := 0; ; got++ {
		item, err := s.Recv()
		if errors.Is(err, io.EOF) {
			if got != chunks {
				return nil, fmt.Errorf("received %d of %d chunks", got, chunks)
			}
			return memory, <-sent
		}
		if err != nil {
			return nil, err
		}
		level := item.Value.(map[string]any)
		if level["number"] != int64(got) || level["count"] != int64(got) {
			return nil, fmt.Errorf("chunk %d has number %v and count %v", got, level["number"], level["count"])
		}
		memory.progress(got)
	}
}
