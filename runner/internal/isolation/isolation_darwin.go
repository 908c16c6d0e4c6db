package isolation

import "os/exec"

const unsupported = "isolation of nodes needs Linux, with Landlock and seccomp"

// Missing says that this system cannot enforce any profile.
func (p *Profile) Missing() []string { return []string{unsupported} }

// Start starts nothing here.
func (p *Profile) Start(*exec.Cmd, ...string) (*Sandbox, error) {
	return nil, &UnsupportedError{Missing: p.Missing(), System: "darwin", Hint: hint}
}

const hint = "run the pipeline on Linux, or remove isolation from the manifest"

// Probe reports that this system has no mechanism of isolation.
func Probe() []Mechanism {
	return []Mechanism{{Name: "isolation", Detail: "not available on this system", Without: unsupported, Hint: hint}}
}

// Sandbox holds nothing here.
type Sandbox struct{}

// Remove does nothing here.
func (p *Sandbox) Remove() {}

// BoundsThreads is always false here.
func (p *Sandbox) BoundsThreads() bool { return false }

// OutOfMemory is always false here.
func (p *Sandbox) OutOfMemory() bool { return false }
