package arrow

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	arrowipc "github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
)

// tablesOfAllShapes are tables by what is special about them.
func tablesOfAllShapes(t testing.TB) map[string]Table {
	all := everything(t)
	return map[string]Table{
		"every type":       all,
		"no rows":          New(all.Records[0].NewSlice(0, 0)),
		"no batches":       {Schema: all.Schema},
		"no columns":       {Schema: arrow.NewSchema(nil, nil)},
		"sliced":           New(all.Records[0].NewSlice(1, 2)),
		"people":           people(t),
		"of a whole table": FromTable(all.Columns()),
	}
}

func TestATableComesBackAsItWas(t *testing.T) {
	for name, want := range tablesOfAllShapes(t) {
		t.Run(name, func(t *testing.T) {
			encoded, err := Encode(want)
			require.NoError(t, err)
			got, err := Decode(encoded)
			require.NoError(t, err)
			assert.True(t, want.Schema.Equal(got.Schema))
			assert.True(t, got.Schema.Metadata().Equal(want.Schema.Metadata()))
			require.Len(t, got.Records, len(want.Records))
			for i, batch := range want.Records {
				assert.True(t, array.RecordEqual(batch, got.Records[i]), "%v\n%v", batch, got.Records[i])
			}
			assert.Equal(t, want.NumRows(), got.NumRows())
		})
	}
}

func TestAStreamMayLieAtAnyAddress(t *testing.T) {
	want := everything(t)
	stream := streamOf(t, want)
	for shift := range 8 {
		memory := append(make([]byte, shift, shift+len(stream)), stream...)
		got, err := Decode(&ipc.Table{Stream: memory[shift:]})
		require.NoError(t, err)
		assert.True(t, array.RecordEqual(want.Records[0], got.Records[0]))
	}
}

// changed returns the stream of a table in which bytes are replaced.
func changed(t testing.TB, table Table, old, replacement []byte) []byte {
	stream := streamOf(t, table)
	require.Equal(t, 1, bytes.Count(stream, old))
	return bytes.Replace(stream, old, replacement, 1)
}

// int32s returns the bytes of numbers.
func int32s(numbers ...int32) []byte {
	b, _ := binary.Append(nil, binary.LittleEndian, numbers)
	return b
}

// words returns a table of one column of words in a dictionary.
func words(t testing.TB, kind arrow.DataType, json string) Table {
	values, _, err := array.FromJSON(memory.DefaultAllocator, kind, bytes.NewReader([]byte(json)))
	require.NoError(t, err)
	schema := arrow.NewSchema([]arrow.Field{{Name: "words", Type: kind, Nullable: true}}, nil)
	return New(array.NewRecordBatch(schema, []arrow.Array{values}, int64(values.Len())))
}

func TestATableThatIsNotValidIsRefused(t *testing.T) {
	text := words(t, arrow.BinaryTypes.String, `["abc", "def"]`)
	indexed := words(t, category, `["abc", "def", "abc", "def", "abc", "def", "abc", "def"]`)
	deep := arrow.DataType(arrow.PrimitiveTypes.Int8)
	for range maxDepth + 2 {
		deep = arrow.StructOf(arrow.Field{Name: "f", Type: deep})
	}
	indices := []byte{0, 1, 0, 1, 0, 1, 0, 1}
	for _, row := range []struct {
		says   string
		stream []byte
	}{
		{"could not read message schema", nil},
		{"mark of a message", []byte("PAR1, which is no stream")},
		{"ends in the body", streamOf(t, text)[:len(streamOf(t, text))-16]},
		{"bytes follow its end", append(streamOf(t, text), 1)},
		{"beyond its end", append(binary.LittleEndian.AppendUint32([]byte{255, 255, 255, 255}, 8), 255, 255, 255, 0, 0, 0, 0, 0)},
		{"out of bounds", changed(t, text, int32s(0, 3, 6), int32s(0, 3, 7))},
		{"not monotonically", changed(t, text, int32s(0, 3, 6), int32s(0, 5, 3))},
		{"is negative", changed(t, text, int32s(0, 3, 6), int32s(-1, 3, 6))},
		{"not valid utf8", changed(t, text, []byte("abcdef"), []byte("ab\xffdef"))},
		{"the index 2 at row 1, in a dictionary of 2", changed(t, indexed, indices, []byte{0, 2, 0, 1, 0, 1, 0, 1})},
		{"the index -1 at row 0", changed(t, indexed, indices, []byte{255, 1, 0, 1, 0, 1, 0, 1})},
		{"compressed", streamOf(t, text, arrowipc.WithZstd())},
		{"nested deeper", streamOf(t, Table{Schema: arrow.NewSchema([]arrow.Field{{Name: "f", Type: deep}}, nil)})},
	} {
		_, err := Decode(&ipc.Table{Stream: row.stream})
		assert.ErrorContains(t, err, row.says)
	}
	_, err := Decode(nil)
	assert.ErrorContains(t, err, "there is none")
}

