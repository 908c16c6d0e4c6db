package isolation

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gophersnake/gophersnake/runner/internal/cgroup"
)

// group is a cgroup of its own for one process and its children.
type group struct {
	dir string
	fd  *os.File
}

// groupsMade tells the names of the supervisor's groups apart.
var groupsMade atomic.Uint64

// newGroup makes a cgroup with the given settings, such as {"pids.max": "4"}.
func newGroup(settings map[string]string) (*group, error) {
	root, err := delegated(controllersOf(settings))
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(root, fmt.Sprintf("gophersnake-%d-%d", os.Getpid(), groupsMade.Add(1)))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	g := &group{dir: dir}
	for name, value := range settings {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(value), 0); err != nil {
			g.remove()
			return nil, err
		}
	}
	if g.fd, err = os.Open(dir); err != nil {
		g.remove()
		return nil, err
	}
	return g, nil
}

// controllersOf are those that settings belong to.
func controllersOf(settings map[string]string) []string {
	var controllers []string
	for name := range settings {
		controller, _, _ := strings.Cut(name, ".")
		if !slices.Contains(controllers, controller) {
			controllers = append(controllers, controller)
		}
	}
	slices.Sort(controllers)
	return controllers
}

// settings are the cgroup's for a profile; empty where it needs none.
func (p *Profile) settings() map[string]string {
	settings := make(map[string]string)
	if p.Processes > 0 {
		settings["pids.max"] = strconv.Itoa(p.Processes + 1)
	}
	if !wholeNumber(p.CPUs) {
		const period = 100_000 // µs
		settings["cpu.max"] = fmt.Sprintf("%d %d", max(int(p.CPUs*period), 1000), period)
	}
	if p.Memory > 0 {
		settings["memory.max"] = strconv.FormatInt(p.Memory, 10)
	}
	return settings
}

// needed are the settings without which the profile does not hold. That of memory
// is one bound of several.
func (p *Profile) needed() map[string]string {
	settings := p.settings()
	delete(settings, "memory.max")
	return settings
}

func wholeNumber(n float64) bool { return n == float64(int(n)) }

// groupEnd bounds the wait for the processes of a group that were killed.
const groupEnd = time.Second

// remove ends what is left in the group, and the group.
func (g *group) remove() {
	if g.fd != nil {
		_ = g.fd.Close()
	}
	_ = os.WriteFile(filepath.Join(g.dir, "cgroup.kill"), []byte("1"), 0)
	deadline := time.Now().Add(groupEnd)
	// It can be removed when the kernel has done with the last process.
	for os.Remove(g.dir) != nil && time.Now().Before(deadline) {
		time.Sleep(5 * time.Millisecond)
	}
}

// oomKilled reports whether the kernel has ended a process of the group for want of
// memory.
func (g *group) oomKilled() bool {
	events, err := os.ReadFile(filepath.Join(g.dir, "memory.events"))
	if err != nil {
		return false
	}
	kills, _ := cgroup.Figure(string(events), "oom_kill")
	return kills > 0
}

// delegated returns a folder in which the supervisor may make groups that have the
// controllers.
func delegated(controllers []string) (string, error) {
	own, err := cgroup.Own()
	if err != nil {
		return "", err
	}
	// The groups of a group that holds processes have no controllers: it is the one
	// above, where that was given to the supervisor as well.
	err = nil
	for _, dir := range []string{own, filepath.Dir(own)} {
		if _, missing := os.Stat(filepath.Join(dir, "cgroup.controllers")); missing != nil {
			break // above the root
		}
		unusable := usable(dir, controllers)
		if unusable == nil {
			return dir, nil
		}
		if err == nil {
			err = unusable
		}
	}
	return "", err
}

// usable says why no groups with the controllers can be made in a folder.
func usable(dir string, controllers []string) error {
	available, err := words(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return err
	}
	enabled, err := words(filepath.Join(dir, "cgroup.subtree_control"))
	if err != nil {
		return err
	}
	for _, controller := range controllers {
		switch {
		case slices.Contains(enabled, controller):
			continue
		case !slices.Contains(available, controller):
			return fmt.Errorf("the cgroup %s has no controller %s (cgroup v1 may have it, or nobody gave it to this user)", dir, controller)
		}
		err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+controller), 0)
		if err != nil {
			return fmt.Errorf("the cgroup %s is not delegated: %w", dir, err)
		}
	}
	probe, err := os.MkdirTemp(dir, "gophersnake-probe-")
	if err != nil {
		return fmt.Errorf("the cgroup %s is not delegated: %w", dir, err)
	}
	return os.Remove(probe)
}

func words(file string) ([]string, error) {
	text, err := os.ReadFile(file)
	return strings.Fields(string(text)), err
}
