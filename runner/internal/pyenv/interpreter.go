package pyenv

import (
	"fmt"
	"path/filepath"
)

// oldest is the oldest version that the worker runs on.
var oldest = Version{Major: 3, Minor: 10}

// Interpreter is a Python interpreter.
type Interpreter struct {
	// Path is absolute.
	Path    string  `json:"path"`
	Version Version `json:"version"`
	// Source says why it was chosen, such as "--python" or "python3 on PATH".
	Source string `json:"source,omitempty"`
	// Implementation is "cpython" for the usual one.
	Implementation string `json:"implementation"`
	// Platform is the one that it was built for, such as "linux-x86_64".
	Platform string `json:"platform"`
	// ABI tells builds apart whose compiled packages differ.
	ABI string `json:"abi,omitempty"`
	// Virtual says that it belongs to a virtual environment.
	Virtual bool `json:"virtual,omitempty"`
	// Prefix is the folder that it is installed in, and BasePrefix the same, or
	// that of the interpreter which the virtual environment was made of.
	Prefix     string `json:"prefix"`
	BasePrefix string `json:"base_prefix"`
	// Resolved is Path without symbolic links. In a virtual environment it is the
	// interpreter that the environment was made of.
	Resolved string `json:"resolved"`
}

// Problem says why workers do not run on the interpreter; it is empty where they
// do.
func (i Interpreter) Problem() string {
	switch {
	case i.Implementation != "cpython":
		return "it is " + i.Implementation + ", and workers need CPython"
	case i.Version.Compare(oldest) < 0:
		return fmt.Sprintf("it is Python %v, and workers need %d.%d or newer", i.Version, oldest.Major, oldest.Minor)
	}
	return ""
}

// String names it for people.
func (i Interpreter) String() string { return fmt.Sprintf("Python %v (%s)", i.Version, i.Path) }

// builder is what environments are made with. Older versions cannot make one
// from inside another.
func (i Interpreter) builder() string {
	if i.Virtual {
		return i.Resolved
	}
	return i.Path
}

// pythonOf is the interpreter of a virtual environment.
func pythonOf(dir string) string { return filepath.Join(dir, "bin", "python") }
