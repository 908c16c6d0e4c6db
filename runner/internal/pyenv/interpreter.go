package pyenv

import (
	"cmp"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// oldest is the oldest version that the worker runs on.
var oldest = Version{Major: 3, Minor: 10}

// Interpreter is a Python interpreter.
type Interpreter struct {
	// Path is absolute.
	Path    string  `json:"path"`
	Version Version `json:"version"`
	// Source says how it was chosen, such as "--python" or "python3 on PATH".
	Source string `json:"source,omitempty"`
	// Implementation is, for instance, "cpython".
	Implementation string `json:"implementation"`
	// Platform is the platform that it was built for, such as "linux-x86_64".
	Platform string `json:"platform"`
	// ABI differs between builds that need different compiled packages.
	ABI string `json:"abi,omitempty"`
	// Virtual says that it belongs to a virtual environment.
	Virtual bool `json:"virtual,omitempty"`
	// Prefix is the folder that it is installed in. BasePrefix is the same, or for a
	// virtual environment the folder of the interpreter that it was created with.
	Prefix     string `json:"prefix"`
	BasePrefix string `json:"base_prefix"`
	// Resolved is Path without symbolic links. For a virtual environment it is the
	// interpreter that the environment was created with.
	Resolved string `json:"resolved"`
}

// Problem says why workers cannot run on the interpreter; it is empty if they can.
func (i Interpreter) Problem() string {
	switch {
	case i.Implementation != "cpython":
		return "it is " + i.Implementation + ", but workers need CPython"
	case i.Version.Compare(oldest) < 0:
		return fmt.Sprintf("it is Python %v, but workers need %d.%d or newer", i.Version, oldest.Major, oldest.Minor)
	}
	return ""
}

// String returns the version and the path.
func (i Interpreter) String() string { return fmt.Sprintf("Python %v (%s)", i.Version, i.Path) }

// builder returns the path of the interpreter to create environments with. Older
// versions of Python cannot create one from inside another.
func (i Interpreter) builder() string {
	if i.Virtual {
		return i.Resolved
	}
	return i.Path
}

// pythonOf returns the path of a virtual environment's interpreter.
func pythonOf(dir string) string { return filepath.Join(dir, "bin", "python") }

// Version is the version of an interpreter.
type Version struct {
	Major, Minor, Micro int
	// Pre is the pre-release suffix, such as "rc1"; empty for a release.
	Pre string
}

// String returns the version in the form "3.11.7".
func (v Version) String() string {
	return fmt.Sprintf("%d.%d.%d%s", v.Major, v.Minor, v.Micro, v.Pre)
}

// Compare returns a negative number if v is older than w, a positive one if it is newer,
// and 0 otherwise. It ignores Pre.
func (v Version) Compare(w Version) int {
	return cmp.Or(cmp.Compare(v.Major, w.Major), cmp.Compare(v.Minor, w.Minor), cmp.Compare(v.Micro, w.Micro))
}

var versionText = regexp.MustCompile(`^(\d+)\.(\d+)\.(\d+)([a-z]+\d+)?$`)

// MarshalText returns the text of [Version.String].
func (v Version) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText parses the text of [Version.String].
func (v *Version) UnmarshalText(text []byte) error {
	parts := versionText.FindStringSubmatch(string(text))
	if parts == nil {
		return fmt.Errorf("%q is not a version of Python", text)
	}
	v.Major, _ = strconv.Atoi(parts[1])
	v.Minor, _ = strconv.Atoi(parts[2])
	v.Micro, _ = strconv.Atoi(parts[3])
	v.Pre = parts[4]
	return nil
}

// wantedVersion matches a version as users give it: 3, 3.12 or 3.12.1.
var wantedVersion = regexp.MustCompile(`^\d+(\.\d+){0,2}$`)

// matches reports whether the version begins with the wanted one.
func (v Version) matches(wanted string) bool {
	own := strings.Split(v.String(), ".")
	parts := strings.Split(wanted, ".")
	for i, part := range parts {
		if i >= len(own) || own[i] != part {
			return false
		}
	}
	return true
}
