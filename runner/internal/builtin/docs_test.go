package builtin

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the tables of the guide again")

const guide = "../../docs/builtin-nodes.md"

// doneTable lists the types that gophersnake has.
func doneTable() string {
	var b strings.Builder
	b.WriteString("| node type | params | input → output | in | what RemoteMedia's does otherwise |\n")
	b.WriteString("| --- | --- | --- | --- | --- |\n")
	for _, each := range All() {
		if each.Refused != "" {
			continue
		}
		name, language, differs := "`"+each.Name+"`", "Go", each.Differs
		if len(each.Aliases) > 0 {
			name += ", also `" + strings.Join(each.Aliases, "`, `") + "`"
		}
		if each.Python != "" {
			language = "Python"
		}
		if differs == "" {
			differs = "–"
		}
		fmt.Fprintf(&b, "| %s | %s | %s → %s | %s | %s |\n", name, paramsCell(each), each.Input, each.Output, language, differs)
	}
	return b.String()
}

func paramsCell(t *Type) string {
	var cells []string
	for _, p := range t.Params {
		text := "`" + p.Name
		if !p.Required {
			text += "=" + p.Repr()
		}
		text += "`"
		if len(p.Choices) > 0 {
			text += " (" + strings.Join(p.Choices, ", ") + ")"
		}
		cells = append(cells, text)
	}
	if len(cells) == 0 {
		return "–"
	}
	return strings.Join(cells, ", ")
}

// refusedTable lists the types that gophersnake does not have, by the reason.
func refusedTable() string {
	names := map[[2]string][]string{}
	for _, each := range All() {
		if each.Refused != "" {
			instead, _, _ := strings.Cut(each.Instead, ": remotemedia.nodes.")
			if instead != each.Instead {
				instead += ": remotemedia.nodes.MODULE:CLASS"
			}
			key := [2]string{each.Refused, instead}
			names[key] = append(names[key], "`"+each.Name+"`")
		}
	}
	keys := slices.SortedFunc(maps.Keys(names), func(a, b [2]string) int { return strings.Compare(names[a][0], names[b][0]) })
	var b strings.Builder
	b.WriteString("| node types | why not | instead |\n| --- | --- | --- |\n")
	for _, key := range keys {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", strings.Join(names[key], ", "), key[0], key[1])
	}
	return b.String()
}

func TestTheGuideListsAllTypes(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(guide)
	require.NoError(t, err)
	document := string(text)
	for name, table := range map[string]string{"done": doneTable(), "refused": refusedTable()} {
		begin, end := "<!-- table "+name+" -->\n", "<!-- end of table "+name+" -->"
		before, rest, ok := strings.Cut(document, begin)
		require.True(t, ok, begin)
		_, after, ok := strings.Cut(rest, end)
		require.True(t, ok, end)
		document = before + begin + "\n" + table + "\n" + end + after
	}
	if *update {
		require.NoError(t, os.WriteFile(guide, []byte(document), 0o644))
		return
	}
	assert.Equal(t, document, string(text), "run go test ./runner/internal/builtin -update")
}
