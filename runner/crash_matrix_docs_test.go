package runner_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// table formats rows as Markdown. It contains nothing that differs from run to run.
func table(names []string, seen []observation) string {
	var b strings.Builder
	b.WriteString("| the node | kind | ended by | Python line | retried | worker | breaker | begun | text of the error |\n")
	b.WriteString("| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n")
	for i, s := range seen {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", names[i], kindCell(s), cell(s.end), code(s.location),
			choice(s.retried, "yes", "no"), choice(s.replaced, "replaced", "kept"), choice(s.counted, "counts", "–"),
			choice(s.notBegun, "no", "yes"), quoted(s))
	}
	return b.String()
}

func kindCell(s observation) string {
	if s.succeeds {
		return "–"
	}
	return fmt.Sprintf("`%v`", s.kind)
}

func choice(is bool, yes, no string) string {
	if is {
		return yes
	}
	return no
}

func cell(text string) string {
	if text == "" {
		return "–"
	}
	return strings.NewReplacer("|", `\|`, "\n", " ").Replace(text)
}

func code(text string) string {
	if text == "" {
		return "–"
	}
	return "`" + text + "`"
}

// mostQuoted is the greatest length of an error's text in a table.
const mostQuoted = 200

func quoted(s observation) string {
	if s.succeeds {
		return "the result"
	}
	text := []rune(strings.ReplaceAll(cell(s.says), "<", "\\<"))
	if len(text) > mostQuoted {
		return string(text[:mostQuoted]) + "…"
	}
	return string(text)
}

// compareDocs checks that a document contains the tables or, with -update, inserts
// them.
func compareDocs(t *testing.T, docs string, tables []string) {
	t.Helper()
	old, err := os.ReadFile(docs)
	require.NoError(t, err)
	document := string(old)
	for i, text := range tables {
		begin, end := fmt.Sprintf("<!-- table %d -->\n", i+1), fmt.Sprintf("<!-- end of table %d -->", i+1)
		before, rest, found := strings.Cut(document, begin)
		require.True(t, found, begin)
		_, after, found := strings.Cut(rest, end)
		require.True(t, found, end)
		document = before + begin + "\n" + text + "\n" + end + after
	}
	if *update {
		require.NoError(t, os.WriteFile(docs, []byte(document), 0o644))
		return
	}
	assert.Equal(t, string(old), document, "run go test ./runner -run "+t.Name()+" -update")
}
