package main

import "context"

// setUpExecutor starts a Python program that submits values to a
// ProcessPoolExecutor with one worker.
func setUpExecutor(ctx context.Context, h *host) (peer, error) {
	return startProgram(ctx, h, "executor.py")
}
