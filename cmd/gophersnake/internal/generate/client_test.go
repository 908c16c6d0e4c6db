package generate

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"go/types"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// stubs are the packages that a generated file imports, as far as it uses them: the type
// checker would take seconds to read the real ones. The tests of the examples compile clients
// with those.
var stubs = map[string]string{
	"context": `package context; type Context interface{ Done() <-chan struct{} }`,
	"time":    `package time; type Time struct{ wall uint64 }`,
	"github.com/gophersnake/gophersnake/ipc": `package ipc
		type Tensor struct{}; type Audio struct{}; type Image struct{}; type Table struct{}; type JSON []byte`,
	"github.com/gophersnake/gophersnake/runner": `package runner
		import "context"
		type Runner struct{}
		type StreamOption func()
		type TypedStream[In, Out any] struct{}
		type Handle[In, Out any] struct{}
		func (h *Handle[In, Out]) Call(ctx context.Context, in In) (out Out, err error) { return }
		type StreamHandle[In, Out any] struct{}
		func (h *StreamHandle[In, Out]) Open(ctx context.Context, opts ...StreamOption) (s *TypedStream[In, Out], err error) { return }
		func Bind[In, Out any](ctx context.Context, r *Runner) (h *Handle[In, Out], err error) { return }
		func BindNode[In, Out any](ctx context.Context, r *Runner, id string) (h *Handle[In, Out], err error) { return }
		func BindStream[In, Out any](ctx context.Context, r *Runner) (h *StreamHandle[In, Out], err error) { return }`,
}

// stubImporter imports the stubs.
type stubImporter struct {
	fset  *token.FileSet
	known map[string]*types.Package
}

// imported has the stubs that tests have imported. They run one after the other.
var imported = stubImporter{token.NewFileSet(), make(map[string]*types.Package)}

// Import implements [types.Importer].
func (s stubImporter) Import(path string) (*types.Package, error) {
	if known := s.known[path]; known != nil {
		return known, nil
	}
	text, ok := stubs[path]
	if !ok {
		return nil, fmt.Errorf("there is no stub of %s", path)
	}
	file, err := parser.ParseFile(s.fset, path+".go", text, 0)
	if err != nil {
		return nil, err
	}
	made, err := (&types.Config{Importer: s}).Check(path, s.fset, []*ast.File{file}, nil)
	s.known[path] = made
	return made, err
}

// requireCompiles checks that a file is formatted and compiles.
func requireCompiles(t *testing.T, source []byte) {
	t.Helper()
	formatted, err := format.Source(source)
	require.NoError(t, err, "%s", source)
	require.Equal(t, string(formatted), string(source))
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, "client.go", source, parser.ParseComments)
	require.NoError(t, err, "%s", source)
	_, err = (&types.Config{Importer: imported}).Check("client", fset, []*ast.File{file}, nil)
	require.NoError(t, err, "%s", source)
}

// odd are names and texts that are not Go identifiers, or that collide.
var odd = []string{
	"a", "A", "b_c", "bC", "b-c", "type", "func", "Client", "New", "run", "stream", "Result", "int64", "any", "nil", "名前", "größe",
	"ß", "2nd", "", "-", ",", "`", `"`, "\\", "a\nb", "*/", "//go:build x", "ǅ", "id", "ID", "context", "time", "x\x00y", "\ufeff", "\u2028",
}

// schemas makes random schemas.
type schemas struct {
	*rand.Rand

	defs []string
}

func pick[T any](s schemas, all ...T) T { return all[s.IntN(len(all))] }

// document returns a schema with definitions, which may refer to each other.
func (s schemas) document() ipc.Schema {
	s.defs = nil
	for range s.IntN(4) {
		s.defs = append(s.defs, pick(s, odd...))
	}
	root := s.schema(0)
	defs := map[string]any{}
	for _, name := range s.defs {
		defs[name] = s.schema(1)
	}
	root["$defs"] = defs
	text, _ := json.Marshal(root)
	return text
}

func (s schemas) schema(depth int) map[string]any {
	made := s.form(depth)
	if s.IntN(4) == 0 {
		made["description"] = pick(s, odd...)
	}
	if s.IntN(4) == 0 {
		made["default"] = pick[any](s, nil, 1, "x", odd)
	}
	return made
}