func TestADictionaryInSeveralPartsIsRefused(t *testing.T) {
	first := words(t, category, `["a"]`)
	second := words(t, category, `["a", "b"]`)
	stream := streamOf(t, New(first.Records[0], second.Records[0]), arrowipc.WithDictionaryDeltas(true))
	_, err := Decode(&ipc.Table{Stream: stream})
	assert.ErrorContains(t, err, "in several parts")
	replaced := streamOf(t, New(first.Records[0], second.Records[0]))
	got, err := Decode(&ipc.Table{Stream: replaced})
	require.NoError(t, err)
	assert.True(t, array.RecordEqual(second.Records[0], got.Records[1]))
}

func TestASchemaThatRepeatsItsPartsWithoutEndIsRefused(t *testing.T) {
	// Each vector has the same two tables, so that 2 to the power of the depth are named.
	const levels = 40
	var b []byte
	word := func(n uint32) { b = binary.LittleEndian.AppendUint32(b, n) }
	b = append(b, 8, 0, 8, 0, 4, 0, 0, 0) // a vtable of two fields: the first at 4
	for range levels {
		at := len(b)
		word(uint32(at)) // to the vtable
		word(4)          // the vector
		word(2)          // of two
		word(8)          // both are
		word(4)          // the next table
		require.Len(t, b, at+20)
	}
	f := &flat{b: append(b, make([]byte, 16)...)}
	var walk func(at table, depth int)
	steps := 0
	walk = func(at table, depth int) {
		if steps++; depth == levels-1 || steps > 100 {
			return
		}
		first, count := at.vector(0, 4)
		for i := range count {
			walk(at.tableAt(at.follow(first+4*i)), depth+1)
		}
	}
	require.NoError(t, verified(func() { walk(f.tableAt(8), 0) }))
	require.Greater(t, steps, levels, "the fixture repeats its parts")
	f.fields = maxFields
	assert.ErrorContains(t, verified(func() { new(messages).checkField(f.tableAt(8), 0) }), "more than 65536 columns")
}

// Arrow's reader takes what follows a list as its next entry. One in the place of a number of
// buffers made it allocate 96 GiB, which ends the program.
func TestABatchWhoseListsAreTooShortIsRefused(t *testing.T) {
	rare := []struct {
		kind arrow.DataType
		json string
	}{
		{arrow.BinaryTypes.BinaryView, `["eA==", null, ""]`},
		{arrow.ListViewOf(arrow.PrimitiveTypes.Int32), `[[1, 2], null, []]`},
		{arrow.LargeListViewOf(arrow.PrimitiveTypes.Int32), `[[1, 2], null, []]`},
		{arrow.RunEndEncodedOf(arrow.PrimitiveTypes.Int32, arrow.BinaryTypes.String), `["a", "a", "b"]`},
		{arrow.SparseUnionOf([]arrow.Field{{Name: "a", Type: arrow.PrimitiveTypes.Int64}, {Name: "b", Type: arrow.BinaryTypes.StringView}}, []arrow.UnionTypeCode{5, 7}), `[[5, 1], [7, "x"], [5, 2]]`},
		{arrow.DenseUnionOf([]arrow.Field{{Name: "a", Type: arrow.PrimitiveTypes.Int64}, {Name: "b", Type: arrow.BinaryTypes.StringView}}, []arrow.UnionTypeCode{5, 7}), `[[5, 1], [7, "x"], [5, 2]]`},
	}
	const lengths, buffers, counts = 1, 2, 4
	shortened := map[int]int{}
	for _, column := range append(rare, columns...) {
		stream := streamOf(t, words(t, column.kind, column.json))
		_, err := Decode(&ipc.Table{Stream: stream})
		require.NoError(t, err, "%s", column.kind)
		for _, list := range []int{lengths, buffers, counts} {
			for _, at := range listsOf(stream, list) {
				short := bytes.Clone(stream)
				count := binary.LittleEndian.Uint32(short[at:])
				binary.LittleEndian.PutUint32(short[at:], count-1)
				_, err := Decode(&ipc.Table{Stream: short})
				assert.ErrorContains(t, err, fmt.Sprintf("instead of %d", count), "%s, list %d", column.kind, list)
				shortened[list]++
			}
		}
	}
	assert.Greater(t, shortened[lengths], len(columns))
	assert.Greater(t, shortened[buffers], len(columns))
	assert.GreaterOrEqual(t, shortened[counts], 3)
}

