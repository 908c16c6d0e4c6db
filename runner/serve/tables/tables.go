// Package tables lets package serve read and write CSV, Parquet and Arrow files. It is a
// package of its own, since those files need Apache Arrow for Go.
//
//	handler := serve.Handler(runners, serve.WithFormats(tables.Formats()...))
package tables

import (
	"bytes"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/arrow"
	"github.com/gophersnake/gophersnake/runner/arrow/tablefile"
	"github.com/gophersnake/gophersnake/runner/serve"
)

// Formats returns the formats of tables: text/csv, text/tab-separated-values,
// application/vnd.apache.parquet and application/vnd.apache.arrow.file. Parquet and Arrow files
// are recognized without a content type, too.
func Formats() []serve.Format {
	return []serve.Format{
		format(tablefile.CSV, "text/csv"),
		format(tablefile.TSV, "text/tab-separated-values"),
		format(tablefile.Parquet, "application/vnd.apache.parquet", "application/x-parquet"),
		format(tablefile.Arrow, "application/vnd.apache.arrow.file"),
	}
}

func format(f tablefile.Format, contentTypes ...string) serve.Format {
	return serve.Format{
		ContentTypes: contentTypes,
		Decode: func(body []byte) (any, error) {
			table, err := tablefile.Decode(body, f)
			if err != nil {
				return nil, err
			}
			return table, nil
		},
		Detect: func(body []byte) bool {
			found, ok := tablefile.Detect(body)
			return ok && found == f
		},
		Encode: func(v any) ([]byte, bool, error) {
			table, ok := v.(*ipc.Table)
			if !ok {
				return nil, false, nil
			}
			body, err := encode(table, f)
			return body, true, err
		},
	}
}

// encode writes a table as a file.
func encode(table *ipc.Table, f tablefile.Format) ([]byte, error) {
	decoded, err := arrow.Decode(table)
	var out bytes.Buffer
	if err == nil {
		err = tablefile.Encode(&out, decoded, f)
	}
	if err != nil {
		return nil, runner.Wrap(err, runner.KindSerialization, "write the result")
	}
	return out.Bytes(), nil
}