// form returns a schema of one of the forms that the Python package writes.
func (s schemas) form(depth int) map[string]any {
	if depth > 4 {
		return map[string]any{"type": "integer"}
	}
	switch s.IntN(14) {
	case 0:
		return map[string]any{}
	case 1:
		return map[string]any{"type": pick(s, "string", "integer", "number", "boolean", "null"), "format": pick(s, "", "date-time", "uuid")}
	case 2:
		return map[string]any{"x-gophersnake": pick(s, "bytes", "audio", "image", "json", "table", "tensor", "other")}
	case 3, 4:
		tensor := map[string]any{"x-gophersnake": "tensor", "x-dtype": pick(s, "uint8", "float16", "complex64", "float64", "x"), "x-shape": pick(s, []any{}, []any{"n", 3}, []any{"..."})}
		if s.IntN(2) == 0 {
			return tensor
		}
		return map[string]any{"anyOf": []any{tensor, map[string]any{"type": "array"}}}
	case 5:
		return map[string]any{"anyOf": []any{s.schema(depth + 1), map[string]any{"type": "null"}}}
	case 6:
		return map[string]any{"anyOf": []any{s.schema(depth + 1), s.schema(depth + 1)}}
	case 7:
		return map[string]any{"title": pick(s, odd...), "enum": pick(s, []any{"a", "A", "", "a-b"}, []any{1, -1}, []any{"a", 1}, []any{"a", nil}, []any{true}, []any{1.5}, []any{})}
	case 8:
		return map[string]any{"type": "array", "items": s.schema(depth + 1)}
	case 9:
		return map[string]any{"type": "array", "prefixItems": []any{s.schema(depth + 1), s.schema(depth + 1)}, "items": false, "minItems": pick(s, 1, 2)}
	case 10:
		return map[string]any{"type": "object", "additionalProperties": pick[any](s, true, false, s.schema(depth+1))}
	case 11:
		if len(s.defs) > 0 {
			return map[string]any{"$ref": "#/$defs/" + pick(s, s.defs...)}
		}
	}
	properties, required := map[string]any{}, []string{}
	for range s.IntN(5) {
		key := pick(s, odd...)
		properties[key] = s.schema(depth + 1)
		if s.IntN(2) == 0 {
			required = append(required, key)
		}
	}
	return map[string]any{"title": pick(s, odd...), "type": "object", "properties": properties, "required": required}
}

// pipeline returns a random pipeline with the descriptions of its nodes. The raw text is one
// of the schemas.
func (s schemas) pipeline(raw, doc string) (*manifest.Pipeline, []ipc.Description) {
	p := &manifest.Pipeline{Version: manifest.Version, Name: doc, Metadata: map[string]any{"description": doc}}
	ids := []string{"a", "A", "b_c", "b-c", "type", "run", "stream", "Client", "2", "_"}
	all := make([]ipc.Description, 1+s.IntN(len(ids)))
	for i := range all {
		p.Nodes = append(p.Nodes, manifest.NewNode(ids[i], "Node"))
		d := ipc.Description{Kind: pick(s, "function", "go"), Doc: pick(s, doc, pick(s, odd...)), Many: s.IntN(4) == 0, Output: s.document()}
		port := ""
		for range s.IntN(3) {
			d.Inputs = append(d.Inputs, ipc.Parameter{Name: "in" + port, Schema: s.document()})
			if i > 0 {
				p.Connections = append(p.Connections, manifest.Connection{From: ids[i-1], To: ids[i], Port: "in" + port})
			}
			port = pick(s, odd...)
		}
		all[i] = d
	}
	all[0].Output = ipc.Schema(raw)
	return p, all
}

func TestAClientForRandomSchemasCompiles(t *testing.T) {
	for seed := range uint64(150) {
		p, all := schemas{Rand: rand.New(rand.NewPCG(seed, 0))}.pipeline("{}", "It returns.")
		source, err := Go(p, all, "client")
		require.NoError(t, err, "seed %d", seed)
		requireCompiles(t, source)
		again, err := Go(p, all, "client")
		require.NoError(t, err)
		require.Equal(t, string(source), string(again))
	}
}

func FuzzGo(f *testing.F) {
	f.Add(uint64(1), `{"type":"object","properties":{"a":{"$ref":"#/$defs/a"}},"$defs":{"a":{"type":"array","items":{"$ref":"#/$defs/a"}}}}`, "Doc.")
	f.Add(uint64(2), `{"$ref":"#/$defs/a","$defs":{"a":{"anyOf":[{"$ref":"#/$defs/a"},{"allOf":[{"$ref":"#/$defs/a"}]}]}}}`, "*/ `` \r\n\x00")
	f.Add(uint64(3), `{"const":null}`, "//go:build ignore")
	f.Add(uint64(4), `{"type":["string","null"],"enum":["x",null]}`, "# A heading\n\n  - a list\n\tcode")
	f.Fuzz(func(t *testing.T, seed uint64, raw, doc string) {
		p, all := schemas{Rand: rand.New(rand.NewPCG(seed, 0))}.pipeline(raw, doc)
		source, err := Go(p, all, "client")
		require.NoError(t, err)
		requireCompiles(t, source)
	})
}

func TestNamesAreExportedGoIdentifiers(t *testing.T) {
	for name, want := range map[string]string{
		"price": "Price", "voice_activity": "VoiceActivity", "content-type": "ContentType", "VoiceActivity": "VoiceActivity", "id": "ID",
		"user_id": "UserID", "url2": "Url2", "class_": "Class", "__init__": "Init", "2nd": "X2nd", "": "X", "größe": "Größe", "名前": "X名前", "_": "X",
	} {
		assert.Equal(t, want, exported(name), name)
	}
	taken := namespace{}
	assert.Equal(t, []string{"A", "A2", "A3", "B1", "B1_2"}, []string{taken.add("A"), taken.add("A"), taken.add("A"), taken.add("B1"), taken.add("B1")})
	for name, want := range map[string]string{"voice-2": "voice2", "Hello": "hello", "2": "client", "type": "client", "": "client", "名": "client"} {
		assert.Equal(t, want, PackageName(name), name)
	}
}
