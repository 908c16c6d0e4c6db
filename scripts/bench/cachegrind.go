package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// profile is what cachegrind wrote of one process.
type profile struct {
	pid     int
	command string
	total   float64 // of instructions
}

// readProfiles reads all files of a folder, in the order in which their processes
// were started.
func readProfiles(folder string) ([]profile, error) {
	paths, err := filepath.Glob(filepath.Join(folder, "*"))
	if err != nil {
		return nil, err
	}
	var all []profile
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		one, err := parseProfile(string(text))
		one.pid, _ = strconv.Atoi(filepath.Base(path))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b profile) int { return cmp.Compare(a.pid, b.pid) })
	return all, nil
}

func parseProfile(text string) (profile, error) {
	var one profile
	var err error
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch key {
		case "cmd":
			one.command = value
		case "summary":
			one.total, err = strconv.ParseFloat(value, 64)
		}
		if err != nil {
			return one, err
		}
	}
	if one.total == 0 {
		return one, errors.New("it has no summary")
	}
	return one, nil
}

// sidesOf finds the two sides of a peer among the processes: this program, and
// what it started.
func sidesOf(peer string, all []profile) (sides, error) {
	var own, python []profile
	for _, p := range all {
		if strings.Contains(p.command, " "+driveCommand+" ") {
			own = append(own, p)
		} else {
			python = append(python, p)
		}
	}
	switch {
	case peer == gophersnakeName && len(own) == 1 && len(python) == 1:
		return sides{caller: own[0].total, worker: python[0].total}, nil
	case peer == pipeName && len(python) == 2: // the second is the first one's child
		return sides{caller: python[0].total, worker: python[1].total}, nil
	}
	return sides{}, fmt.Errorf("%s ran as %d processes, which is not expected", peer, len(all))
}