// listsOf returns the positions of the lengths of a list that is a field of each batch of a
// stream, dictionaries included. Those that are empty are left out.
func listsOf(stream []byte, field int) (positions []int) {
	m := messages{rest: stream}
	for {
		before := len(stream) - len(m.rest) + 8
		if m.next() == nil {
			return positions
		}
		message := (&flat{b: stream[before:][:binary.LittleEndian.Uint32(stream[before-4:])]}).root()
		header, _ := message.inner(2)
		switch message.scalar(1, 1) {
		case kindDictionary:
			header, _ = header.inner(1)
		case kindSchema:
			continue
		}
		if first, count := header.vector(field, 1); count > 0 {
			positions = append(positions, before+first-4)
		}
	}
}

// touch reads all values of a table.
func touch(table Table) int {
	size := 0
	for _, batch := range table.Records {
		for _, column := range batch.Columns() {
			for row := range column.Len() {
				size += len(column.ValueStr(row))
			}
		}
		text, _ := batch.MarshalJSON()
		size += len(text)
	}
	return size
}

func TestNoDamageOfOneByteDoesHarm(t *testing.T) {
	stream := streamOf(t, everything(t))
	refused := 0
	for at := range stream {
		for _, damage := range []byte{1, 0x80, 0xff} {
			damaged := bytes.Clone(stream)
			damaged[at] ^= damage
			table, err := Decode(&ipc.Table{Stream: damaged})
			if err != nil {
				refused++
				continue
			}
			assert.NotPanics(t, func() { touch(table) }, "byte %d ^ %#x", at, damage)
		}
	}
	assert.Greater(t, refused, len(stream)/2, "most of the damage is noticed")
}

// FuzzDecode holds that what was decoded can be read, however a stream was damaged, and that
// it can be written again.
func FuzzDecode(f *testing.F) {
	for _, table := range tablesOfAllShapes(f) {
		f.Add(streamOf(f, table), uint32(0), uint64(0))
	}
	for i := range columns {
		one := words(f, columns[i].kind, columns[i].json)
		for at := range uint32(40) {
			f.Add(streamOf(f, one), at*31, uint64(1)<<(at%64))
		}
	}
	f.Fuzz(func(t *testing.T, stream []byte, at uint32, damage uint64) {
		stream = bytes.Clone(stream)
		if len(stream) >= 8 {
			place := stream[int(at)%(len(stream)-7):]
			binary.LittleEndian.PutUint64(place, binary.LittleEndian.Uint64(place)^damage)
		}
		table, err := Decode(&ipc.Table{Stream: stream})
		if err != nil {
			return
		}
		if table.NumRows() < 1<<16 { // a column of nulls has any number without data
			touch(table)
		}
		if _, err := Encode(table); err != nil {
			t.Logf("it is not written again: %v", err)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	for _, rows := range []int{1000, 1_000_000} {
		b.Run(fmt.Sprint(rows), func(b *testing.B) {
			builder := array.NewInt64Builder(memory.DefaultAllocator)
			texts := array.NewStringBuilder(memory.DefaultAllocator)
			for i := range rows {
				builder.Append(int64(i))
				texts.Append("some text")
			}
			schema := arrow.NewSchema([]arrow.Field{
				{Name: "number", Type: arrow.PrimitiveTypes.Int64},
				{Name: "text", Type: arrow.BinaryTypes.String},
			}, nil)
			batch := array.NewRecordBatch(schema, []arrow.Array{builder.NewArray(), texts.NewArray()}, int64(rows))
			encoded, err := Encode(New(batch))
			require.NoError(b, err)
			b.SetBytes(int64(len(encoded.Stream)))
			for b.Loop() {
				_, err := Decode(encoded)
				require.NoError(b, err)
			}
		})
	}
}
