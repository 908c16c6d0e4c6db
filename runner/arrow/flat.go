package arrow

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"
)

// Arrow's metadata is encoded as FlatBuffers, whose Go implementation follows any offset, and
// has no verifier. These bounds and the checks of this file are one: afterwards each offset,
// vector and string that a reader of the schema follows lies inside of the metadata, and
// parts that are named many times are not repeated without end.
const (
	maxFields = 1 << 16  // the fields of a schema, nested ones included
	maxDepth  = 60       // the levels of a nested type; Arrow for Go reads 64
	maxText   = 16 << 20 // the bytes of all names and notes of a schema, as often as it names them
	maxPairs  = 1 << 16  // the notes of a schema
)

// invalid is a fault of the metadata. The checks panic with it, and [verified] returns it.
type invalid string

func (i invalid) Error() string { return string(i) }

func refuse(format string, args ...any) { panic(invalid(fmt.Sprintf(format, args...))) }

// verified returns the fault that a check found.
func verified(check func()) (err error) {
	defer func() {
		if found := recover(); found != nil {
			fault, ok := found.(invalid)
			if !ok {
				panic(found)
			}
			err = fault
		}
	}()
	check()
	return nil
}

// flat is the metadata of one message, and what of it was counted so far.
type flat struct {
	b                   []byte
	fields, text, pairs int
}

// number returns the little-endian number of some bytes at an offset.
func (f *flat) number(at, size int) uint64 {
	if at < 0 || at > len(f.b)-size {
		refuse("its metadata refers beyond its end")
	}
	switch size {
	case 1:
		return uint64(f.b[at])
	case 2:
		return uint64(binary.LittleEndian.Uint16(f.b[at:]))
	case 4:
		return uint64(binary.LittleEndian.Uint32(f.b[at:]))
	default:
		return binary.LittleEndian.Uint64(f.b[at:])
	}
}

// follow returns the position to which the offset at a position leads.
func (f *flat) follow(at int) int {
	to := at + int(f.number(at, 4))
	if to > len(f.b)-4 {
		refuse("its metadata refers beyond its end")
	}
	return to
}

// table is a table in the metadata, at a position, with the place of its vtable and the number
// of its fields.
type table struct {
	*flat
	at, fieldsAt, count int
}

// root returns the table that the metadata begins with.
func (f *flat) root() table { return f.tableAt(f.follow(0)) }

func (f *flat) tableAt(at int) table {
	vtable := at - int(int32(f.number(at, 4)))
	t := table{flat: f, at: at, fieldsAt: vtable + 4}
	length := int(f.number(vtable, 2))
	if length < 4 || length%2 != 0 || vtable > len(f.b)-length {
		refuse("its metadata has a table beyond its end")
	}
	t.count = (length - 4) / 2
	return t
}

// place returns the position of a field of so many bytes, 0 if the table lacks it. The size of
// the table in its vtable does not bound it: builders share vtables between tables that differ
// in nothing else.
func (t table) place(field, size int) int {
	if field >= t.count {
		return 0
	}
	offset := int(t.number(t.fieldsAt+2*field, 2))
	if offset == 0 {
		return 0
	}
	if t.at+offset > len(t.b)-size {
		refuse("its metadata has a field beyond its end")
	}
	return t.at + offset
}

// scalar returns a number, 0 if the table lacks it.
func (t table) scalar(field, size int) uint64 {
	if at := t.place(field, size); at != 0 {
		return t.number(at, size)
	}
	return 0
}

// inner returns a table that a field refers to.
func (t table) inner(field int) (table, bool) {
	at := t.place(field, 4)
	if at == 0 {
		return table{}, false
	}
	return t.tableAt(t.follow(at)), true
}

// vector returns the position of the first item of a vector, and how many it has.
func (t table) vector(field, size int) (first, count int) {
	at := t.place(field, 4)
	if at == 0 {
		return 0, 0
	}
	at = t.follow(at)
	count = int(t.number(at, 4))
	if first = at + 4; count > (len(t.b)-first)/size {
		refuse("its metadata has a vector of %d items beyond its end", count)
	}
	return first, count
}

// string checks a text, if the table has it.
func (t table) string(field int) {
	first, count := t.vector(field, 1)
	if t.text += count; t.text > maxText {
		refuse("the names of its columns take more than %d bytes", maxText)
	}
	if !utf8.Valid(t.b[first : first+count]) {
		refuse("a name in its schema is not UTF-8")
	}
}

// notes checks a vector of keys and values.
func (t table) notes(field int) {
	first, count := t.vector(field, 4)
	if t.pairs += count; t.pairs > maxPairs {
		refuse("its schema has more than %d notes", maxPairs)
	}
	for i := range count {
		pair := t.tableAt(t.follow(first + 4*i))
		pair.string(0)
		pair.string(1)
	}
}
