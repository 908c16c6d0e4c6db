package arrow_test

import (
	"context"
	"fmt"
	"log"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/gophersnake/gophersnake/runner"
	gsarrow "github.com/gophersnake/gophersnake/runner/arrow"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// A node in Go takes the place of one in Python, which would get a pyarrow.Table.
func Example() {
	ctx := context.Background()
	p, err := manifest.Parse("pipeline.yaml", []byte("version: v1\nnodes: [{id: same, node_type: same}]"), ".")
	if err != nil {
		log.Fatal(err)
	}
	same := func(_ context.Context, in runner.Input) (any, error) { return in.Value, nil }
	r, err := runner.New(p, runner.WithNode("same", same))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = r.Close(ctx) }()

	schema := arrow.NewSchema([]arrow.Field{{Name: "price", Type: arrow.PrimitiveTypes.Float64}}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	b.Field(0).(*array.Float64Builder).AppendValues([]float64{2.5, 4}, nil)

	table, err := runner.Call[gsarrow.Table, gsarrow.Table](ctx, r, gsarrow.New(b.NewRecordBatch()))
	if err != nil {
		fmt.Println(err)
	}
	for _, batch := range table.Records {
		fmt.Println(batch.Column(0).(*array.Float64).Value(1))
	}
	// Output: 4
}
