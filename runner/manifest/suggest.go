package manifest

import (
	"strings"

	"github.com/agnivade/levenshtein"
)

// longestName bounds what is compared: a name this long is no typing mistake,
// and comparing takes the product of both lengths.
const longestName = 64

// nearest returns the name that is likely to be meant by an unknown one, or an
// empty string. Among equally near names it returns the first.
func nearest(name string, known []string) string {
	if name == "" || len(name) > longestName {
		return ""
	}
	best, distance := "", mistakes(name)+1
	for _, k := range known {
		if len(k) > longestName {
			continue
		}
		if d := levenshtein.ComputeDistance(strings.ToLower(name), strings.ToLower(k)); d < distance {
			best, distance = k, d
		}
	}
	if best != "" {
		return best
	}
	for _, k := range known { // type for node_type
		if strings.HasSuffix(k, "_"+name) || strings.HasPrefix(k, name+"_") {
			return k
		}
	}
	return ""
}

// mistakes is how many letters of a name may be wrong: a third, but two letters
// changing places count as two.
func mistakes(name string) int {
	if len(name) < 3 {
		return 1
	}
	return max(2, len(name)/3)
}
