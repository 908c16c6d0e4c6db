package isolation

import "os/exec"

const unsupported = "isolation of nodes needs Linux, with Landlock and seccomp"

// Missing says what this system cannot do of the profile, in plain words.
func (p *Profile) Missing() []string { return []string{unsupported} }

// Start starts nothing here.
func (p *Profile) Start(*exec.Cmd, ...string) (*Place, error) {
	return nil, &UnsupportedError{Missing: p.Missing(), System: "darwin", Hint: hint}
}

const hint = "run the pipeline on Linux, or take isolation out of the manifest"

// Probe says which means of isolation there are.
func Probe() []Mechanism {
	return []Mechanism{{Name: "isolation", Detail: "there is none on this system", Without: unsupported, Hint: hint}}
}

// Place is what a process was given for itself.
type Place struct{}

// Remove does nothing here.
func (p *Place) Remove() {}

// OutOfMemory is always false here.
func (p *Place) OutOfMemory() bool { return false }
