package ipc

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// bounds returns the rows of the tables of the package comment about what a worker sends:
// the bounds by what they are of, such as "error: retry_after".
func bounds(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	row := regexp.MustCompile(`^//\t(\S.*?)  +(\S.*)$`)
	more := regexp.MustCompile(`^//\t  +(\S.*)$`)
	found := map[string]string{}
	last, inTables := "", false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "// # ") {
			inTables = line == "// # Bounds of what a worker says" || line == "// # The trust boundary"
		}
		if m := row.FindStringSubmatch(line); m != nil && inTables {
			if field, bound, ok := strings.Cut(m[2], "  "); ok { // the table of messages has three columns
				m[1], m[2] = m[1]+": "+field, strings.TrimSpace(bound)
			}
			last = m[1]
			found[last] = m[2]
		} else if m := more.FindStringSubmatch(line); m != nil && inTables {
			field, bound, columns := strings.Cut(m[1], "  ")
			if isText := strings.HasSuffix(strings.TrimSpace(last), ","); isText {
				bound = found[last] + " " + strings.TrimSpace(bound)
				delete(found, last)
				last += " " + strings.TrimSpace(field)
				found[last] = strings.TrimSpace(bound)
			} else if columns {
				found[last+" "+field] = bound
			} else {
				found[last] += " " + m[1]
			}
		}
	}
	return found
}

func size(n int) string {
	if n >= 1<<20 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d KiB", n>>10)
}

func TestTheTableOfBoundsHasTheConstants(t *testing.T) {
	table := bounds(t)
	for of, want := range map[string]string{
		"hello: pid":                             "0 to 2²²",
		"hello: package, python, implementation": size(MaxName),
		"description: batch, concurrency":        fmt.Sprintf("0 to %d", MaxAtOnce),
		"description: max_wait":                  fmt.Sprintf("0 to %.0f s", MaxBatchWait.Seconds()),
		"description: params, inputs":            fmt.Sprintf("%d each", MaxParameters),
		"description: doc":                       size(MaxDoc),
		"description: output, schema":            fmt.Sprintf("%s and %d levels each, %s of all", size(MaxSchema), MaxSchemaDepth, size(MaxSchemas)),
		"log: logger":                            "cut at " + size(MaxName),
		"log: message":                           "cut at " + size(MaxMessage),
		"log: fields":                            "left out beyond " + size(maxRecord),
		"progress: message":                      "cut at " + size(MaxText),
		"progress: calls":                        fmt.Sprintf("0 to %d", MaxAtOnce),
		"error: class, relation":                 "cut at " + size(MaxName),
		"error: notes, frames, cause":            fmt.Sprintf("at most %d, %d, %d", maxNotes, maxFrames, maxCauses),
		"error: file, function, source":          "cut at " + size(MaxText),
		"header: magic, version, flags":          fmt.Sprintf("exactly %#x, %d, 0; a result or an error may have the flag %d", magic, Version, hasTime),
		"descriptor: offset, length":             fmt.Sprintf("at least %s. A claim allocates at most %s", size(leastInline), size(maxUpfront)),
		"header: body length":                    "other messages: " + size(maxMessage),
		"segments of a worker":                   fmt.Sprintf("a %dth of half of this process's descriptors, from %d to %d", quotaPart, leastQuota, mostQuota),
		"msgpack: nesting":                       fmt.Sprintf("messages: %d", messageDepth),
		"msgpack: decoded memory":                "messages: " + size(messageMemory),
		"tensor: dimensions, shape":              fmt.Sprintf("%d; ", maxDims),
		"error: cause":                           fmt.Sprintf("%d causes", maxCauses),
	} {
		assert.Contains(t, table[of], want, "the row of %q", of)
	}
	assert.Equal(t, 1<<22, maxPID)
	assert.Equal(t, 4, maxKeptFraction, "a quarter")
	assert.Equal(t, 1<<15, mostSegments, "32,768")
}

// Each number and text that a worker sends in a message has a row.
func TestTheTableOfBoundsHasEachFieldOfTheMessages(t *testing.T) {
	listed := map[string]string{}
	for of := range bounds(t) {
		message, fields, _ := strings.Cut(of, ": ")
		listed[message] += " " + strings.ReplaceAll(fields, ",", " ") + " "
	}
	listed["description"] += listed["ready"]
	for message, kinds := range map[string][]any{
		"hello":       {Hello{}},
		"description": {Description{}},
		"log":         {LogRecord{}},
		"progress":    {Progress{}},
		"error":       {RemoteError{}, Exception{}, TracebackFrame{}},
	} {
		for _, each := range kinds {
			for field := range reflect.TypeOf(each).Fields() {
				if field.Anonymous || field.Type.Kind() == reflect.Bool || field.Type == reflect.TypeFor[*bool]() {
					continue
				}
				name, _, _ := strings.Cut(field.Tag.Get("msgpack"), ",")
				assert.Contains(t, listed[message], " "+name+" ", "the table has no bound of %s in %s messages", name, message)
			}
		}
	}
}
