package manifest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzParse checks that no text makes the parser panic, that every problem has a
// position in the text, and that an accepted pipeline is valid and can be ordered.
func FuzzParse(f *testing.F) {
	for _, folder := range []string{"valid", "refused", "meaning"} {
		files, err := filepath.Glob(filepath.Join("testdata", folder, "*.*"))
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range files {
			if data, err := os.ReadFile(file); err == nil { // not the folder
				f.Add(data, strings.HasSuffix(file, ".json"))
			}
		}
	}
	f.Add([]byte("version: v1\nmetadata: {a: &a [*a, *a]}\n"), false)
	f.Add([]byte("&a\n<<: *a\nnodes: &b [*b]\n"), false)
	f.Fuzz(func(t *testing.T, data []byte, json bool) {
		name := "p.yaml"
		if json {
			name = "p.json"
		}
		p, err := Parse(name, data, "testdata/valid")
		if err == nil {
			if err := p.Validate(); err != nil {
				t.Fatalf("it was accepted, but is not valid: %v", err)
			}
			if got := len(p.Order()); got != len(p.Nodes) {
				t.Fatalf("%d of %d nodes in order", got, len(p.Nodes))
			}
			return
		}
		var problems *Errors
		if !errors.As(err, &problems) || len(problems.Problems) == 0 {
			t.Fatalf("not a list of problems: %v", err)
		}
		if p != nil {
			t.Fatal("a pipeline in addition to an error")
		}
		for _, problem := range problems.Problems {
			if problem.Line < 1 || problem.Column < 1 || problem.Line > strings.Count(string(data), "\n")+strings.Count(string(data), "\r")+
				strings.Count(string(data), "\u0085")+strings.Count(string(data), "\u2028")+strings.Count(string(data), "\u2029")+2 {
				t.Fatalf("%v is not in the text", problem)
			}
			if problem.Message == "" || utf8.Valid(data) && !utf8.ValidString(problem.String()) {
				t.Fatalf("%q cannot be read", problem.String())
			}
		}
	})
}
