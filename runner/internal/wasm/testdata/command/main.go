// The command gets a JSON string that says what it does. It imports little, so that it
// compiles fast.
package main

import (
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

func main() {
	input, err := io.ReadAll(os.Stdin)
	if err != nil {
		os.Exit(3)
	}
	switch way := strings.Trim(string(input), "\"\n"); way {
	case "look":
		os.Stdout.WriteString("{" + strings.Join(look(), ", ") + "}\n")
	case "sleep":
		time.Sleep(time.Hour)
	case "memory":
		var kept [][]byte
		for {
			kept = append(kept, make([]byte, 1<<20))
		}
	default:
		fail(way)
	}
}

// look returns the members of an object with what WASI shows of the surroundings.
func look() []string {
	_, file := os.ReadFile("/etc/hostname")
	_, folder := os.ReadDir("/")
	began := time.Now()
	time.Sleep(time.Millisecond)
	return []string{
		`"args": ` + strconv.Itoa(len(os.Args)),
		`"env": ` + strconv.Itoa(len(os.Environ())),
		`"file": ` + strconv.FormatBool(file == nil),
		`"folder": ` + strconv.FormatBool(folder == nil),
		`"year": ` + strconv.FormatBool(began.Year() > 2020),
		`"slept": ` + strconv.FormatBool(time.Since(began) >= time.Millisecond),
	}
}

//go:noinline
func fail(way string) { panic("a " + way + " in the command") }
