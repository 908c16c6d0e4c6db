package main

import "context"

// setUpPipe starts a Python program that sends values through a bare
// multiprocessing.Pipe to a child process.
func setUpPipe(ctx context.Context, h *host) (peer, error) {
	return startProgram(ctx, h, "pipe.py")
}
