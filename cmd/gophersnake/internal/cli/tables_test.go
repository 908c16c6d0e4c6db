package cli

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/fixtures"
	"github.com/gophersnake/gophersnake/runner/arrow/tablefile"
)

// tableNodes take and return tables of each of the libraries.
const tableNodes = `
import datetime
import pandas
import polars
import pyarrow
from gophersnake import node

@node
def made(rows: int) -> pandas.DataFrame:
    index = pandas.Index([f"r{i}" for i in range(rows)], name="key")
    return pandas.DataFrame({
        "city": pandas.Categorical([("Bern", "Chur")[i % 2] for i in range(rows)]),
        "price": [i / 2 if i else None for i in range(rows)],
        "count": pandas.array([i if i else None for i in range(rows)], dtype="Int64"),
        "at": pandas.Timestamp("2024-05-01 12:30", tz="Europe/Berlin"),
    }, index=index)

@node
def doubled(table: polars.DataFrame) -> polars.DataFrame:
    return table.with_columns(polars.col("price") * 2)

@node
def types(table: pyarrow.Table) -> list:
    table.validate(full=True)
    return [f"{field.name} {field.type}" for field in table.schema]

@node
def frame(table: pandas.DataFrame) -> str:
    return f"{table.index.name} {dict(table.dtypes.astype(str))} {[str(v) for v in table.iloc[0]]} {[str(v) for v in table.iloc[1]]}"

@node
def same(table):
    return table
`

// tablePipeline writes a pipeline of one of these nodes and returns its path.
func tablePipeline(t *testing.T, node string) string {
	t.Helper()
	path := fixtures.Pipeline(t, "requirements: [numpy==2.2.6, pandas==2.3.3, polars==1.35.2, pyarrow==22.0.0]\nnodes: [{id: n, node_type: "+node+", retry: none}]")
	require.NoError(t, os.WriteFile(strings.Replace(path, "pipeline.yaml", "nodes.py", 1), []byte(tableNodes), 0o600))
	return path
}

func TestATableGoesThroughFilesOfEachFormat(t *testing.T) {
	made, doubled, types, frame := tablePipeline(t, "made"), tablePipeline(t, "doubled"), tablePipeline(t, "types"), tablePipeline(t, "frame")
	t.Chdir(t.TempDir())
	succeed(t, "run", made, "3", "-o", "a.parquet")
	assert.Equal(t, `["city dictionary<values=string, indices=int8, ordered=0>","price double","count int64","at timestamp[s, tz=Europe/Berlin]","key string"]`,
		strings.NewReplacer("\n", "", "  ", "").Replace(strings.TrimSpace(succeed(t, "run", types, "a.parquet", "-o", "json"))))
	want := "key {'city': 'category', 'price': 'float64', 'count': 'Int64', 'at': 'datetime64[s, Europe/Berlin]'} " +
		"['Bern', 'nan', '<NA>', '2024-05-01 12:30:00+02:00'] ['Chur', '0.5', '1', '2024-05-01 12:30:00+02:00']\n"
	assert.Equal(t, want, succeed(t, "run", frame, "a.parquet", "-o", "pretty"), "as pandas has made it")

	succeed(t, "run", doubled, "a.parquet", "-o", "b.arrow")
	succeed(t, "run", doubled, "b.arrow", "-o", "c.csv")
	content, err := os.ReadFile("c.csv")
	require.NoError(t, err)
	assert.Equal(t, "city,price,count,at,key\nBern,,,2024-05-01 12:30:00+02:00,r0\nChur,2.0,1,2024-05-01 12:30:00+02:00,r1\nBern,4.0,2,2024-05-01 12:30:00+02:00,r2\n", string(content))
	assert.Equal(t, "city  price    count  at                    key\n"+
		"text  float64  int64  time, UTC             text\n"+
		"Bern  null     null   2024-05-01T10:30:00Z  r0\n"+
		"Chur  4        1      2024-05-01T10:30:00Z  r1\n"+
		"Bern  8        2      2024-05-01T10:30:00Z  r2\n3 rows × 5 columns\n",
		succeed(t, "run", doubled, "c.csv", "-o", "pretty"))
	assert.Equal(t, `{"input":"c.csv","result":[{"city":"Bern","price":null,"count":null,"at":"2024-05-01T10:30:00Z","key":"r0"},`+
		`{"city":"Chur","price":4,"count":1,"at":"2024-05-01T10:30:00Z","key":"r1"},{"city":"Bern","price":8,"count":2,"at":"2024-05-01T10:30:00Z","key":"r2"}]}`+"\n",
		succeed(t, "run", doubled, "c.csv", "-o", "jsonl"))
}

func TestATableComesFromStandardInput(t *testing.T) {
	same := tablePipeline(t, "same")
	const text = "a,b\n1,x\n"
	want := result{0, `{"input":"table:-","result":[{"a":1,"b":"x"}]}` + "\n", ""}
	got := commandWithInput(t, text, "run", same, "table:-", "-o", "jsonl")
	got.out = strings.Replace(got.out, `"input":"-"`, `"input":"table:-"`, 1)
	assert.Equal(t, want, got)
	table, err := tablefile.Decode([]byte(text), tablefile.CSV)
	require.NoError(t, err)
	var file strings.Builder
	require.NoError(t, tablefile.Encode(&file, table, tablefile.Parquet))
	got = commandWithInput(t, file.String(), "run", same, "-", "-o", "jsonl")
	assert.Equal(t, `{"input":"-","result":[{"a":1,"b":"x"}]}`+"\n", got.out)
}

func TestAFileOfATableThatIsNotValidIsAnErrorOfItsInput(t *testing.T) {
	same := tablePipeline(t, "same")
	fixtures.Chdir(t, map[string]string{"empty.csv": "", "cut.parquet": "PAR1\x15\x04", "csv.parquet": "a,b\n1,2\n", "good.csv": "a\n1\n"})
	for name, want := range map[string]string{
		"empty.csv":   "cannot read empty.csv: CSV: the file is empty",
		"cut.parquet": "cannot read cut.parquet: Parquet: not a valid Parquet file: it is truncated",
		"csv.parquet": "hint: check the extension of the file; if it is text with separators, it is .csv or .tsv; to hand over the file as it is: 'path:csv.parquet'",
	} {
		got := command(t, "run", same, name, "-o", "pretty")
		assert.Equal(t, 9, got.code, name)
		assert.Contains(t, got.err, want)
	}
	got := command(t, "run", same, "empty.csv", "good.csv", "-o", "jsonl")
	assert.Equal(t, 9, got.code)
	assert.Contains(t, got.out, `{"input":"good.csv","result":[{"a":1}]}`)

	got = command(t, "run", same, "text", "-o", "out.csv")
	assert.Equal(t, 9, got.code)
	assert.Contains(t, got.err, "out.csv cannot hold the result: it is text, not a table")
	assert.NoFileExists(t, "out.csv")
	got = command(t, "run", same, "good.csv", "good.csv", "-o", "out.csv")
	assert.Equal(t, 2, got.code)
	assert.Contains(t, got.err, "--output out.csv holds one table, but there are several inputs")
}
