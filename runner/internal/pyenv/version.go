package pyenv

import (
	"cmp"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Version is the version of an interpreter.
type Version struct {
	Major, Minor, Micro int
	// Pre is empty for a release, else such as "rc1".
	Pre string
}

// String is such as "3.11.7".
func (v Version) String() string {
	return fmt.Sprintf("%d.%d.%d%s", v.Major, v.Minor, v.Micro, v.Pre)
}

// Compare is negative where v is older than w. It leaves Pre aside.
func (v Version) Compare(w Version) int {
	return cmp.Or(cmp.Compare(v.Major, w.Major), cmp.Compare(v.Minor, w.Minor), cmp.Compare(v.Micro, w.Micro))
}

var versionText = regexp.MustCompile(`^(\d+)\.(\d+)\.(\d+)([a-z]+\d+)?$`)

// MarshalText writes what [Version.String] does.
func (v Version) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads what [Version.String] writes.
func (v *Version) UnmarshalText(text []byte) error {
	parts := versionText.FindStringSubmatch(string(text))
	if parts == nil {
		return fmt.Errorf("%q is no version of Python", text)
	}
	v.Major, _ = strconv.Atoi(parts[1])
	v.Minor, _ = strconv.Atoi(parts[2])
	v.Micro, _ = strconv.Atoi(parts[3])
	v.Pre = parts[4]
	return nil
}

// wantedVersion is a version as people name it: 3, 3.12 or 3.12.1.
var wantedVersion = regexp.MustCompile(`^\d+(\.\d+){0,2}$`)

// matches reports whether the version is one that was asked for.
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
