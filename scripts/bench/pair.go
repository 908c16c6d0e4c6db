package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// pairCommand is the subcommand that compares this checkout with another one, which is in a
// folder. The flags are those of a run; each round is a pair of runs.
//
//	bench pair FOLDER [flags]
const pairCommand = "pair"

// pair implements pairCommand. It builds this program in both checkouts, and runs both in
// turns with one round each.
func pair(ctx context.Context, args []string, out, messages io.Writer) (err error) {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		return errors.New("pair takes the folder of another checkout, and then flags")
	}
	flags := append([]string{"--sections", "calls,roundtrip,handover", "--peers", gophersnakeName + ",gophersnake-shared"}, args[1:]...)
	s, err := parse(flags, messages)
	if err != nil {
		return err
	}
	folder, err := os.MkdirTemp("", "bench-pair-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	both := [2]checkout{{source: args[0], program: filepath.Join(folder, "before")}, {source: ".", program: filepath.Join(folder, "after")}}
	for _, c := range both {
		if err := c.build(ctx); err != nil {
			return err
		}
	}
	flags = append(flags, "--rounds", "1")
	var compared pairs
	for round := range s.rounds {
		_, _ = fmt.Fprintf(messages, "pair %d of %d\n", round+1, s.rounds)
		var figures [2][]figure
		for turn := range both {
			i := (round + turn) % 2 // neither of them is always the first one
			if figures[i], err = both[i].run(ctx, flags); err != nil {
				return err
			}
		}
		compared.add(figures[0], figures[1])
	}
	return compared.markdown(out)
}

// checkout is a checkout of the repository, and this program built from it.
type checkout struct{ source, program string }

func (c checkout) build(ctx context.Context) error {
	command := exec.CommandContext(ctx, "go", "build", "-o", c.program, "./scripts/bench")
	command.Dir = c.source
	if text, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w: %s", c.source, err, text)
	}
	return nil
}

// run runs the program once, and returns the times of the calls and the values of the tables.
func (c checkout) run(ctx context.Context, flags []string) ([]figure, error) {
	path := c.program + ".json"
	command := exec.CommandContext(ctx, c.program, append(flags, "--json", path)...)
	if text, err := command.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("run the program of %s: %w: %s", c.source, err, text)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var r report
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, err
	}
	var figures []figure
	for _, row := range r.Rows {
		figures = append(figures, figure{Name: fmt.Sprintf("%s, %s, %s, p50 µs", callsName, row.Peer, row.Payload), Value: row.P50})
	}
	for _, t := range r.Tables {
		for _, f := range t.Figures {
			figures = append(figures, figure{Name: fmt.Sprintf("%s, %s, %s", t.Section, f.Name, t.Unit), Value: f.Value})
		}
	}
	return figures, nil
}

// pairs are the figures of all pairs, in the order of the report.
type pairs []*paired

// paired are the values of one figure, by pair.
type paired struct {
	name          string
	before, after []float64
}

// add adds the figures of one pair. It leaves out those that only one of the two has.
func (p *pairs) add(before, after []figure) {
	for _, b := range before {
		i := slices.IndexFunc(after, func(f figure) bool { return f.Name == b.Name })
		if i < 0 {
			continue
		}
		at := slices.IndexFunc(*p, func(one *paired) bool { return one.name == b.Name })
		if at < 0 {
			*p = append(*p, &paired{name: b.Name})
			at = len(*p) - 1
		}
		one := (*p)[at]
		one.before, one.after = append(one.before, b.Value), append(one.after, after[i].Value)
	}
}

func (p pairs) markdown(w io.Writer) error {
	rows := [][]string{{"", "before", "after", "after ÷ before", "95 %"}, {"---", "---:", "---:", "---:", "---:"}}
	for _, one := range p {
		ratios := make([]float64, len(one.before))
		for i := range ratios {
			ratios[i] = one.after[i] / one.before[i]
		}
		low, high := interval(ratios)
		rows = append(rows, []string{one.name, number(percentile(one.before, 0.5)), number(percentile(one.after, 0.5)),
			fmt.Sprintf("%.3f", percentile(ratios, 0.5)), fmt.Sprintf("%.3f to %.3f", low, high)})
	}
	out := printer{w: w}
	out.table(rows...)
	return out.err
}

// interval returns the smallest interval between two of the values that contains the median of
// their distribution with a probability of at least 95 %, whatever the distribution is. With
// fewer than six values, it returns the least and the largest, which is less certain.
func interval(values []float64) (low, high float64) {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	// The number of values below the median has a binomial distribution.
	probability := 1.0
	for range n {
		probability /= 2
	}
	outside, below := probability, 0
	for k := 1; k <= n/2; k++ {
		probability *= float64(n-k+1) / float64(k)
		if outside+probability > 0.025 {
			break
		}
		outside, below = outside+probability, k
	}
	return sorted[below], sorted[n-1-below]
}
