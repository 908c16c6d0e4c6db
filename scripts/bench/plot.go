package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
)

// plot draws the calls into the files that were asked for, by a Python program
// with an environment of its own, so that the module needs no plotting library.
func (b *bench) plot(ctx context.Context) error {
	if len(b.plots) == 0 {
		return nil
	}
	if len(b.report.Rows) == 0 {
		return errors.New("there is nothing to plot: no calls were measured")
	}
	env, err := b.host.environment(ctx, "plot")
	if err != nil {
		return fmt.Errorf("plot: %w", err)
	}
	figures := filepath.Join(b.host.programs, "figures.json")
	if err := b.report.save(figures); err != nil {
		return err
	}
	args := append([]string{filepath.Join(b.host.programs, "plot.py"), figures}, b.plots...)
	command := exec.CommandContext(ctx, env.Python, args...)
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("plot: %w\n%s", err, output)
	}
	return nil
}
