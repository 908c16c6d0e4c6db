package isolation

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gophersnake/gophersnake/runner/internal/cgroup"
)

// group is the cgroup of one process and its children.
type group struct {
	dir string
	fd  *os.File
}

// groupCount makes the names of the supervisor's groups unique.
var groupCount atomic.Uint64

// newGroup creates a cgroup with the given settings, such as {"pids.max": "4"}.
func newGroup(settings map[string]string) (*group, error) {
	root, err := delegatedGroup(controllersOf(settings))
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(root, fmt.Sprintf("gophersnake-%d-%d", os.Getpid(), groupCount.Add(1)))
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

// controllersOf returns the controllers to which the settings belong.
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

// neededSettings returns the settings of the profile's cgroup without which the profile is
// not enforced.
func (p *Profile) neededSettings() map[string]string {
	settings := make(map[string]string)
	if p.Processes > 0 {
		most := p.Processes + 1
		if p.Reaper != "" {
			most++
		}
		settings["pids.max"] = strconv.Itoa(most)
	}
	if !wholeNumber(p.CPUs) {
		const period = 100_000 // µs
		settings["cpu.max"] = fmt.Sprintf("%d %d", max(int(p.CPUs*period), 1000), period)
	}
	return settings
}

// settings returns the settings of the profile's cgroup, empty if it uses none. Those for
// which there are other means, too, are left out if their controllers are not available.
func (p *Profile) settings(available func(controllers []string) bool) map[string]string {
	settings := p.neededSettings()
	add := func(name, value string) {
		more := maps.Clone(settings)
		more[name] = value
		if available(controllersOf(more)) {
			settings = more
		}
	}
	if p.Memory > 0 {
		add("memory.max", strconv.FormatInt(p.Memory, 10))
	}
	if p.Threads > 0 && (p.Processes <= 0 || p.Threads < p.Processes+1) {
		add("pids.max", strconv.Itoa(p.Threads))
	}
	return settings
}

// areDelegated reports whether the supervisor may create cgroups with the controllers.
func areDelegated(controllers []string) bool {
	_, err := delegatedGroup(controllers)
	return err == nil
}

func wholeNumber(n float64) bool { return n == float64(int(n)) }

// killTime bounds the wait for the processes of a group to be gone after they were
// killed.
const killTime = time.Second

// remove kills the processes that are left in the group, and removes it.
func (g *group) remove() {
	if g.fd != nil {
		_ = g.fd.Close()
	}
	_ = os.WriteFile(filepath.Join(g.dir, "cgroup.kill"), []byte("1"), 0)
	deadline := time.Now().Add(killTime)
	// Removing it fails until the last process is gone.
	for os.Remove(g.dir) != nil && time.Now().Before(deadline) {
		time.Sleep(5 * time.Millisecond)
	}
}

// oomKilled reports whether the kernel's OOM killer has killed a process of the group.
func (g *group) oomKilled() bool {
	events, err := os.ReadFile(filepath.Join(g.dir, "memory.events"))
	if err != nil {
		return false
	}
	kills, _ := cgroup.Value(string(events), "oom_kill")
	return kills > 0
}

// delegatedGroup returns the folder of a cgroup in which the supervisor may create
// groups with the given controllers: its own, or the one above.
func delegatedGroup(controllers []string) (string, error) {
	own, err := cgroup.Own()
	if err != nil {
		return "", err
	}
	// A group that holds processes cannot give controllers to its children. So if the
	// supervisor's own group holds it, the group above must be delegated to it as well.
	err = nil
	for _, dir := range []string{own, filepath.Dir(own)} {
		if _, missing := os.Stat(filepath.Join(dir, "cgroup.controllers")); missing != nil {
			break // above the root
		}
		unusable := checkDelegation(dir, controllers)
		if unusable == nil {
			return dir, nil
		}
		if err == nil {
			err = unusable
		}
	}
	return "", err
}

// checkDelegation says why no groups with the controllers can be created in a cgroup;
// it is nil if they can. It enables the controllers.
func checkDelegation(dir string, controllers []string) error {
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
			return fmt.Errorf("the cgroup %s has no controller %s (cgroup v1 may use it, or it is not delegated to this user)", dir, controller)
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
